"""Pictures of a report: samples, pictures from outside, and the worst of them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dgan_backend import metrics
from dgan_backend.evaluation import methods
from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.plan import DROP, Run
from dgan_backend.interpreter.ensemble import PixelPrediction
from dgan_backend.pictures import Picture, to_tensor
from dgan_backend.records import Segmentation
from dgan_backend.sheets import segmentation_sheet

SHOWN = 12
_FIRST = 30_000_000  # seed of the samples that are shown


@dataclass(frozen=True)
class Exhibit:
    """title: what is seen. url: of a picture, `data:` and a PNG. of: the run whose network labeled
    it, and the key of all that it depends on."""

    title: str
    url: str
    of: str


def exhibits(bench: Bench, page: Path) -> list[Exhibit]:
    """By the networks in the work folder; where one is gone, what the page showed of it."""
    plan = bench.plan
    student = plan.student(plan.main, 0, bench.scale.synthetic, DROP)
    found = list[Exhibit]()
    for run, look in ((Run("version", plan.main), _samples), (student, _outside)):
        of = bench.path(run).name
        if bench.at_hand(run):
            found += [Exhibit(title, _url(sheet), of) for title, sheet in look(bench, run)]
        elif page.is_file():
            shown = _Shown(page.read_text(encoding="utf-8")).found
            found += [exhibit for exhibit in shown if exhibit.of == of]
    return found


class _Shown(HTMLParser):
    """What a page of ours shows: its `img` with `data-of`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Exhibit] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "img" and "data-of" in told:
            self.found.append(Exhibit(told["alt"], told["src"], told["data-of"]))


def _url(sheet: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _samples(bench: Bench, version: Run) -> list[tuple[str, Picture]]:
    segmenter = bench.segmenter(version)
    made = list(segmenter.segment_seeds(range(_FIRST, _FIRST + SHOWN), side=bench.side))
    told = f"{SHOWN} samples as the interpreter labels them, from {version.labels} labels"
    if not bench.has_judge():
        return [(told, segmentation_sheet(made, bench.data.partonomy))]
    by_judge = list(
        methods.unet_labels(bench.judge(), to_tensor(np.stack([s.image for s in made])))
    )
    sheet = segmentation_sheet(made, bench.data.partonomy, by_judge, "the judge's parts")
    return [(f"{told}, beside the judge", sheet)]


def _outside(bench: Bench, run: Run) -> list[tuple[str, Picture]]:
    """The first of the test pictures, and those with the lowest mIoU, by the student."""
    tree, test = bench.data.partonomy, bench.data.test()
    student = bench.voting(bench.network(run))
    said = [student.predict(image) for image in methods.tensors(test).split(1)]
    found = [_segmentation(p, i) for p, i in zip(said, test.images, strict=True)]
    reached = np.array(
        [
            metrics.mean_iou(metrics.confusion(true, one.labels, tree.num_classes))
            for one, true in zip(found, test.masks, strict=True)
        ]
    )
    worst = np.argsort(reached)[:SHOWN]
    sheets = []
    for title, chosen in (
        (f"The first {SHOWN} test pictures, by the student", np.arange(min(SHOWN, len(found)))),
        (f"The {SHOWN} test pictures with the lowest mIoU, the worst first", worst),
    ):
        shown = [found[n] for n in chosen]
        true = [test.masks[n] for n in chosen]
        sheets.append((title, segmentation_sheet(shown, tree, true)))
    return sheets


def _segmentation(said: PixelPrediction, image: Picture) -> Segmentation:
    labels = said.probabilities.argmax(dim=0).to(torch.uint8).numpy()
    return Segmentation(image, labels, said.uncertainty.float().numpy(), 0.0, said.bound)
