"""A project as Label Studio's /setup described it, in a form that workers can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import MAX_LENGTH
from dgan_backend.labelstudio.project import Project, open_project, project_number, project_uid
from dgan_backend.records import is_own_version

# What /setup tells, and how long its text may be.
_TOLD = {
    "project": 40,
    "schema": MAX_LENGTH,
    "hostname": 2000,
    "access_token": 8000,
    "extra_params": 100_000,
}


@dataclass(frozen=True)
class Connection:
    """uid: `"17.1795491060"`, number and time of creation, which tells installations apart.
    schema: the labeling config. hostname, access_token: Label Studio's address and the legacy
    token of the project's creator, which is in the vault and not in the JSON. extra_params: as
    Label Studio sent them."""

    uid: str
    schema: str
    hostname: str = ""
    access_token: str = field(default="", repr=False)
    extra_params: Any = None

    @classmethod
    def told(cls, body: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of the body of /setup; raises DganError for what is too large."""
        about = {key: body.get(key) for key in _TOLD}
        for key, most in _TOLD.items():
            if len(str(about[key] or "")) > most:
                raise DganError(f"`{key}` of /setup is over {most:,} characters long.")
        return about

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Connection:
        """From the body of /setup."""
        return cls(
            uid=str(body.get("project")),
            schema=str(body.get("schema") or ""),
            hostname=str(body.get("hostname") or ""),
            access_token=str(body.get("access_token") or ""),
            extra_params=body.get("extra_params"),
        )

    @classmethod
    def found(cls, site: LabelStudioClient, number: int) -> Connection:
        """As Label Studio's API has it; the extra params are those of the backend that serves a
        version of ours."""
        about = site.project(number)
        ours = (b for b in site.backends(number) if _is_ours(b, number))
        params = next((b.get("extra_params") for b in ours), None)
        return cls(project_uid(about), str(about.get("label_config") or ""), site.url, "", params)

    @property
    def number(self) -> int | None:
        return project_number(self.uid)

    def open(self) -> Project:
        return open_project(
            self.uid, self.schema, self.extra_params, self.hostname, self.access_token
        )

    def with_schema(self, schema: str) -> Connection:
        """With the labeling config as it is now, see `bounded`."""
        return replace(self, schema=bounded(schema))

    def without_token(self) -> Connection:
        """What may lie on Redis."""
        return replace(self, access_token="")

    def to_json(self) -> str:
        return json.dumps(asdict(self.without_token()))

    @classmethod
    def from_json(cls, text: str | bytes) -> Connection:
        return cls(**json.loads(text))


def bounded(schema: str) -> str:
    """A labeling config, or so much of it as tells that it is too long to be read."""
    return schema[: MAX_LENGTH + 1]


def _is_ours(backend: Mapping[str, Any], number: int) -> bool:
    return is_own_version(str(backend.get("model_version") or ""), number)
