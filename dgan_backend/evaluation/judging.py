"""The runs that judge samples: a network stands in for the person who would label them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend import metrics
from dgan_backend.evaluation import methods
from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.calibration import Guesses, calibrated
from dgan_backend.evaluation.measurement import by_version
from dgan_backend.evaluation.plan import Run
from dgan_backend.interpreter import Ensemble
from dgan_backend.labeled import LabeledPictures
from dgan_backend.reading import images_and_maps
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter

_FIRST = 20_000_000  # seed of the samples; students learn from none of them


def calibration(bench: Bench, run: Run) -> dict[str, Any]:
    """Whether a version's uncertainty knows, on samples, on samples with its student's second
    opinion where it has one, and on the test pictures."""
    outcome, segmenter = by_version(bench, run)
    assert outcome.uncertainty is not None
    classes, judge = bench.data.partonomy.num_classes, bench.judge()
    made = _samples(bench, segmenter)
    images = _tensors(made)
    by_judge = methods.unet_labels(judge, images)
    found = {"samples": calibrated(_guesses(by_judge, made, classes))}
    if segmenter.student is not None:
        segmenter.ask_student()
        second = _samples(bench, segmenter)
        found["second_opinion"] = calibrated(_guesses(by_judge, second, classes))
    true = bench.true()
    outside = Guesses(true, outcome.labels, outcome.uncertainty, classes)
    judged = methods.unet_labels(judge, methods.tensors(bench.data.test()))
    return {
        **found,
        "outside": calibrated(outside),
        "judge_miou": metrics.mean_iou(metrics.confusion(true, judged, classes)),
    }


def _guesses(true: npt.NDArray[np.uint8], made: Sequence[Segmentation], classes: int) -> Guesses:
    labels, uncertainty = [s.labels for s in made], [s.uncertainty for s in made]
    return Guesses(true, np.stack(labels), np.stack(uncertainty), classes)


def ensemble(bench: Bench, run: Run) -> dict[str, Any]:
    """The interpreter with fewer members, by majority and by mean probability."""
    segmenter, classes = bench.segmenter(run), bench.data.partonomy.num_classes
    true = methods.unet_labels(bench.judge(), _tensors(_samples(bench, segmenter)))
    sizes = [m for m in bench.scale.members if m <= segmenter.ensemble.members]
    rows = []
    for size in sizes:
        found = _labeled_by(segmenter, _first_members(segmenter.ensemble, size), bench)
        vote, mean, uncertainty = (np.stack(part) for part in zip(*found, strict=True))
        auroc = Guesses(true, vote, uncertainty, classes).auroc() if size > 1 else None
        rows.append(
            {
                "members": size,
                "vote": metrics.mean_iou(metrics.confusion(true, vote, classes)),
                "mean": metrics.mean_iou(metrics.confusion(true, mean, classes)),
                "auroc": auroc,
            }
        )
    return {"rows": rows, "pictures": len(true)}


def _samples(bench: Bench, segmenter: Segmenter) -> list[Segmentation]:
    seeds = range(_FIRST, _FIRST + bench.scale.judged)
    return list(segmenter.segment_seeds(seeds, side=bench.side))


def _tensors(made: Sequence[Segmentation]) -> Tensor:
    return methods.tensors(LabeledPictures([""] * len(made), [s.image for s in made], []))


@torch.inference_mode()
def _labeled_by(
    segmenter: Segmenter, ensemble: Ensemble, bench: Bench
) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """Vote, label of the largest mean probability, and uncertainty of each judged sample."""
    generator, side = segmenter.generator, bench.side
    found = []
    for seed in range(_FIRST, _FIRST + bench.scale.judged):
        z = generator.latent_from_seed(seed)
        w = generator.mapping(z, truncation=segmenter.truncation)
        _, maps = images_and_maps(generator, w, segmenter.card.maps)
        said = ensemble.predict(maps, (side, side))
        mean = said.probabilities.argmax(dim=0)
        parts = (said.vote.to(torch.uint8), mean.to(torch.uint8), said.uncertainty.float())
        found.append(tuple(part.numpy() for part in parts))
    return found  # type: ignore[return-value]


def _first_members(ensemble: Ensemble, count: int) -> Ensemble:
    names = ("w1", "b1", "w2", "b2", "w3", "b3")
    return replace(ensemble, **{name: getattr(ensemble, name)[:count] for name in names})
