"""Corrections -> a new version: gathered, fitted, compared with the current one, published."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from dgan_backend import metrics
from dgan_backend.errors import DganError
from dgan_backend.fitting import FitPlan, Labels, Progress, Steps, fit_set
from dgan_backend.generators import load_generator
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import has_encoder, load_encoder
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.corrections import Correction, correction_of
from dgan_backend.labelstudio.project import Project
from dgan_backend.loop.gathering import Fetch, Gathered, Gatherer, LeftOut, joined
from dgan_backend.loop.starting import starting_generator
from dgan_backend.loop.twins import Twins, rows_of_fold
from dgan_backend.loop.validation import FEWEST, FOLDS, Comparison, compare, picture_miou
from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import Partonomy
from dgan_backend.pictures import to_tensor
from dgan_backend.refitting import (
    RefitSettings,
    refit,
    refit_student,
    student_with_classes,
    with_classes,
)
from dgan_backend.registry import Kept, Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.student import Student
from dgan_backend.versions import TrainingSet

log = logging.getLogger(__name__)

_COMPARED = 60  # pictures of each fold, the newest
_SIDE_BY_SIDE = 2  # twins


@dataclass(frozen=True)
class Trained:
    """What came of a training. version: "" when there was nothing to learn. current: whether it
    was made current. said: in plain words."""

    version: str
    current: bool
    said: str
    left_out: tuple[LeftOut, ...] = ()


class Training:
    """One project's training. check: called before anything that others would see; raises when
    this process has to stop. fetch: see `Gatherer`."""

    def __init__(
        self,
        registry: Registry,
        twins: Twins,
        project: Project,
        fetch: Fetch,
        *,
        settings: RefitSettings | None = None,
        plan: FitPlan | None = None,
        device: str = "cpu",
        check: Callable[[], None] = lambda: None,
        progress: Progress = lambda name, steps: steps,
    ) -> None:
        if project.binding is None or project.number is None:
            raise DganError(project.problem or "A project without a number cannot be trained.")
        self._registry, self._twins = registry, twins
        self._project, self._binding, self._fetch = project, project.binding, fetch
        self._settings, self._plan = settings or RefitSettings(), plan or FitPlan()
        self._device, self._check = device, check
        self._progress = _checked(progress, check)
        self._began = time.monotonic()
        self._postponed: Callable[[], object] = lambda: None

    @property
    def _tree(self) -> Partonomy:
        return self._binding.partonomy

    def run(self, corrections: Sequence[Correction]) -> Trained:
        """Learn from all corrections of the project; raises DganError when that cannot be."""
        project = self._project
        assert project.number is not None
        bare = project.options.ignore_bare
        corrections = [replace(c, ignore_bare=bare) for c in corrections]
        keys = sorted(c.key for c in corrections)
        own = self._latest()
        if own and _learned(own[-1], keys, list(self._tree.classes)):
            return Trained("", False, "There is no correction that was not learned from.")
        current = self._registry.current(self._tree, project.number, project.uid)
        if not corrections and not own:
            return Trained("", False, "There is no correction yet.")
        name = self._registry.next_name(self._tree, project.number)
        if current is None:
            return self._first(name, corrections, keys)
        return self._next(name, self._registry.segmenter(current), corrections, keys)

    def _latest(self) -> list[Kept]:
        """The project's last version, held back or not; [] before there is one."""
        assert self._project.number is not None
        found = self._registry.versions(self._project.number, self._project.uid)
        return [k for k in found if k.partonomy == self._tree.name][-1:]

    def prepare(self, version: str, hurry: Callable[[], bool] = lambda: False) -> None:
        """Fit the twins that a version lacks, so that what comes next can be compared with it.

        May take as long as the version itself did, and nobody waits for it; given up when `hurry`
        says that there is something better to do.
        """
        self._postponed()
        found = self._registry.segmenter(version)
        if found.backbone is None or int(found.data.corrected.sum()) < FEWEST:
            return
        for fold in range(FOLDS):
            kept = [n for n, out in enumerate(rows_of_fold(found.data, fold)) if not out]
            if self._twins.of(found, fold) is not None or not kept:
                continue
            labels = Labels(found.data.pick(kept), found.partonomy.num_classes)
            alone = self._plan.for_classes(found.partonomy).student.alone()
            steps = _unless(hurry, partial(self._progress, f"out-of-fold student {fold + 1}"))
            try:
                twin = labels.fit_student(found.backbone, alone.for_labels(len(kept)), steps)
            except _Abandoned:
                return
            self._check()
            self._twins.keep(version, fold, twin)

    def _first(self, name: str, corrections: Sequence[Correction], keys: list[str]) -> Trained:
        """The first version of a project with labels of its own."""
        reference = starting_generator(self._project)
        generator = load_generator(reference, self._device)
        encoder = load_encoder(reference, self._device) if has_encoder(reference) else None
        gathered = Gatherer(
            generator,
            encoder,
            self._plan.inversion,
            self._binding,
            self._fetch,
        ).gather(corrections)
        if gathered.data is None:
            return Trained("", False, _nothing_left(gathered), gathered.left_out)
        parts = fit_set(
            reference,
            gathered.data,
            self._tree,
            version=name,
            plan=self._plan,
            device=self._device,
            progress=self._progress,
        )
        version = _telling(Segmenter.of(parts), self._told(gathered, keys, None, ""))
        return self._publish(version, gathered, "It is the first version of this project.", True)

    def _next(
        self, name: str, current: Segmenter, corrections: Sequence[Correction], keys: list[str]
    ) -> Trained:
        begun = with_classes(current, self._tree)
        inversion = InversionSettings(**begun.card.inversion)
        binding = self._binding.to(begun.partonomy)
        gathered = Gatherer(
            begun.generator,
            begun.encoder,
            inversion,
            binding,
            self._fetch,
            known=begun.data,
        ).gather(corrections)
        fixed = _fixed(keys, gathered)
        if any(_learned(kept, fixed, list(self._tree.classes)) for kept in self._latest()):
            said = (
                f"{len(keys) - len(fixed)} corrections are out of reach for now, no other is new."
            )
            return Trained("", False, said, gathered.left_out)
        if gathered.data is None and not self._latest():
            return Trained("", False, _nothing_left(gathered), gathered.left_out)
        base = [n for n, source in enumerate(begun.data.sources) if source.task is None]
        parts = [begun.data.pick(base)] if base else []
        parts += [gathered.data] if gathered.data is not None else []
        if not parts:
            return Trained("", False, _nothing_left(gathered), gathered.left_out)
        data = joined(parts)
        told = {"corrected": self._corrected(begun, data, gathered.new)}
        new = max(1, len(gathered.new))
        with ThreadPoolExecutor(1) as aside:
            compared = aside.submit(self._validation, name, current, begun, data, gathered.new)
            version = refit(begun, data, new, name, self._settings, told, self._progress)
            comparison = compared.result()
        held_back = ""
        if comparison is not None and comparison.worse:
            held_back = f"It is worse: {comparison.said()}."
        version = _telling(version, self._told(gathered, keys, comparison, held_back))
        said = held_back or (
            f"It was promoted: {comparison.said()}."
            if comparison
            else "It was promoted without a comparison: there are too few corrected pictures that "
            "out-of-fold students of the version before could be compared on."
        )
        return self._publish(version, gathered, said, not held_back)

    def _publish(self, version: Segmenter, gathered: Gathered, said: str, current: bool) -> Trained:
        self._check()
        self._registry.publish(version, current=current)
        log.info("Project %s: version %s. %s", self._project.number, version.version, said)
        return Trained(version.version, current, said, gathered.left_out)

    def _told(
        self,
        gathered: Gathered,
        keys: list[str],
        comparison: Comparison | None,
        held_back: str,
    ) -> dict[str, Any]:
        """What the version's card tells of how it came about."""
        return {
            "project": self._project.uid,
            "corrections": _fixed(keys, gathered),
            "classes": list(self._tree.classes),
            "new": list(gathered.new),
            "left_out": [asdict(left) for left in gathered.left_out],
            "validation": comparison.to_json() if comparison else None,
            "held_back": held_back,
            "seconds": round(time.monotonic() - self._began, 1),
            "time": time.time(),
        }

    def _corrected(
        self, current: Segmenter, data: TrainingSet, new: Sequence[int]
    ) -> dict[str, Any]:
        """What people changed of what `current` says of pictures it has not learned from: pixels
        of each class that one of both masks has and the other has not, of those that either has.
        """
        rows = [n for n, source in enumerate(data.sources) if source.task in set(new)]
        if current.student is None or not rows:
            return {}
        classes = current.partonomy.num_classes
        counts = np.zeros((classes, classes), dtype=np.int64)
        for n, found in zip(rows, _labels(current.student, data.pick(rows)), strict=True):
            true = data.pick([n]).grid_masks()[0].numpy()
            labeled = true != IGNORE
            counts += metrics.confusion(true[labeled], found[labeled], classes)
        either = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
        changed = either - np.diag(counts)
        return {
            "pictures": len(rows),
            "pixels": float(metrics.wrong_share(counts)) if counts.any() else 0.0,
            "classes": {
                name: round(float(changed[k] / either[k]), 4)
                for k, name in enumerate(current.partonomy.classes)
                if either[k]
            },
        }

    def _validation(
        self,
        name: str,
        current: Segmenter,
        begun: Segmenter,
        data: TrainingSet,
        new: Sequence[int],
    ) -> Comparison | None:
        """As `_validated`; where too few pictures would tell, the twins grow in `prepare`."""
        if self._telling_pictures(current, begun, data, new) >= FEWEST:
            return self._validated(name, current, begun, data, new)
        self._postponed = partial(self._validated, name, current, begun, data, new)
        return None

    def _telling_pictures(
        self, current: Segmenter, begun: Segmenter, data: TrainingSet, new: Sequence[int]
    ) -> int:
        """How many pictures there are for twins that have something to learn."""
        count = 0
        for fold in range(FOLDS):
            inside = rows_of_fold(data, fold)
            learns = any(
                source.task in set(new) and not out
                for source, out in zip(data.sources, inside, strict=True)
            )
            grows = learns or begun.partonomy.classes != current.partonomy.classes
            if grows and self._twins.of(current, fold) is not None:
                count += sum(inside)
        return count

    def _validated(
        self,
        name: str,
        current: Segmenter,
        begun: Segmenter,
        data: TrainingSet,
        new: Sequence[int],
    ) -> Comparison | None:
        """Candidate and current, each by its twins, on pictures that neither has learned from."""
        before_of = {
            fold: _with_classes(twin, current.partonomy, begun.partonomy)
            for fold in range(FOLDS)
            if (twin := self._twins.of(current, fold)) is not None
        }

        def grown(fold: int) -> Student:
            before = before_of[fold]
            kept = [n for n, out in enumerate(rows_of_fold(data, fold)) if not out]
            learns = sum(data.sources[n].task in set(new) for n in kept)
            if not learns and before.num_classes == begun.partonomy.num_classes:
                return before
            torch.set_num_threads(1)
            return refit_student(before, data.pick(kept), learns, self._settings)

        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            afters = list(pool.map(grown, before_of))
        candidate: list[float] = []
        present: list[float] = []
        for (fold, before), after in zip(before_of.items(), afters, strict=True):
            self._check()
            self._twins.keep(name, fold, after)
            rows = [n for n, inside in enumerate(rows_of_fold(data, fold)) if inside]
            test = data.pick(rows[-_COMPARED:])
            if after is not before and len(test):
                candidate += _scores(after, test)
                present += _scores(before, test)
        return compare(candidate, present)


def _telling(version: Segmenter, told: dict[str, Any]) -> Segmenter:
    """A version whose card tells more of how it came about."""
    version.card = replace(version.card, training={**version.card.training, **told})
    return version


def _fixed(keys: Sequence[str], gathered: Gathered) -> list[str]:
    """Keys of the corrections that were used or left out for good."""
    again = {left.key for left in gathered.left_out if left.again}
    return [key for key in keys if key not in again]


def _learned(kept: Kept, keys: list[str], classes: list[str]) -> bool:
    """Whether a version knows just these; one fitted by hand tells neither and knows none."""
    told = kept.training
    return told.get("corrections", []) == keys and told.get("classes", classes) == classes


def read_corrections(site: LabelStudioClient, project: int) -> list[Correction]:
    """All of a project, by task."""
    found = (correction_of(task) for task in site.annotated_tasks(project))
    return sorted((c for c in found if c is not None), key=lambda c: c.task)


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


def _nothing_left(gathered: Gathered) -> str:
    reasons = " ".join(left.reason for left in gathered.left_out[:3])
    return f"None of {len(gathered.left_out)} corrections can be learned from. {reasons}"


def _checked(progress: Progress, check: Callable[[], None]) -> Progress:
    """With a check at every step."""

    def steps(name: str, numbers: Iterable[int]) -> Iterator[int]:
        for number in progress(name, numbers):
            check()
            yield number

    return steps


class _Abandoned(Exception):
    """There is something better to do."""


def _unless(hurry: Callable[[], bool], progress: Steps) -> Steps:
    def steps(numbers: Iterable[int]) -> Iterator[int]:
        for number in progress(numbers):
            if hurry():
                raise _Abandoned
            yield number

    return steps
