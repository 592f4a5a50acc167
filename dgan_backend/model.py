"""The model class of label-studio-ml, which works under its 1.0.9 and its 2.x base class.

Neither version's own server is used (see server.py), but the class runs in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from label_studio_ml.model import LabelStudioMLBase

from dgan_backend.labelstudio.project import open_project
from dgan_backend.predictor import Predictor
from dgan_backend.registry import Registry
from dgan_backend.settings import Settings

_BASE_IS_2 = "project_id" in inspect.signature(LabelStudioMLBase.__init__).parameters


@lru_cache(maxsize=1)
def shared_predictor() -> Predictor:
    """The predictor of a process that was not given one, with settings from the environment."""
    settings = Settings.from_env()
    return Predictor(settings, Registry.of(settings))


class DganModel(LabelStudioMLBase):
    """One project's model. Cheap to make: label-studio-ml makes one for each request, and the
    weights live in the predictor's registry.
    """

    def __init__(
        self,
        project_id: object = None,
        label_config: str | None = None,
        train_output: Mapping[str, Any] | None = None,
        predictor: Predictor | None = None,
        **kwargs: Any,
    ) -> None:
        """kwargs: `extra_params`, `hostname` and `access_token` as /setup gets them."""
        self._predictor = predictor or shared_predictor()
        self._fields = (project_id, label_config)
        self._access = (kwargs.get("hostname", ""), kwargs.get("access_token", ""))
        self._open(kwargs.get("extra_params"))
        if self._project.binding is None:
            label_config = None  # the base classes cannot read it either, and would raise
        if _BASE_IS_2:
            super().__init__(project_id=project_id, label_config=label_config)
            if not kwargs.get("extra_params"):
                self._open(self.extra_params)  # kept by the base class
        else:
            super().__init__(label_config=label_config, train_output=train_output, **kwargs)

    def _open(self, extra_params: object) -> None:
        self._project = open_project(*self._fields, extra_params, *self._access)
        self._version = self._predictor.version(self._project)

    @property
    def problem(self) -> str:
        """Why the project cannot be used and what to do about it; empty when it can."""
        return self._project.problem

    @property
    def model_version(self) -> str:
        return self._version

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """One prediction a task, in order; see `Predictor.predict`.

        With a context, which comes with one task, what a person points at: see `answer_task`.
        """
        if context and len(tasks) == 1:
            return [self.answer_task(tasks[0], context)]
        return [self.predict_task(task) for task in tasks]

    def predict_task(self, task: object) -> dict[str, Any]:
        """A prediction for one task; never raises."""
        return self._predictor.predict(self._project, self._version, task)

    def answer_task(self, task: object, context: object) -> dict[str, Any]:
        """The parts that a person points at with a smart tool; never raises."""
        return self._predictor.answer(self._project, self._version, task, context)

    def unanswered(self, task: object) -> dict[str, Any]:
        """The entry of a task that was not reached in time, for a person with a smart tool."""
        return self._predictor.unanswered(self._project, self._version, task)

    def postponed(self, task: object, job: bool = False) -> dict[str, Any]:
        """The entry of a task that was not reached in time. job: one will label it."""
        if job:
            return self._predictor.placeholder(self._project, task)
        return self._predictor.postponed(self._project, self._version, task)

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Does nothing: the web process never trains (1.0.9 calls it with tasks, 2.x with event
        and data).
        """
        return {}

    # The 2.x base class keeps these in a cache and its server reads them from there.

    def get(self, key: str) -> Any:
        return self._version if key == "model_version" else super().get(key)

    def set_extra_params(self, extra_params: object) -> None:
        super().set_extra_params(extra_params)
        self._open(extra_params)
