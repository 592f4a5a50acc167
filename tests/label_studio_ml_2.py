"""A stand-in for `label_studio_ml.model` of label-studio-ml 2.x, which is not on PyPI.

Signatures, properties and cache as in HumanSignal/label-studio-ml-backend (Apache-2.0), 2026-08;
`setup` and `predict` below do what its server does with the two requests.
"""

from __future__ import annotations

import json
from typing import Any

CACHE: dict[tuple[str, str], str] = {}


class LabelStudioMLBase:
    INITIAL_MODEL_VERSION = "0.0.1"

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.use_label_config(label_config)
        if not self.model_version:
            self.set("model_version", self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None:
        pass

    def use_label_config(self, label_config: str) -> None:
        self.set("label_config", label_config)

    def set_extra_params(self, extra_params: str) -> None:
        self.set("extra_params", extra_params)

    @property
    def extra_params(self) -> dict:
        params = self.get("extra_params")
        return json.loads(params) if params else {}

    def get(self, key: str) -> str | None:
        return CACHE.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError("the cache keeps strings")
        CACHE[self.project_id, key] = value

    @property
    def label_config(self) -> str | None:
        return self.get("label_config")

    @property
    def model_version(self) -> str | None:
        return self.get("model_version")

    def predict(self, tasks: list[dict], context: dict | None = None, **kwargs: Any) -> Any:
        raise NotImplementedError

    def fit(self, event: str, data: dict, **additional_params: Any) -> Any:
        raise NotImplementedError


def setup(model_class: type, body: dict) -> dict:
    model = model_class(project_id=body["project"].split(".", 1)[0], label_config=body["schema"])
    if body.get("extra_params"):
        model.set_extra_params(json.dumps(body["extra_params"]))
    return {"model_version": model.get("model_version")}


def predict(model_class: type, body: dict) -> dict:
    model = model_class(
        project_id=body["project"].split(".", 1)[0], label_config=body["label_config"]
    )
    return {"results": model.predict(body["tasks"], context=body["params"].pop("context", None))}
