"""A few networks that vote on pictures from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.interpreter.ensemble import PixelPrediction
from dgan_backend.interpreter.uncertainty import jensen_shannon, majority_vote
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.fit import (
    begin_classes,
    continued,
    correction_of,
    new_unet,
    train_unet,
)
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.unet import UNetConfig

_FEWEST_PICTURES = 1200
_PICTURES_A_LABEL = 600
_FULL_RATE_LABELS = 16


@dataclass(frozen=True)
class StudentSettings:
    """members: M networks, which differ in their seed."""

    members: int = 2
    unet: UNetSettings = field(default_factory=UNetSettings)

    def check(self) -> None:
        """Raises DganError when there would be a single opinion."""
        if self.members < (1 if self.unet.augment.mirror else 2):
            raise DganError(
                "a student needs two opinions, or its uncertainty would be 0: give it 2 members, "
                "since it does not look at mirrored pictures."
            )

    def for_labels(self, count: int) -> StudentSettings:
        """With as many pictures to see as `count` labels are worth, if fewer than set, and a rate
        that leaves more of the backbone as it is the fewer there are."""
        enough = max(_FEWEST_PICTURES, _PICTURES_A_LABEL * count)
        rate = self.unet.rate * min(1.0, count / _FULL_RATE_LABELS) ** 0.5
        unet = replace(self.unet, pictures=min(self.unet.pictures, enough), rate=rate)
        return replace(self, unet=unet)

    def for_pictures(self, turns: bool) -> StudentSettings:
        """At any angle where pictures have no up; they stay as they are set elsewhere."""
        if not turns:
            return self
        augment = self.unet.augment.at_any_angle()
        return replace(self, unet=replace(self.unet, augment=augment))

    def alone(self) -> StudentSettings:
        """One member that sees half of the pictures, which is enough to compare."""
        unet = replace(self.unet, pictures=max(1, self.unet.pictures // 2))
        return StudentSettings(1 if unet.augment.mirror else 2, unet)


@dataclass(frozen=True)
class Student:
    """M networks. mirror: each also looks at the mirrored picture, as one more opinion. swap: the
    class that each class becomes in a mirrored picture; () = itself. correction: of each class's
    logit, as `correction_of` has it, so that training can go on; () = not known."""

    networks: Sequence[SegmentationNetwork]
    mirror: bool = True
    swap: tuple[int, ...] = ()
    correction: tuple[float | None, ...] = ()

    @property
    def members(self) -> int:
        """Opinions that are compared: M, or 2 M with mirrored pictures."""
        return len(self.networks) * (2 if self.mirror else 1)

    @property
    def num_classes(self) -> int:
        return self.networks[0].num_classes

    @torch.inference_mode()
    def opinions(self, images: Tensor) -> Tensor:
        """[N, 3, S, S] float32 in [-1, 1] -> probabilities [members, N, K, S, S]."""
        straight = [network(images).softmax(dim=1) for network in self.networks]
        if not self.mirror:
            return torch.stack(straight)
        flipped = [network(images.flip(3)).softmax(dim=1).flip(3) for network in self.networks]
        if self.swap:
            flipped = [opinion[:, list(self.swap)] for opinion in flipped]
        return torch.stack([*straight, *flipped])

    def predict(self, image: Tensor) -> PixelPrediction:
        """Label one picture [1, 3, S, S] float32 in [-1, 1], on its own grid."""
        opinions = self.opinions(image)[:, 0]
        return PixelPrediction(
            probabilities=opinions.mean(dim=0),
            vote=majority_vote(opinions),
            uncertainty=jensen_shannon(opinions),
            members=self.members,
        )


def fit_student(
    images: Tensor,
    masks: Tensor,
    num_classes: int,
    settings: StudentSettings | None = None,
    *,
    config: UNetConfig | None = None,
    trunk: dict[str, Tensor] | None = None,
    begin: Student | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Student:
    """Fit M members on N labeled pictures; arguments as `fit_unet` has them.

    begin: a student with as many classes to go on with, in place of `config` and `trunk`; its
    members, mirroring and swaps stay.

    On a CPU members are trained side by side, which is faster than more threads for each.
    progress: follows the first member. Ctrl-C ends all of them after the step they are at.
    Raises DganError when there would be a single opinion, which can disagree with none.
    """
    settings = settings or StudentSettings()
    if begin is not None:
        settings = _as(begin, settings)
    settings.check()
    augment = settings.unet.augment
    each = [
        replace(settings.unet, seed=settings.unet.seed * 1000 + member)
        for member in range(settings.members)
    ]
    if begin is None:
        networks: list[SegmentationNetwork] = [
            new_unet(num_classes, e.seed, config, trunk).to(images.device) for e in each
        ]
    else:
        networks = [continued(network, begin.correction) for network in begin.networks]
        new = [k for k, shift in enumerate(begin.correction) if shift is None]
        for network, e in zip(networks, each, strict=True):
            begin_classes(network, images, masks, new, e)
    threads = torch.get_num_threads()
    stop = threading.Event()
    side_by_side = min(threads, settings.members) if images.device.type == "cpu" else 1

    def train(member: int) -> SegmentationNetwork:
        torch.set_num_threads(max(1, threads // side_by_side))
        watched = progress if member == 0 else iter

        def steps(numbers: Iterable[int]) -> Iterator[int]:
            for number in watched(numbers):
                if stop.is_set():
                    raise InterruptedError
                yield number

        return train_unet(networks[member], images, masks, each[member], steps)

    try:
        with ThreadPoolExecutor(side_by_side) as pool:
            try:
                fitted = list(pool.map(train, range(settings.members)))
            except BaseException:
                stop.set()  # the pool waits for its threads
                raise
    finally:
        torch.set_num_threads(threads)
    correction = correction_of(masks, num_classes, settings.unet)
    return Student(fitted, augment.mirror, augment.swap, tuple(correction))


def _as(begin: Student, settings: StudentSettings) -> StudentSettings:
    """Settings with the members, mirroring and swaps of a student that training goes on with."""
    if len(begin.correction) != begin.num_classes:
        raise DganError("this student does not say how its training ended; fit it anew.")
    augment = replace(settings.unet.augment, mirror=begin.mirror, swap=begin.swap)
    return StudentSettings(len(begin.networks), replace(settings.unet, augment=augment))
