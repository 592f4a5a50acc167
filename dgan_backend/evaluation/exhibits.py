"""Pictures of a report: samples, pictures from outside, and the worst of them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

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
    """title: what is seen. sheet: [H, W, 3] uint8."""

    title: str
    sheet: Picture

    @property
    def url(self) -> str:
        """The sheet as a `data:` URL of a PNG."""
        file = io.BytesIO()
        Image.fromarray(self.sheet).save(file, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def exhibits(bench: Bench) -> list[Exhibit]:
    """Those whose networks lie in the work folder."""
    plan = bench.plan
    student = plan.student(plan.main, 0, bench.scale.synthetic, DROP)
    found = []
    if bench.at_hand(Run("version", plan.main)):
        found.append(_samples(bench, Run("version", plan.main)))
    if bench.at_hand(student):
        found += _outside(bench, student)
    return found


def _samples(bench: Bench, version: Run) -> Exhibit:
    segmenter = bench.segmenter(version)
    made = list(segmenter.segment_seeds(range(_FIRST, _FIRST + SHOWN), side=bench.side))
    told = f"{SHOWN} samples as the interpreter labels them, from {version.labels} labels"
    if not bench.has_judge():
        return Exhibit(told, segmentation_sheet(made, bench.data.partonomy))
    by_judge = list(
        methods.unet_labels(bench.judge(), to_tensor(np.stack([s.image for s in made])))
    )
    sheet = segmentation_sheet(made, bench.data.partonomy, by_judge, "the judge's parts")
    return Exhibit(f"{told}, beside the judge", sheet)


def _outside(bench: Bench, run: Run) -> list[Exhibit]:
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
        sheets.append(Exhibit(title, segmentation_sheet(shown, tree, true)))
    return sheets


def _segmentation(said: PixelPrediction, image: Picture) -> Segmentation:
    labels = said.probabilities.argmax(dim=0).to(torch.uint8).numpy()
    return Segmentation(image, labels, said.uncertainty.float().numpy(), 0.0, said.bound)
