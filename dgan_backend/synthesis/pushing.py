"""A version's samples with their labels as tasks, without the uncertain ones; or just those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dgan_backend.errors import DganError
from dgan_backend.fitting import Progress
from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.corrections import MARK, regions_hash
from dgan_backend.labelstudio.project import Project
from dgan_backend.labelstudio.regions import regions_of
from dgan_backend.records import Segmentation
from dgan_backend.segmentation_cache import SegmentationCache
from dgan_backend.segmenter import Segmenter
from dgan_backend.synthesis import choice, sister
from dgan_backend.synthesis.batch import Batch, Kind, Mark, first_seed
from dgan_backend.synthesis.importing import Draft, import_drafts
from dgan_backend.synthesis.inventory import Inventory

MOST = 10_000  # tasks of one push


@dataclass(frozen=True)
class Order:
    """What is to be pushed.

    count: tasks that arrive. for_labeling: the least sure, for people, into the project itself;
    else the surest. first_seed: None = the version's own. same_project: synthetic tasks into the
    project itself, not its sister. annotations: submitted ones, not predictions.
    """

    count: int
    for_labeling: bool = False
    first_seed: int | None = None
    same_project: bool = False
    annotations: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise DganError(f"A push makes 1 to {MOST} tasks, not {self.count}.")
        if self.for_labeling and self.annotations:
            raise DganError("Tasks for people to label come without annotations; choose one.")

    @property
    def kind(self) -> Kind:
        return "for labeling" if self.for_labeling else "synthetic"

    def batch(self, version: str) -> Batch:
        first = first_seed(version) if self.first_seed is None else self.first_seed
        return Batch(self.kind, version, self.count, first)


@dataclass(frozen=True)
class Pushed:
    """batch: its name. target: the number of the project that it is in. created: by this push.
    there: tasks of the batch that were there before."""

    batch: str
    target: int
    created: int
    there: int


class Pusher:
    """Pushes samples of one version of one project.

    check: called before each sample and before anything is written; raises when this process has
    to stop.
    """

    def __init__(
        self,
        site: LabelStudioClient,
        project: Project,
        segmenter: Segmenter,
        check: Callable[[], None] = lambda: None,
        progress: Progress = lambda name, steps: steps,
    ) -> None:
        if project.binding is None or project.number is None:
            raise DganError(project.problem or "A project without a number gets no tasks.")
        self._site, self._number, self._segmenter = site, project.number, segmenter
        self._image_key = project.binding.config.image_key
        self._binding: Binding = project.binding.to(segmenter.partonomy)
        self._check, self._progress = check, progress
        self._cache = SegmentationCache()

    def push(self, order: Order) -> Pushed:
        """Make what of the order is not there yet."""
        batch = order.batch(self._segmenter.version)
        target = self._target(order)
        inventory = Inventory.of(self._site, target)
        there = inventory.batch(batch.name)
        if any(bool(made.mark.annotation) != order.annotations for made in there):
            raise DganError(
                f"The batch {batch.name} is in project {target} already, "
                f"{'without' if order.annotations else 'with'} annotations; take it back first "
                f"(`--undo {batch.name}`), or choose other pictures with --seed."
            )
        done = {made.seed for made in there}
        missing = batch.count - len(done)
        created = 0
        if missing > 0:
            chosen = [seed for seed in self._chosen(batch, inventory) if seed not in done]
            created = self._create(batch, target, chosen[:missing], order.annotations)
        if target != self._number and not order.annotations:
            versions = {made.mark.version for made in inventory if not made.mark.annotation}
            self._check()
            sister.show(self._site, target, versions | {self._segmenter.version})
        return Pushed(batch.name, target, created, len(done))

    def _target(self, order: Order) -> int:
        """A sister project unless asked otherwise; what people label goes to the project, since a
        sister's annotations are not learned from."""
        if order.same_project or order.for_labeling:
            return self._number
        parent = self._site.project(self._number)
        self._check()
        return sister.ensure(self._site, parent)

    def _chosen(self, batch: Batch, inventory: Inventory) -> list[int]:
        """Seeds of a batch. The same every time, as long as no other picture comes or goes."""
        people = batch.kind == "for labeling"
        count = choice.pool(batch.count) if people else choice.candidates(batch.count)
        taken = inventory.taken(self._segmenter.generator.id, batch)
        seeds = choice.free_seeds(batch.first, count, taken)
        scores = [self._segmented(seed).score for seed in self._progress("sampling", seeds)]
        choose = choice.least_sure if people else choice.surest
        return choose(seeds, scores, batch.count)

    def _create(self, batch: Batch, target: int, seeds: Sequence[int], annotations: bool) -> int:
        def drafts() -> Iterator[Draft]:
            for seed in self._progress("creating tasks", seeds):
                yield self._draft(batch, seed, annotations)

        return import_drafts(self._site, target, self._image_key, drafts(), self._check)

    def _draft(self, batch: Batch, seed: int, annotations: bool) -> Draft:
        version, found = self._segmenter.version, self._segmented(seed)
        regions = regions_of(found, self._binding)
        score = round(float(found.score), 4)
        told = Mark(
            batch.kind, batch.name, version, score, regions_hash(regions) if annotations else ""
        )
        about = (
            # Label Studio takes imported annotations for the ground truth if they do not say no
            {"annotations": [{"result": regions, "ground_truth": False}]}
            if annotations
            else {"predictions": [{"result": regions, "score": score, "model_version": version}]}
        )
        data = {MARK: told.to_json()}
        return Draft(self._segmenter.latent(seed), found.image, data, about)

    def _segmented(self, seed: int) -> Segmentation:
        self._check()
        return self._cache.get(seed, lambda: self._segmenter.segment_seed(seed))
