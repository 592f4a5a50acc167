"""Seed tasks: sampled pictures without labels, for a project that nothing is known of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from dgan_backend.errors import DganError
from dgan_backend.fitting import Progress
from dgan_backend.generators import Generator
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.corrections import MARK
from dgan_backend.labelstudio.project import Project
from dgan_backend.pictures import to_pictures
from dgan_backend.records import SeedLatent
from dgan_backend.synthesis.batch import Batch, Mark
from dgan_backend.synthesis.choice import free_seeds
from dgan_backend.synthesis.coverage import covering_seeds
from dgan_backend.synthesis.importing import Draft, import_drafts
from dgan_backend.synthesis.inventory import Inventory

POOL = 4096  # samples that seed tasks are chosen from


def seed_batch(generator_id: str, count: int) -> Batch:
    return Batch("seed", generator_id, count)


def seeds_wanted(project: Project, trained: bool, inventory: Inventory) -> int:
    """How many seed tasks a project is to have in all.

    What the extra params say; else as many as its partonomy needs labeled, if the project is not
    trained and has no tasks but seed tasks (of a push that was killed).
    """
    asked = project.options.seed_tasks
    if asked is not None:
        return asked
    assert project.binding is not None
    others = inventory.tasks - sum(made.mark.kind == "seed" for made in inventory)
    return 0 if trained or others else project.binding.partonomy.labels_needed


def push_seeds(
    site: LabelStudioClient,
    project: Project,
    generator: Generator,
    count: int,
    inventory: Inventory,
    check: Callable[[], None] = lambda: None,
    progress: Progress = lambda name, steps: steps,
) -> int:
    """Create what lacks of `count` seed tasks; how many. inventory: of the project itself."""
    if project.binding is None or project.number is None:
        raise DganError(project.problem or "A project without a number gets no tasks.")
    batch = seed_batch(generator.id, count)
    there = {made.seed for made in inventory if made.mark.kind == "seed"}
    missing = count - len(there)
    if missing <= 0:
        return 0
    taken = inventory.seeds.get(generator.id, set()) - there
    pool = free_seeds(0, max(POOL, 2 * count), taken)
    chosen = [seed for seed in covering_seeds(generator, count, pool) if seed not in there]

    def drafts() -> Iterator[Draft]:
        for seed in progress("creating seed tasks", chosen[:missing]):
            yield _draft(generator, batch, seed)

    key = project.binding.config.image_key
    return import_drafts(site, project.number, key, drafts(), check)


@torch.inference_mode()
def _draft(generator: Generator, batch: Batch, seed: int) -> Draft:
    latent = SeedLatent(generator.id, seed, generator.card.truncation)
    w = generator.mapping(generator.latent_from_seed(seed), truncation=latent.truncation)
    picture = to_pictures(generator.synthesis(w).images)[0]
    return Draft(latent, picture, {MARK: Mark("seed", batch.name).to_json()})
