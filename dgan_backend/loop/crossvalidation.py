"""Candidate against current version, by out-of-fold students ("twins") that grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from dgan_backend import metrics
from dgan_backend.fitting import FitPlan, Labels, Progress, Steps
from dgan_backend.loop.twins import Twins, rows_of_fold
from dgan_backend.loop.validation import FEWEST, FOLDS, Comparison, compare, picture_miou
from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import Partonomy
from dgan_backend.pictures import to_tensor
from dgan_backend.refitting import RefitSettings, refit_student, student_with_classes
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.student import Student
from dgan_backend.versions import TrainingSet

_COMPARED = 60  # pictures of each fold, the newest
_SIDE_BY_SIDE = 2  # twins


@dataclass(frozen=True)
class Candidate:
    """A version to be. current: what serves now. begun: the same with the classes of today. data:
    all that the candidate learns from. new: tasks among it that `current` has not learned from."""

    name: str
    current: Segmenter
    begun: Segmenter
    data: TrainingSet
    new: frozenset[int]

    def changed(self) -> dict[str, Any]:
        """What people changed of what `begun` says of the new pictures: pixels of each class that
        one of both masks has and the other has not, of those that either has."""
        rows = [n for n, source in enumerate(self.data.sources) if source.task in self.new]
        if self.begun.student is None or not rows:
            return {}
        classes = self.begun.partonomy.num_classes
        counts = np.zeros((classes, classes), dtype=np.int64)
        for n, found in zip(rows, _labels(self.begun.student, self.data.pick(rows)), strict=True):
            true = self.data.pick([n]).grid_masks()[0].numpy()
            labeled = true != IGNORE
            counts += metrics.confusion(true[labeled], found[labeled], classes)
        either = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
        changed = either - np.diag(counts)
        return {
            "pictures": len(rows),
            "pixels": float(metrics.wrong_share(counts)) if counts.any() else 0.0,
            "classes": {
                name: round(float(changed[k] / either[k]), 4)
                for k, name in enumerate(self.begun.partonomy.classes)
                if either[k]
            },
        }


class CrossValidation:
    """Of one training. settings: that twins grow by; plan: that they are begun by. check: called
    before anything is kept; raises when this process has to stop."""

    def __init__(
        self,
        twins: Twins,
        settings: RefitSettings,
        plan: FitPlan,
        check: Callable[[], None],
        progress: Progress,
    ) -> None:
        self._twins, self._settings, self._plan = twins, settings, plan
        self._check, self._progress = check, progress
        self._postponed: Candidate | None = None

    def of(self, candidate: Candidate) -> Comparison | None:
        """On pictures that neither has learned from. None where there are too few: the twins grow
        in `prepare` then."""
        if self._telling_pictures(candidate) >= FEWEST:
            return self._compared(candidate)
        self._postponed = candidate
        return None

    def prepare(self, version: Segmenter, hurry: Callable[[], bool] = lambda: False) -> None:
        """Grow or fit the twins that a version lacks, so that what comes next can be compared
        with it.

        May take as long as the version itself did, and nobody waits for it; given up when `hurry`
        says that there is something better to do.
        """
        if self._postponed is not None:
            with same_threads():
                self._compared(self._postponed)
        if version.student is None or int(version.data.corrected.sum()) < FEWEST:
            return
        for fold in range(FOLDS):
            kept = [n for n, out in enumerate(rows_of_fold(version.data, fold)) if not out]
            if self._twins.of(version, fold) is not None or not kept:
                continue
            labels = Labels(version.data.pick(kept), version.partonomy.num_classes)
            plan = self._plan.for_classes(version.partonomy)
            alone = plan.for_pictures(version.generator.card).student.alone()
            steps = _unless(hurry, partial(self._progress, f"out-of-fold student {fold + 1}"))
            try:
                few, device = alone.for_labels(len(kept)), version.generator.device
                twin = labels.fit_student(version.backbone, few, device, steps)
            except _Abandoned:
                return
            self._check()
            self._twins.keep(version.version, fold, twin)

    def _telling_pictures(self, candidate: Candidate) -> int:
        """How many pictures there are for twins that have something to learn."""
        current, begun = candidate.current, candidate.begun
        count = 0
        for fold in range(FOLDS):
            inside = rows_of_fold(candidate.data, fold)
            learns = any(
                source.task in candidate.new and not out
                for source, out in zip(candidate.data.sources, inside, strict=True)
            )
            grows = learns or begun.partonomy.classes != current.partonomy.classes
            if grows and self._twins.of(current, fold) is not None:
                count += sum(inside)
        return count

    def _compared(self, candidate: Candidate) -> Comparison | None:
        """Twins of the candidate are those of the current version, grown; both are scored."""
        tree, data = candidate.begun.partonomy, candidate.data
        settings = self._settings.for_pictures(candidate.current.generator.card)
        before_of = {
            fold: _with_classes(twin, candidate.current.partonomy, tree)
            for fold in range(FOLDS)
            if (twin := self._twins.of(candidate.current, fold)) is not None
        }

        def grown(fold: int) -> Student:
            before = before_of[fold]
            kept = [n for n, out in enumerate(rows_of_fold(data, fold)) if not out]
            learns = sum(data.sources[n].task in candidate.new for n in kept)
            if not learns and before.num_classes == tree.num_classes:
                return before
            torch.set_num_threads(1)
            return refit_student(before, data.pick(kept), learns, settings)

        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            afters = list(pool.map(grown, before_of))
        ours: list[float] = []
        present: list[float] = []
        for (fold, before), after in zip(before_of.items(), afters, strict=True):
            self._check()
            self._twins.keep(candidate.name, fold, after)
            rows = [n for n, inside in enumerate(rows_of_fold(data, fold)) if inside]
            test = data.pick(rows[-_COMPARED:])
            if after is not before and len(test):
                ours += _scores(after, test)
                present += _scores(before, test)
        return compare(ours, present)


@contextmanager
def same_threads() -> Iterator[None]:
    """What threads set for themselves in it is not what later threads begin with."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _scores(student: Student, data: TrainingSet) -> list[float]:
    """mIoU of each picture that is labeled at all."""
    found = [
        picture_miou(true, labels, student.num_classes)
        for true, labels in zip(data.grid_masks().numpy(), _labels(student, data), strict=True)
    ]
    return [value for value in found if value is not None]


def _labels(student: Student, data: TrainingSet) -> Iterator[np.ndarray]:
    """What a student says of each picture, [S, S] uint8."""
    device = next(student.networks[0].parameters()).device
    for picture in to_tensor(data.pictures.permute(0, 2, 3, 1).numpy()).split(1):
        said = student.predict(picture.to(device))
        yield said.probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()


def _with_classes(student: Student, before: Partonomy, tree: Partonomy) -> Student:
    if before.classes == tree.classes:
        return student
    place = {name: k for k, name in enumerate(before.classes)}
    return student_with_classes(student, [place.get(name) for name in tree.classes], tree)


class _Abandoned(Exception):
    """There is something better to do."""


def _unless(hurry: Callable[[], bool], progress: Steps) -> Steps:
    def steps(numbers: Iterable[int]) -> Iterator[int]:
        for number in progress(numbers):
            if hurry():
                raise _Abandoned
            yield number

    return steps
