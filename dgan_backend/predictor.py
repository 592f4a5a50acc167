"""One task in, one prediction out: what all models of a process share."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dgan_backend.errors import DganError, PassingError, TaskError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.images import load_image
from dgan_backend.labelstudio.project import Project
from dgan_backend.labelstudio.regions import to_regions
from dgan_backend.records import SeedLatent, Segmentation, version_name
from dgan_backend.settings import Settings

if TYPE_CHECKING:
    from dgan_backend.registry import Registry
    from dgan_backend.segmenter import Segmenter

log = logging.getLogger(__name__)

_MAX_SITES = 32
_SPECKS = 20_000  # polygons leave out islands below this fraction of the picture


class Predictor:
    """Predicts tasks with the versions of a registry. Safe to use from many threads.

    Pictures are fetched side by side, but one at a time is computed: torch uses all its threads
    for each.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._compute = threading.Lock()
        self._sites: dict[tuple[str, str], LabelStudioClient] = {}
        self._sites_lock = threading.Lock()
        self._failures: deque[dict[str, Any]] = deque(maxlen=500)
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
        current = self._registry.current(partonomy, project.number)
        return current or f"{partonomy.name}-untrained"

    def predict(self, project: Project, version: str, task: object) -> dict[str, Any]:
        """A prediction for one task; never raises.

        `{"result": [regions], "score": float in [0, 1], "model_version": version}`; a task that
        cannot be labeled gets no regions, score 0 and a `reason`; one whose picture is out of
        reach for now gets no `result` at all, so that Label Studio asks for it again.
        """
        try:
            return self._predict(project, version, task)
        except PassingError as error:
            return self._without_result(project, version, task, str(error))
        except TaskError as error:
            reason = str(error)
        except DganError as error:
            reason = f"Task {task_id(task)}: {error}"
        except Exception:
            log.exception("Task %s failed", task_id(task))
            reason = f"Task {task_id(task)}: the backend failed on it; its log says where."
        log.warning("Project %s: %s", project.number, reason)
        self._remember(project, task, reason)
        return {"result": [], "score": 0.0, "model_version": version, "reason": reason}

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
        log.warning("Project %s: %s", project.number, reason)
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
        binding = project.binding
        if binding is None:
            raise DganError(project.problem)
        if not isinstance(task, Mapping):
            raise DganError(f"A task must be an object with id and data, not {task!r:.80}.")
        partonomy = binding.partonomy
        if self._registry.current(partonomy, project.number) is None:
            first = version_name(partonomy.name, project.number, 1)
            if partonomy.wanted and not partonomy.generator:
                raise DganError(partonomy.missing_generator(first))
            raise DganError(
                f"The parts of {project.name} are not trained yet, and this release does not "
                "train from inside Label Studio; fit a version with `dgan-backend fit --out "
                f"MODEL_DIR/{first}`."
            )
        segmenter = self._registry.segmenter(version)
        segmentation = self._segment(segmenter, project, task)
        height, width = segmentation.labels.shape
        regions = to_regions(
            segmentation.labels,
            segmentation.uncertainty,
            binding.to(segmenter.partonomy),
            max_uncertainty=segmentation.bound,
            min_area=height * width // _SPECKS,
        )
        score = round(float(segmentation.score), 4)
        return {"result": regions, "score": score, "model_version": version}

    def _segment(
        self, segmenter: Segmenter, project: Project, task: Mapping[str, Any]
    ) -> Segmentation:
        latent = _latent(task, segmenter.generator.id)
        if latent is not None:
            with self._compute:
                return segmenter.segment_seed(latent.seed, truncation=latent.truncation)
        assert project.binding is not None
        image = load_image(
            task,
            project.binding.config.image_key,
            self._site(project),
            self._settings.allowed_image_hosts,
        )
        with self._compute:
            return segmenter.segment_image(image)

    def _site(self, project: Project) -> LabelStudioClient | None:
        """The project's Label Studio: the one in the settings, else the one /setup named.

        The API key goes only to LABEL_STUDIO_URL; anybody who reaches the backend could name
        another host in /setup.
        """
        named = self._settings.label_studio_url
        url = named or project.hostname
        token = (named and self._settings.label_studio_api_key) or project.access_token
        if not url:
            return None
        with self._sites_lock:
            if (url, token) not in self._sites:
                if len(self._sites) >= _MAX_SITES:
                    self._sites.clear()
                self._sites[url, token] = LabelStudioClient(url, token, trusted=bool(named))
            return self._sites[url, token]


def task_id(task: object) -> Any:
    return task.get("id") if isinstance(task, Mapping) else None


def _latent(task: Mapping[str, Any], generator: str) -> SeedLatent | None:
    """The latent of a task that this generator sampled; None for all other pictures."""
    data = task.get("data")
    value = data.get("latent") if isinstance(data, Mapping) else None
    if not isinstance(value, Mapping) or value.get("generator") != generator:
        return None
    try:
        return SeedLatent.from_json(value)
    except DganError as error:
        log.warning("Task %s: %s Its picture is inverted instead.", task.get("id"), error)
        return None
