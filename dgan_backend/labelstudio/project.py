"""What Label Studio says about a project with each request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.config import parse_config

_UID = r"\d{1,18}(\.\d{1,18})?"  # it becomes part of names of files


@dataclass(frozen=True)
class Options:
    """What the extra params say beside the partonomy.

    ignore_bare: bare pixels of a submitted annotation are ignored, not background
    (`"unlabeled": "ignore"`). generator: that a project with labels of its own uses.
    seed_tasks: sampled pictures to begin a project with; None = as many as its partonomy needs,
    if it is untrained and empty. synthetic_per_version: sampled,
    labeled tasks that are made after each new version. same_project: where those go.
    """

    ignore_bare: bool = False
    generator: str = ""
    seed_tasks: int | None = None
    synthetic_per_version: int = 0
    same_project: bool = False

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Options:
        """Raises DganError that names the param at fault."""
        unlabeled = params.get("unlabeled", "background")
        if unlabeled not in ("background", "ignore"):
            raise DganError(
                f'The extra param "unlabeled" is {unlabeled!r}; it is "background" (bare pixels '
                'of a submitted annotation are background) or "ignore".'
            )
        generator = params.get("generator", "")
        if not isinstance(generator, str):
            raise DganError(f'The extra param "generator" must be a name, not {generator!r}.')
        same_project = params.get("same_project", False)
        if not isinstance(same_project, bool):
            raise DganError(
                f'The extra param "same_project" is {same_project!r}; give true or false.'
            )
        return cls(
            ignore_bare=unlabeled == "ignore",
            generator=generator,
            seed_tasks=_count(params, "seed_tasks", 1000) if "seed_tasks" in params else None,
            synthetic_per_version=_count(params, "synthetic_per_version", 10_000),
            same_project=same_project,
        )


def _count(params: Mapping[str, Any], key: str, most: int) -> int:
    value = params.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise DganError(f'The extra param "{key}" is {value!r}; give a whole number, 0 to {most}.')
    return value


@dataclass(frozen=True)
class Project:
    """A project and what its labels mean.

    number:  its id, None where Label Studio does not say
    binding: None when the labeling config or the extra params cannot be used; then `problem`
             says why and what to do
    hostname, access_token: Label Studio's address and its creator's legacy token, from /setup
    uid: `"<id>.<creation time>"`, which tells projects of the same id in different places apart;
         empty where Label Studio does not say
    options: from the extra params
    """

    number: int | None
    binding: Binding | None
    problem: str = ""
    hostname: str = ""
    access_token: str = field(default="", repr=False)
    uid: str = ""
    options: Options = field(default_factory=lambda: Options())

    @property
    def name(self) -> str:
        return "project" if self.number is None else f"project-{self.number}"


def open_project(
    uid: object,
    label_config: object,
    extra_params: object = None,
    hostname: object = "",
    access_token: object = "",
) -> Project:
    """A project from the fields of a request, which are checked here.

    uid: `"<id>.<creation time>"` as Label Studio sends it, or the id
    """
    number = project_number(uid)
    url = site_url(hostname)
    token = access_token if isinstance(access_token, str) else ""
    try:
        config = parse_config(label_config if isinstance(label_config, str) else "")
        params = read_extra_params(extra_params)
        binding, options = bind(config, number, params), Options.read(params)
    except DganError as error:
        return Project(number, None, str(error), url, token, _uid(uid))
    return Project(number, binding, "", url, token, _uid(uid), options)


def _uid(uid: object) -> str:
    return uid if isinstance(uid, str) and "." in uid and re.fullmatch(_UID, uid, re.ASCII) else ""


def project_uid(about: Mapping[str, Any]) -> str:
    """The uid that /setup gives a project, from what the API or a webhook tells of it."""
    try:
        created = datetime.fromisoformat(str(about.get("created_at")).replace("Z", "+00:00"))
        seconds = int(created.timestamp())
    except (ValueError, OverflowError):
        seconds = 0
    return f"{about.get('id')}.{seconds}"


def project_number(uid: object) -> int | None:
    """17 of "17.1795491060", "17" or 17; None when there is no number."""
    text = str(uid if uid is not None else "")
    return int(text.partition(".")[0]) if re.fullmatch(_UID, text, re.ASCII) else None


def is_project(uid: str, about: Mapping[str, Any]) -> bool:
    """Whether the project that the API tells of is the one of that uid: another one may have its
    number by now, or in another Label Studio. What has no time of creation may be any."""
    found = project_uid(about)
    created, now = uid.partition(".")[2], found.partition(".")[2]
    return created in ("", "0") or now == "0" or found == uid


def site_url(hostname: object) -> str:
    """Label Studio's address without a slash at its end; empty when it is no http(s) URL.

    Paths are appended to it, so it has nothing behind its own path.
    """
    try:
        url = httpx.URL(hostname) if isinstance(hostname, str) else httpx.URL("")
    except (httpx.InvalidURL, UnicodeError):
        return ""
    if url.scheme not in ("http", "https") or not url.host:
        return ""
    return str(url.copy_with(query=None, fragment=None)).rstrip("/")


def read_extra_params(value: object) -> Mapping[str, Any]:
    """The extra params, which Label Studio stores as JSON; raises DganError if no object."""
    if value in (None, ""):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DganError(f"The extra params are not valid JSON: {error}.") from error
    if not isinstance(value, Mapping):
        raise DganError(f"The extra params must be an object like {{}}, not {value!r:.80}.")
    return value
