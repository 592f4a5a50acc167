"""A long training: of any network, from any lessons, kept now and then so that it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, TypeVar

import torch

from dgan_backend.errors import DganError
from dgan_backend.student.course import Course, UNetSettings, weights_by
from dgan_backend.student.lessons import Lessons
from dgan_backend.student.network import SegmentationNetwork

_EVERY = 60.0  # seconds between two checkpoints
_SEEDS = 1_000_003  # times the seed: so many steps have seeds of their own
Network = TypeVar("Network", bound=SegmentationNetwork)
Steps = Callable[[Iterable[int]], Iterable[int]]
Watch = Callable[[Network, int], None]


class Stateful(Protocol):
    """What has a state to go on with, as modules and optimizers have."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass
class Checkpoint:
    """A file that a training is kept in. key: of all that it depends on. every: seconds. others:
    what is kept with it."""

    path: Path
    key: str
    every: float = _EVERY
    others: dict[str, Stateful] = field(default_factory=dict)
    _kept: float = field(default_factory=time.monotonic)

    def resume(self, course: Course) -> None:
        """Raises DganError when there is a file that is damaged, or of another training."""
        if not self.path.is_file():
            return
        advice = f"remove {self.path} to start anew, or choose another --out."
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            if kept["key"] != self.key:
                raise DganError(f"{self.path} is of a training with other settings; {advice}")
            course.load_state(kept["course"])
            for name, other in self.others.items():
                other.load_state_dict(kept["others"][name])
        except (RuntimeError, EOFError, UnpicklingError, KeyError, ValueError, TypeError) as error:
            raise DganError(f"{self.path} cannot be gone on with ({error}); {advice}") from error

    def keep(self, course: Course, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._kept >= self.every:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(".partial")
            others = {name: other.state_dict() for name, other in self.others.items()}
            torch.save({"key": self.key, "course": course.state(), "others": others}, partial)
            partial.replace(self.path)
            self._kept = time.monotonic()


def teach(
    network: Network,
    lessons: Lessons,
    settings: UNetSettings,
    checkpoint: Checkpoint | None = None,
    progress: Steps = iter,
    watch: Watch[Network] | None = None,
) -> Network:
    """Train a network in place, as `follow` does. watch: is shown it after each step, with the
    steps done. Raises DganError when no pixel is labeled, and for a checkpoint that cannot be gone
    on with.
    """
    device = next(network.parameters()).device
    weights = weights_by(lessons.frequencies(network.num_classes), settings.balance)
    course = Course(network, weights, settings)

    def step() -> None:
        images, masks = lessons.batch(settings.batch, course.random)
        course.step(images.to(device), masks.to(device))
        if watch is not None:
            watch(network, course.steps_done)

    follow(course, step, checkpoint, progress)
    return network


def follow(
    course: Course,
    step: Callable[[], None],
    checkpoint: Checkpoint | None = None,
    progress: Steps = iter,
) -> None:
    """Take a course's steps, and finish it.

    checkpoint: where it is kept; what is there is gone on with, and the result is the same as if
    it had never been stopped. progress: wraps the numbers of the steps that are left.
    """
    settings = course.settings
    if checkpoint is not None:
        checkpoint.resume(course)
    try:
        with torch.random.fork_rng(devices=[]):
            for number in progress(range(course.steps_done, settings.steps)):
                torch.manual_seed(settings.seed * _SEEDS + number)  # of dropout
                step()
                if checkpoint is not None:
                    checkpoint.keep(course)
    except KeyboardInterrupt:
        if checkpoint is not None:
            checkpoint.keep(course, at_once=True)
        raise
    course.finish()
