"""The runs that measure what others made, on the test pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dgan_backend import metrics
from dgan_backend.evaluation import methods
from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.few_shot import Cell, Outcome, Stopwatch, measure
from dgan_backend.evaluation.minutes import saved
from dgan_backend.evaluation.plan import Run
from dgan_backend.evaluation.protocol import compared
from dgan_backend.generators import load_generator
from dgan_backend.inversion.native import load_encoder
from dgan_backend.pictures import Picture
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.network import SegmentationNetwork

_AT_ONCE = 16  # pictures


def measured(bench: Bench, network: SegmentationNetwork, seconds: float) -> dict[str, Any]:
    """A trained network's figures. seconds: that its training took.

    A network that does not look at mirrored pictures has one opinion and so no uncertainty.
    """
    watch, student = Stopwatch(), bench.voting(network)
    found = [student.predict(image) for image in methods.tensors(bench.data.test()).split(1)]
    each = watch.seconds() / len(found)
    outcome = methods.outcome_of(found, [1.0] * len(found), seconds, each)
    if student.members < 2:
        outcome = replace(outcome, uncertainty=None, scores=None)
    return told(bench, outcome)


def told(bench: Bench, outcome: Outcome) -> dict[str, Any]:
    """The ruler's figures, and those that only the report has."""
    true, classes = bench.true(), bench.data.partonomy.num_classes
    pairs = zip(true, outcome.labels, strict=True)
    counts = np.stack([metrics.confusion(t, p, classes) for t, p in pairs])
    low, high = metrics.bootstrap(counts)
    boundary = metrics.boundary_counts(true, outcome.labels, classes).class_f()
    return {
        **measure(true, outcome, classes),
        "miou_foreground": _number(metrics.foreground_mean_iou(counts.sum(axis=0))),
        "miou_low": low,
        "miou_high": high,
        "class_boundary_f": [_number(value) for value in boundary],
        "minutes": saved(true, outcome.labels),
    }


def prelabeler(bench: Bench, run: Run) -> dict[str, Any]:
    outcome, _ = by_version(bench, run)
    return told(bench, outcome)


def by_version(bench: Bench, run: Run) -> tuple[Outcome, Segmenter]:
    """The test pictures as the backend labels them."""
    segmenter, watch = bench.segmenter(run), Stopwatch()
    found = segmented(segmenter, bench.data.test().images)
    outcome = Outcome(
        np.stack([s.labels for s in found]),
        np.stack([s.uncertainty for s in found]),
        np.array([s.score for s in found]),
        0.0,
        watch.seconds() / len(found),
        {},
    )
    return outcome, segmenter


def inversion(bench: Bench, run: Run) -> dict[str, Any]:
    """The interpreter on inverted pictures."""
    generator = load_generator(bench.domain.generator)
    latents = methods.inverted(bench.data, generator, *load_encoder(bench.domain.generator))
    cell = Cell("interpreter", run.labels, run.draw)
    return told(bench, methods.interpreter(bench.data, cell, generator, latents, "generator"))


def protocol(bench: Bench, run: Run) -> dict[str, Any]:
    """The table's own student after each of its epochs, as the original counts."""
    student, classes = replace(run, method="student"), bench.data.partonomy.num_classes
    images, true, counts = methods.tensors(bench.data.test()), bench.true(), []
    for epoch in range(1, bench.scale.epochs + 1):
        voting = bench.voting(bench.network(student, epoch))
        said = [voting.predict(image).probabilities.argmax(dim=0) for image in images.split(1)]
        pairs = zip(true, said, strict=True)
        counts.append([metrics.confusion(t, p.numpy(), classes) for t, p in pairs])
    return compared(np.array(counts))


def segmented(segmenter: Segmenter, images: Sequence[Picture]) -> list[Segmentation]:
    """A few at a time, as they are all held at once."""
    parts = (images[n : n + _AT_ONCE] for n in range(0, len(images), _AT_ONCE))
    return [found for part in parts for found in segmenter.segment_images(part)]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
