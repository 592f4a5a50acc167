"""Going on with a fitted version when there are more labels: seconds instead of minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dgan_backend.fitting import (
    CORRECTION_WEIGHT,
    FitPlan,
    Labels,
    Progress,
    Steps,
    fit_interpreter,
    taught_samples,
)
from dgan_backend.generators.native import GeneratorCard
from dgan_backend.interpreter import Ensemble, FitSettings
from dgan_backend.interpreter.fit import Beginning
from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import Partonomy
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.student import Student, StudentSettings, fit_student
from dgan_backend.versions import TrainingSet

_NEVER = -30.0  # logit of a class that nothing was learned of


@dataclass(frozen=True)
class RefitSettings:
    """pictures: that each network of the student sees, and more_pictures for each new label
    beyond the first, up to most_pictures; rate: its largest, see UNetSettings. steps, pixels: of
    the interpreter, see FitSettings; taught: samples that the student labels for it. turns:
    pictures have no up."""

    pictures: int = 160
    more_pictures: int = 40
    most_pictures: int = 2400
    rate: float = 0.1
    steps: int = 50
    pixels: int = 4096
    taught: int = 16
    seed: int = 0
    turns: bool = False

    def for_pictures(self, card: GeneratorCard) -> RefitSettings:
        """At any angle where the generator's pictures have no up."""
        return replace(self, turns=self.turns or card.turns)

    def unet(self, new: int) -> UNetSettings:
        count = min(self.pictures + self.more_pictures * max(0, new - 1), self.most_pictures)
        augment = AugmentSettings()
        return UNetSettings(
            pictures=count,
            rate=self.rate,
            augment=augment.at_any_angle() if self.turns else augment,
            seed=self.seed,
        )


def refit(
    previous: Segmenter,
    data: TrainingSet,
    new: int,
    version: str,
    settings: RefitSettings | None = None,
    training: dict[str, Any] | None = None,
    progress: Progress = lambda name, steps: steps,
    inverted: Callable[[], TrainingSet] | None = None,
) -> Segmenter:
    """A new version that went on learning where `previous` stopped, from old and new labels.

    data: all labeled pictures, the base among them. new: how many of them `previous` has not
    learned from. training: what the card tells of how this came about. inverted: gives `data`
    with its latents, where those are not there yet; asked once the student is fitted.
    Raises DganError when no picture is labeled, or none could be inverted.
    """
    settings = (settings or RefitSettings()).for_pictures(previous.generator.card)
    student, taught = None, None
    if previous.student is not None:
        steps = partial(progress, "student")
        student = refit_student(previous.student, data, new, settings, steps)
        taught = taught_samples(previous.generator, student, data, settings.taught)
    data = inverted() if inverted else data
    plan = FitPlan(
        maps=previous.card.maps,
        interpreter=FitSettings(pixels=settings.pixels, steps=settings.steps, seed=settings.seed),
    )
    labels = Labels(data.repeated(CORRECTION_WEIGHT), previous.partonomy.num_classes)
    begin = Beginning(previous.ensemble, previous.data.masks.numpy())
    steps = partial(progress, "interpreter")
    ensemble = fit_interpreter(previous.generator, labels, plan, steps, taught, begin)
    told = {"pictures": len(data), "begun_with": previous.version, **(training or {})}
    return Segmenter(
        replace(previous.card, name=version, training=told),
        previous.generator,
        previous.encoder,
        ensemble,
        student,
        previous.backbone,
        data,
    )


def refit_student(
    student: Student,
    data: TrainingSet,
    new: int,
    settings: RefitSettings | None = None,
    progress: Steps = iter,
) -> Student:
    """A student that went on learning; arguments as `refit` has them."""
    settings = settings or RefitSettings()
    labels = Labels(data.repeated(CORRECTION_WEIGHT), student.num_classes)
    device = next(student.networks[0].parameters()).device
    return fit_student(
        labels.tensor().to(device),
        labels.data.grid_masks().to(device),
        student.num_classes,
        StudentSettings(len(student.networks), settings.unet(new)),
        begin=student,
        progress=progress,
    )


def with_classes(previous: Segmenter, tree: Partonomy) -> Segmenter:
    """`previous` with the classes of another tree: those of the same name keep what was learned.

    New classes are never said until something is learned of them; what was labeled as a class
    that is gone is ignored.
    """
    if tree.classes == previous.partonomy.classes:
        return previous
    before = {name: k for k, name in enumerate(previous.partonomy.classes)}
    old = [before.get(name) for name in tree.classes]
    student = previous.student and student_with_classes(previous.student, old, tree)
    return Segmenter(
        replace(previous.card, partonomy=tree),
        previous.generator,
        previous.encoder,
        _ensemble_with(previous.ensemble, old),
        student,
        previous.backbone,
        replace(previous.data, masks=_masks_with(previous.data.masks, old)),
    )


def student_with_classes(student: Student, old: Sequence[int | None], tree: Partonomy) -> Student:
    """old: of each class of the tree, the student's own; None = new to it."""
    networks = [_network_with(network, old) for network in student.networks]
    known = student.correction or (0.0,) * student.num_classes
    correction = tuple(None if k is None else known[k] for k in old)
    mirrored = tree.mirrored
    mirror = student.mirror and mirrored is not None
    swap = mirrored if mirror and mirrored != tuple(range(len(old))) else ()
    return Student(networks, mirror, swap or (), correction)


@torch.no_grad()
def _network_with(network: SegmentationNetwork, old: Sequence[int | None]) -> SegmentationNetwork:
    head = nn.Conv2d(network.head.in_channels, len(old), 1)
    assert network.head.bias is not None and head.bias is not None
    head.weight.copy_(_rows(network.head.weight, old, 0.0))
    head.bias.copy_(_rows(network.head.bias, old, _NEVER))
    return network.with_head(head).eval().requires_grad_(False)


def _ensemble_with(ensemble: Ensemble, old: Sequence[int | None]) -> Ensemble:
    w3 = _rows(ensemble.w3.transpose(0, 1), old, 0.0).transpose(0, 1)
    b3 = _rows(ensemble.b3.transpose(0, 1), old, _NEVER).transpose(0, 1)
    return replace(ensemble, w3=w3.contiguous(), b3=b3.contiguous())


def _rows(values: Tensor, old: Sequence[int | None], fill: float) -> Tensor:
    """One row for each new class: the old class's, or `fill`."""
    empty = torch.full_like(values[0], fill)
    return torch.stack([empty if k is None else values[k] for k in old])


def _masks_with(masks: Tensor, old: Sequence[int | None]) -> Tensor:
    table = torch.full((256,), IGNORE, dtype=torch.uint8)
    for new, k in enumerate(old):
        if k is not None:
            table[k] = new
    return table[masks.long()]
