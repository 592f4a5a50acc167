"""What was measured so far, in one JSON file that is written after each cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.generators.native import write_json


class Kept:
    """Groups of named cells, each with the `key` of all that it depends on.

    Raises DganError when the file holds something else.
    """

    def __init__(self, path: Path, form: str, groups: Sequence[str]) -> None:
        self.path = path
        self.value: dict[str, Any] = {"format": form, **{group: {} for group in groups}}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            try:
                self.value = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                self.value = {}
            if not _is_kept(self.value, form, groups):
                raise DganError(f"{path} holds no results of this kind; choose another file.")

    def found(self, group: str, name: str, key: str) -> dict[str, Any] | None:
        """What was kept under that name, if it depends on the same things."""
        kept: dict[str, Any] | None = self.value[group].get(name)
        return kept if kept is not None and kept["key"] == key else None

    def keep(self, group: str, name: str, found: Any) -> None:
        self.value.setdefault(group, {})[name] = found
        self.write()

    def write(self) -> None:
        write_json(self.path, self.value)


def _is_kept(value: Any, form: str, groups: Sequence[str]) -> bool:
    return (
        isinstance(value, dict)
        and value.get("format") == form
        and all(isinstance(value.get(group), dict) for group in groups)
    )
