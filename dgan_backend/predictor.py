"""One task in, one prediction out: what all models of a process share."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from dgan_backend.errors import DamagedError, DganError, PassingError, TaskError
from dgan_backend.interactive import regions_at
from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.images import load_image
from dgan_backend.labelstudio.project import Project
from dgan_backend.labelstudio.prompts import drawn_on, read_prompts
from dgan_backend.labelstudio.regions import SPECKS, regions_of
from dgan_backend.labelstudio.sites import Sites
from dgan_backend.logs import Sparing
from dgan_backend.records import PENDING, SeedLatent, Segmentation, task_number, version_name
from dgan_backend.segmentation_cache import SegmentationCache
from dgan_backend.settings import Settings

if TYPE_CHECKING:
    from dgan_backend.registry import Registry
    from dgan_backend.segmenter import Segmenter

log = logging.getLogger(__name__)

_LONGEST = 1000  # characters of a reason; some tell what a task holds


class Predictor:
    """Predicts tasks with the versions of a registry. Safe to use from many threads.

    Pictures are fetched side by side, but one at a time is computed: torch uses all its threads
    for each.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._compute = threading.Lock()
        self.sites = Sites(settings)
        self._cache = SegmentationCache()
        self._failures: deque[dict[str, Any]] = deque(maxlen=500)
        self._told = Sparing()
        if settings.label_studio_api_key and not settings.label_studio_url:
            log.warning(
                "LABEL_STUDIO_API_KEY is not used, because LABEL_STUDIO_URL is not set: the key "
                "is only ever sent to a Label Studio that you named."
            )

    def version(self, project: Project) -> str:
        """The version that stands in /setup and in each prediction of the project."""
        if project.binding is None:
            return f"{project.name}-unusable"
        partonomy = project.binding.partonomy
        current = self._registry.current(partonomy, project.number, project.uid)
        return current or f"{partonomy.name}-untrained"

    def damaged(self, project: Project) -> list[str]:
        """Names of the project's versions that were put aside."""
        return [] if project.number is None else self._registry.damaged(project.number)

    def trained(self, project: Project) -> bool:
        """Whether there is a version that serves the project."""
        if project.binding is None:
            return False
        partonomy = project.binding.partonomy
        return self._registry.current(partonomy, project.number, project.uid) is not None

    def untrained(self, project: Project) -> str:
        """Why no version serves the project, and what to do; "" when one does."""
        if project.binding is None:
            return project.problem
        if self.trained(project):
            return ""
        partonomy = project.binding.partonomy
        first = version_name(partonomy.name, project.number, 1)
        if partonomy.wanted and not (partonomy.generator or project.options.generator):
            return partonomy.missing_generator(first)
        return (
            f"The parts of {project.name} are not trained yet; submit a few annotations, and the "
            f"first version, {first}, is trained from them."
        )

    def predict(self, project: Project, version: str, task: object) -> dict[str, Any]:
        """A prediction for one task; never raises.

        `{"result": [regions], "score": float in [0, 1], "model_version": version}`; a task that
        cannot be labeled gets no regions, score 0 and a `reason`; one whose picture is out of
        reach for now gets no `result` at all, so that Label Studio asks for it again. A version
        that turns out to be damaged is replaced by the one that serves then.
        """
        try:
            return self._predict(project, version, task)
        except DamagedError as error:
            log.error("Project %s: %s", project.number, error)
            if (now := self.version(project)) != version:
                return self.predict(project, now, task)
            return self._without_result(project, version, task, str(error))
        except PassingError as error:
            return self._without_result(project, version, task, str(error)[:_LONGEST])
        except Exception as error:
            reason = _reason(task, error)
        self._told(log.warning, "Project %s: %s", project.number, reason)
        self._remember(project, task, reason)
        return _nothing(version, reason)

    def answer(
        self, project: Project, version: str, task: object, context: object
    ) -> dict[str, Any]:
        """The parts of a task that a person points at with a smart tool; never raises.

        context: `{"result": [drawn regions]}`, see `read_prompts`
        `{"result": [regions], "score": their mean, "model_version": version}`; no regions, score 0
        and a `reason` where there is no part or the context cannot be used.
        """
        try:
            return self._answer(project, version, task, context)
        except DamagedError as error:
            if (now := self.version(project)) != version:
                return self.answer(project, now, task, context)
            reason = _reason(task, error)
        except Exception as error:
            reason = _reason(task, error)
        log.warning("Project %s, a smart tool: %s", project.number, reason)
        return _nothing(version, reason)

    def unanswered(self, project: Project, version: str, task: object) -> dict[str, Any]:
        """The entry of a task that a person pointed at and that was not reached in time."""
        reason = f"Task {task_id(task)} was not reached in time; point at the part again."
        log.warning("Project %s, a smart tool: %s", project.number, reason)
        return _nothing(version, reason)

    def placeholder(self, project: Project, task: object) -> dict[str, Any]:
        """The entry of a task that was not reached in time, and that a job will label."""
        reason = f"Task {task_id(task)} was not reached in time; it is labeled in a moment."
        self._told(log.info, "Project %s: %s", project.number, reason)
        return _nothing(PENDING, reason)

    def postponed(self, project: Project, version: str, task: object) -> dict[str, Any]:
        """The entry of a task that was not reached in time; it is asked for again."""
        reason = f"Task {task_id(task)} was not reached in time; retrieve predictions again."
        return self._without_result(project, version, task, reason)

    def _without_result(
        self, project: Project, version: str, task: object, reason: str
    ) -> dict[str, Any]:
        """The entry of a task that may be labeled later.

        It has no `result`, so Label Studio 1.23 logs the reason and stores nothing. An empty
        prediction with the current version would keep "Retrieve predictions" from ever asking
        for this task again.
        """
        self._told(log.warning, "Project %s: %s", project.number, reason)
        self._remember(project, task, reason)
        return {"score": 0.0, "model_version": version, "reason": reason}

    def failures(self) -> list[dict[str, Any]]:
        """The latest tasks that could not be labeled: project, task, reason, time (Unix s)."""
        return list(self._failures)

    def _remember(self, project: Project, task: object, reason: str) -> None:
        self._failures.append(
            {
                "project": project.number,
                "task": task_id(task),
                "reason": reason,
                "time": time.time(),
            }
        )

    def _predict(self, project: Project, version: str, task: object) -> dict[str, Any]:
        segmenter, binding = self._serving(project, version)
        segmentation = self._segment(segmenter, project, version, _checked(task), renew=True)
        score = round(float(segmentation.score), 4)
        return {
            "result": regions_of(segmentation, binding),
            "score": score,
            "model_version": version,
        }

    def _answer(
        self, project: Project, version: str, task: object, context: object
    ) -> dict[str, Any]:
        segmenter, binding = self._serving(project, version)
        task = _checked(task)
        drawn = drawn_on(context, binding)
        segmentation = self._segment(segmenter, project, version, task)
        if segmentation.labels.shape != drawn:  # another picture is there by now
            segmentation = self._segment(segmenter, project, version, task, renew=True)
        height, width = segmentation.labels.shape
        if (height, width) != drawn:
            raise DganError(
                f"its picture is {width} x {height}, but a region was drawn on {drawn[1]} x "
                f"{drawn[0]}; load the task again."
            )
        prompts = read_prompts(context, binding)
        regions = regions_at(segmentation, prompts, binding, height * width // SPECKS)
        if not regions:
            what = "there is no part at that place; point at one, or choose a label first."
            return _nothing(version, f"Task {task_id(task)}: {what}")
        score = sum(region["score"] for region in regions) / len(regions)
        return {"result": regions, "score": round(score, 4), "model_version": version}

    def _serving(self, project: Project, version: str) -> tuple[Segmenter, Binding]:
        """The version's segmenter and the project's labels on its tree; raises DganError when the
        project cannot be used or is not trained.
        """
        binding = project.binding
        problem = self.untrained(project)
        if problem or binding is None:
            raise DganError(problem)
        segmenter = self._registry.segmenter(version)
        return segmenter, binding.to(segmenter.partonomy)

    def _segment(
        self,
        segmenter: Segmenter,
        project: Project,
        version: str,
        task: Mapping[str, Any],
        renew: bool = False,
    ) -> Segmentation:
        """renew: also look at a picture that was segmented before; it may have been replaced."""
        latent = _latent(task, segmenter.generator.id)
        if latent is not None:
            return self._cache.get((version, latent), lambda: self._sampled(segmenter, latent))
        key = (version, *_picture(project, task))
        cached = self._cache.renew if renew else self._cache.get
        return cached(key, lambda: self._fetched(segmenter, project, task))

    def _sampled(self, segmenter: Segmenter, latent: SeedLatent) -> Segmentation:
        with self._compute:
            return segmenter.segment_seed(latent.seed, truncation=latent.truncation)

    def _fetched(
        self, segmenter: Segmenter, project: Project, task: Mapping[str, Any]
    ) -> Segmentation:
        assert project.binding is not None
        image = load_image(
            task,
            project.binding.config.image_key,
            self.sites.find(project),
            self._settings.allowed_image_hosts,
        )
        with self._compute:
            return segmenter.segment_image(image)


def _checked(task: object) -> Mapping[str, Any]:
    if not isinstance(task, Mapping):
        raise DganError(f"A task must be an object with id and data, not {task!r:.80}.")
    return task


def _nothing(version: str, reason: str) -> dict[str, Any]:
    return {"result": [], "score": 0.0, "model_version": version, "reason": reason}


def _reason(task: object, error: Exception) -> str:
    """Why a task got no regions; what was not foreseen goes to the log."""
    if isinstance(error, TaskError):
        return str(error)[:_LONGEST]
    if isinstance(error, DganError):
        return f"Task {task_id(task)}: {error}"[:_LONGEST]
    log.error("Task %s failed", task_id(task), exc_info=error)
    return f"Task {task_id(task)}: the backend failed on it; its log says where."


def _picture(project: Project, task: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """What tells a picture from all others. The token is in it: who cannot fetch a picture must
    not get the parts of somebody else's.
    """
    assert project.binding is not None
    data = task.get("data")
    place = data.get(project.binding.config.image_key) if isinstance(data, Mapping) else None
    digest = hashlib.sha256(repr(place).encode()).hexdigest()  # data URIs are long
    return (project.hostname, project.access_token, project.number, task_id(task), digest)


def task_id(task: object) -> int | None:
    """None where there is none that Label Studio could have given."""
    return task_number(task.get("id")) if isinstance(task, Mapping) else None


def _latent(task: Mapping[str, Any], generator: str) -> SeedLatent | None:
    """The latent of a task that this generator sampled; None for all other pictures."""
    data = task.get("data")
    value = data.get("latent") if isinstance(data, Mapping) else None
    if not isinstance(value, Mapping) or value.get("generator") != generator:
        return None
    try:
        return SeedLatent.from_json(value)
    except DganError as error:
        log.warning("Task %s: %s Its picture is inverted instead.", task_id(task), error)
        return None
