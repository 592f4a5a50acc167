"""What a project in Label Studio has of sampled pictures already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dgan_backend.labelstudio.client import LabelStudioClient, TaskSummary
from dgan_backend.synthesis.batch import Batch, Mark, latent_of


@dataclass(frozen=True)
class Made:
    """A task that a push made."""

    task: TaskSummary
    mark: Mark
    seed: int
    generator: str


@dataclass(frozen=True)
class Inventory:
    """made: tasks of pushes. seeds: by generator, those of all sampled pictures, also of such
    that somebody imported otherwise. tasks: how many there are in all."""

    made: tuple[Made, ...]
    seeds: dict[str, set[int]]
    tasks: int

    @classmethod
    def of(cls, site: LabelStudioClient, project: int) -> Inventory:
        made, seeds, tasks = [], dict[str, set[int]](), 0
        for task in site.summaries(project):
            tasks += 1
            latent, mark = latent_of(task.data), Mark.of(task.data)
            if latent is None:
                continue
            seeds.setdefault(latent.generator, set()).add(latent.seed)
            if mark is not None:
                made.append(Made(task, mark, latent.seed, latent.generator))
        return cls(tuple(made), seeds, tasks)

    def batch(self, name: str) -> list[Made]:
        return [made for made in self.made if made.mark.batch == name]

    def names(self) -> list[str]:
        """Of all batches, sorted."""
        return sorted({made.mark.batch for made in self.made})

    def taken(self, generator: str, batch: Batch) -> set[int]:
        """Seeds of pictures that came otherwise than with that batch."""
        own = {made.seed for made in self.batch(batch.name) if made.generator == generator}
        return self.seeds.get(generator, set()) - own

    def __iter__(self) -> Iterator[Made]:
        return iter(self.made)
