"""Corrections -> a new version: gathered, fitted, compared with the current one, published."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from dgan_backend.errors import DganError
from dgan_backend.fitting import FitPlan, Progress, fit_set
from dgan_backend.generators import load_generator
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.latents import Latents
from dgan_backend.inversion.native import has_encoder, load_encoder
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.corrections import Correction, correction_of
from dgan_backend.labelstudio.project import Project
from dgan_backend.loop.crossvalidation import Candidate, CrossValidation, same_threads
from dgan_backend.loop.gathering import Fetch, Gathered, Gatherer, LeftOut, joined
from dgan_backend.loop.identity import generator_identity
from dgan_backend.loop.starting import starting_generator
from dgan_backend.loop.twins import Twins
from dgan_backend.loop.validation import Comparison
from dgan_backend.partonomy import Partonomy
from dgan_backend.refitting import RefitSettings, refit, with_classes
from dgan_backend.registry import Kept, Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.versions import TrainingSet

log = logging.getLogger(__name__)

_LEARNED_ON = "learned_on"  # generator and backbone, in a card's training


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
    this process has to stop. fetch, latents: see `Gatherer`."""

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
        latents: Latents | None = None,
        check: Callable[[], None] = lambda: None,
        progress: Progress = lambda name, steps: steps,
    ) -> None:
        if project.binding is None or project.number is None:
            raise DganError(project.problem or "A project without a number cannot be trained.")
        self._registry, self._latents = registry, latents
        self._project, self._binding, self._fetch = project, project.binding, fetch
        self._settings, self._plan = settings or RefitSettings(), plan or FitPlan()
        self._device, self._check = device, check
        self._progress = _checked(progress, check)
        self._began = time.monotonic()
        self._validation = CrossValidation(twins, self._settings, self._plan, check, self._progress)

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
        if own and corrections and self._has_other_generator(own[-1]):
            name = self._registry.next_name(self._tree, project.number)
            return self._first(name, corrections, keys)
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

    def _has_other_generator(self, last: Kept) -> bool:
        """Whether the extra params name another generator than the one that the last version
        learned on, or that has other weights or another backbone by now: then all is learned anew
        on it, if there are no pictures but the project's own."""
        learned_on = last.training.get(_LEARNED_ON)
        if not learned_on:
            return False
        if any(source.task is None for source in self._registry.sources(last.name)):
            return False
        try:
            now = generator_identity(starting_generator(self._project))
            named = bool(self._project.options.generator)
            return now != learned_on and (named or _name(now) == _name(learned_on))
        except DganError as error:  # what the version learned on is enough to go on
            log.warning("%s: %s", self._project.name, error)
            return False

    def prepare(self, version: str, hurry: Callable[[], bool] = lambda: False) -> None:
        """Make ready to compare what comes next with a version, see `CrossValidation.prepare`."""
        self._validation.prepare(self._registry.segmenter(version), hurry)

    def _first(self, name: str, corrections: Sequence[Correction], keys: list[str]) -> Trained:
        """The first version of a project with labels of its own."""
        reference = starting_generator(self._project)
        identity = generator_identity(reference)
        generator = load_generator(reference, self._device)
        encoder = load_encoder(reference, self._device) if has_encoder(reference) else None
        gatherer = Gatherer(
            generator,
            encoder,
            self._plan.inversion,
            self._binding,
            self._fetch,
            latents=self._latents,
            check=self._check,
        )
        gathered = gatherer.gather(corrections)
        if gathered.data is None:
            return Trained("", False, _nothing_left(gathered), gathered.left_out)
        parts = fit_set(
            reference,
            gatherer.inverted(gathered.data, partial(self._progress, "inverting")),
            self._tree,
            version=name,
            plan=self._plan,
            device=self._device,
            progress=self._progress,
        )
        version = _telling(Segmenter.of(parts), self._told(gathered, keys, None, ""))
        version.card.training[_LEARNED_ON] = identity
        said = "It is the first version of this project."
        if self._latest():
            said = f"It was learned anew, on the generator {generator.id} as it is now."
        return self._publish(version, gathered, " ".join(filter(None, (said, parts.lacks))), True)

    def _next(
        self, name: str, current: Segmenter, corrections: Sequence[Correction], keys: list[str]
    ) -> Trained:
        begun = with_classes(current, self._tree)
        inversion = InversionSettings.from_json(begun.card.inversion)
        binding = self._binding.to(begun.partonomy)
        gatherer = Gatherer(
            begun.generator,
            begun.encoder,
            inversion,
            binding,
            self._fetch,
            known=begun.data,
            latents=self._latents,
            check=self._check,
        )
        gathered = gatherer.gather(corrections)
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
        candidate = Candidate(name, current, begun, data, frozenset(gathered.new))
        told = {"corrected": candidate.changed()}
        new = max(1, len(gathered.new))
        invert = partial(gatherer.inverted, data, partial(self._progress, "inverting"))
        with same_threads(), ThreadPoolExecutor(2) as aside:
            inverted = aside.submit(_beside, invert)
            compared = aside.submit(self._validation.of, candidate)
            version = refit(
                begun, data, new, name, self._settings, told, self._progress, inverted.result
            )
            comparison = compared.result()
        held_back = ""
        if comparison is not None and comparison.worse:
            held_back = f"It is worse: {comparison.said()}."
        version = _telling(version, self._told(gathered, keys, comparison, held_back))
        if learned_on := current.card.training.get(_LEARNED_ON):
            version.card.training[_LEARNED_ON] = learned_on
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


def _name(identity: list[str]) -> str:
    """A generator's, whatever its weights are."""
    return identity[0].rpartition("-")[0]


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


def _beside(invert: Callable[[], TrainingSet]) -> TrainingSet:
    """In a thread beside those that the student is fitted by."""
    torch.set_num_threads(1)
    return invert()


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
