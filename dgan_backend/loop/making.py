"""What the loop makes by itself: seed tasks to begin with, synthetic tasks after each version."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dgan_backend.errors import DganError
from dgan_backend.fitting import Progress
from dgan_backend.generators import Generator, load_generator
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.project import Project
from dgan_backend.loop.starting import starting_generator
from dgan_backend.registry import Registry
from dgan_backend.synthesis.inventory import Inventory
from dgan_backend.synthesis.pushing import Order, Pusher
from dgan_backend.synthesis.seeding import push_seeds, seeds_wanted

log = logging.getLogger(__name__)


class Maker:
    """Makes tasks in one project. complain: told what people should read of.

    check: called before each sample and before anything is written; raises when this process has
    to stop.
    """

    def __init__(
        self,
        registry: Registry,
        site: LabelStudioClient,
        project: Project,
        *,
        device: str = "cpu",
        complain: Callable[[str], None] = lambda text: None,
        check: Callable[[], None] = lambda: None,
        progress: Progress = lambda name, steps: steps,
    ) -> None:
        if project.binding is None or project.number is None:
            raise DganError(project.problem or "A project without a number gets no tasks.")
        self._registry, self._site, self._project = registry, site, project
        self._number, self._partonomy = project.number, project.binding.partonomy
        self._device, self._complain = device, complain
        self._check, self._progress = check, progress

    def seeds(self) -> int:
        """The seed tasks that the project is to have and has not; how many were made."""
        project = self._project
        if project.options.seed_tasks == 0:
            return 0
        version = self._registry.current(self._partonomy, self._number, project.uid)
        if version is not None and project.options.seed_tasks is None:
            return 0
        inventory = Inventory.of(self._site, self._number)
        wanted = seeds_wanted(project, version is not None, inventory)
        if not wanted:
            return 0
        try:
            generator = (
                load_generator(starting_generator(project), self._device)
                if version is None
                else self._registry.segmenter(version).generator
            )
        except DganError as error:  # it will be no better the next time
            log.warning("%s: no seed tasks: %s", project.name, error)
            self._complain(f"No pictures to begin with could be made: {error}")
            return 0
        made = push_seeds(
            self._site, project, generator, wanted, inventory, self._check, self._progress
        )
        self._caution(generator, made)
        log.info("%s: %d seed tasks of %s", project.name, made, generator.id)
        return made

    def synthetic(self, version: str) -> int:
        """The synthetic tasks that the extra params ask for after each version."""
        options = self._project.options
        if not options.synthetic_per_version:
            return 0
        segmenter = self._registry.segmenter(version)
        pusher = Pusher(self._site, self._project, segmenter, self._check, self._progress)
        order = Order(options.synthetic_per_version, same_project=options.same_project)
        pushed = pusher.push(order)
        self._caution(segmenter.generator, pushed.created)
        log.info(
            "%s: batch %s: %d tasks made in project %d, %d were there",
            self._project.name,
            pushed.batch,
            pushed.created,
            pushed.target,
            pushed.there,
        )
        return pushed.created

    def _caution(self, generator: Generator, made: int) -> None:
        """Tell people what licence the pictures that were made come under."""
        if made and generator.card.caution:
            self._complain(f"Of the {made} pictures made: {generator.card.caution}")
