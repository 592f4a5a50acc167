"""YAML files whose values know their line, so that an error can name the one at fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dgan_backend.errors import DganError


@dataclass(frozen=True)
class Item:
    """A value and where it stands: `value` is a scalar, a dict of names to Items or a list of
    Items.
    """

    value: Any
    file: Path
    line: int

    def fault(self, message: str) -> DganError:
        """What to raise when this value is at fault."""
        return DganError(f"{self.file}, line {self.line}: {message}")

    def mapping(self, what: str) -> dict[str, Item]:
        if not isinstance(self.value, dict):
            raise self.fault(f"{what} must be a mapping (`key: value`), not {self.shown()}.")
        return self.value

    def fields(self, what: str, known: tuple[str, ...]) -> dict[str, Item]:
        """A mapping whose keys are all known; a misspelt one is an error, not a default."""
        found = self.mapping(what)
        for key, item in found.items():
            if key not in known:
                raise item.fault(f"{what} has no key {key!r}; known are {', '.join(known)}.")
        return found

    def sequence(self, what: str) -> list[Item]:
        if not isinstance(self.value, list):
            raise self.fault(f"{what} must be a list (`[a, b]`), not {self.shown()}.")
        return self.value

    def text(self, what: str) -> str:
        """Printable text, not empty, without spaces around it."""
        if not isinstance(self.value, str):
            quoted = "; put it in quotes" if not isinstance(self.value, (dict, list)) else ""
            raise self.fault(f"{what} must be text, not {self.shown()}{quoted}.")
        if not self.value.isprintable() or self.value != self.value.strip() or not self.value:
            raise self.fault(
                f"{what} must be one line of printable text without spaces around it, "
                f"not {self.shown()}."
            )
        return self.value

    def shown(self) -> str:
        """The value for a message, cut when it is long."""
        if isinstance(self.value, dict):
            return "a mapping"
        return "a list" if isinstance(self.value, list) else f"{self.value!r:.60}"


class _Loader(yaml.SafeLoader):
    """Refuses aliases: with them a small file can be a huge or an endless tree."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases are refused; write it out", problem_mark=mark
            )
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Item:
    """Read one YAML document. Scalars are those of YAML's safe schema; aliases are refused.

    Raises DganError that names the line, or FileNotFoundError.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        try:
            node = loader.get_single_node()
            return _item(loader, node, path) if node else Item(None, path, 1)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise DganError(f"{path}{line}: not valid YAML: {error.problem}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DganError(f"{path} is not valid YAML: {error}") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DganError(f"{path} cannot be read: {error.strerror}.") from error


_PYTHON = "tag:yaml.org,2002:python/"


def _item(loader: yaml.SafeLoader, node: yaml.Node, path: Path) -> Item:
    line = node.start_mark.line + 1
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith(_PYTHON):
        raise DganError(f"{path}, line {line}: the tag {node.tag!r} is refused; write it plainly.")
    if isinstance(node, yaml.MappingNode):
        return Item(dict(_pairs(loader, node, path)), path, line)
    if isinstance(node, yaml.SequenceNode):
        return Item([_item(loader, child, path) for child in node.value], path, line)
    try:
        return Item(loader.construct_object(node), path, line)
    except ValueError as error:
        raise DganError(
            f"{path}, line {line}: {node.value!r:.60} cannot be read: {error}"
        ) from error


def _pairs(
    loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path
) -> Iterator[tuple[str, Item]]:
    """The pairs of a mapping; an item's line is that of its key."""
    seen = set()
    for key_node, value_node in node.value:
        key = _item(loader, key_node, path)
        name = key.text("a key")
        if name in seen:
            raise key.fault(f"the key {name!r} stands here for the second time.")
        seen.add(name)
        value = _item(loader, value_node, path)
        yield name, Item(value.value, path, key.line)
