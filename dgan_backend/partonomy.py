"""The tree of parts of an object; any node with an index is a class, class 0 is background."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from dgan_backend.errors import DganError

BACKGROUND = "background"
MAX_CLASSES = 255  # a mask is uint8, and 255 marks a pixel to ignore
_SHIPPED = (Path(__file__).parent / "partonomies", Path(__file__).parent.parent / "partonomies")


@dataclass(frozen=True)
class Part:
    """One node: `index` is None for a node that only groups; `parent` is a part's name or None."""

    name: str
    index: int | None
    parent: str | None = None
    color: str = "#808080"
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Partonomy:
    """A named tree of parts.

    `generator` names the generator of this domain ("" when none is known); `labels_needed` is
    how many labeled pictures a first fit wants.
    """

    name: str
    parts: tuple[Part, ...]
    title: str = ""
    generator: str = ""
    labels_needed: int = 16

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        indexed = {part.index: part.name for part in self.parts if part.index is not None}
        return tuple(indexed[i] for i in range(len(indexed)))

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """[K, 3] uint8 RGB, one colour a class."""
        colors = {part.index: part.color for part in self.parts}
        rows = [[int(colors[i][k : k + 2], 16) for k in (1, 3, 5)] for i in range(self.num_classes)]
        return np.array(rows, dtype=np.uint8)

    @cached_property
    def _by_name(self) -> dict[str, Part]:
        return {part.name: part for part in self.parts}

    @cached_property
    def _by_label(self) -> dict[str, Part]:
        found: dict[str, Part] = {}
        for part in self.parts:
            path = "/".join([*reversed(self.ancestors(part.name)), part.name])
            for label in (part.name, path, *part.aliases):
                found[normalize_label(label)] = part
        return found

    def part(self, name: str) -> Part:
        """The part of that exact name; raises KeyError."""
        return self._by_name[name]

    def find(self, label: str) -> Part | None:
        """The part that a label means: its name, path or alias, in any case.

        A path may leave ancestors out: `eye/iris` and `head/iris` are `head/face/eye/iris`.
        """
        found = self._by_label.get(normalize_label(label))
        if found is not None or "/" not in label:
            return found
        *path, last = label.split("/")
        part = self._by_label.get(normalize_label(last))
        if part is None:
            return None
        ancestors = iter([normalize_label(name) for name in reversed(self.ancestors(part.name))])
        in_order = all(normalize_label(name) in ancestors for name in path)
        return part if in_order else None

    def ancestors(self, name: str) -> list[str]:
        """Names from the parent up to the root."""
        chain = []
        parent = self._by_name[name].parent
        while parent is not None:
            chain.append(parent)
            parent = self._by_name[parent].parent
        return chain

    def depth(self, name: str) -> int:
        return len(self.ancestors(name))

    @cached_property
    def descends(self) -> npt.NDArray[np.bool_]:
        """[K, K] bool; `descends[a, b]`: class a is a part (of a part ...) of class b."""
        above = [set(self.ancestors(name)) for name in self.classes]
        return np.array([[b in chain for b in self.classes] for chain in above], dtype=bool)

    def class_order(self) -> list[int]:
        """Class indices, parents before their parts, background left out."""
        named = [part for part in self.parts if part.index]
        return [part.index or 0 for part in sorted(named, key=lambda p: self.depth(p.name))]

    def to_json(self) -> dict[str, Any]:
        """A flat description that `from_json` reads back."""
        return {
            "name": self.name,
            "title": self.title,
            "generator": self.generator,
            "labels_needed": self.labels_needed,
            "parts": [
                {
                    "name": part.name,
                    "index": part.index,
                    "parent": part.parent,
                    "color": part.color,
                    "aliases": list(part.aliases),
                }
                for part in self.parts
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Partonomy:
        """Read what `to_json` wrote; raises DganError when it is not a partonomy."""
        try:
            parts = tuple(
                Part(p["name"], p["index"], p["parent"], p["color"], tuple(p["aliases"]))
                for p in value["parts"]
            )
            return cls(
                value["name"], parts, value["title"], value["generator"], value["labels_needed"]
            )
        except (KeyError, TypeError) as error:
            raise DganError(f"This is not a stored partonomy: {error!r}.") from error


def normalize_label(label: str) -> str:
    """Labels are compared without case, and with `_`, `-` and spaces alike."""
    return re.sub(r"[\s_\-]+", " ", label).strip().lower()


def class_color(index: int) -> str:
    """A colour for class `index` that can be told from its neighbours (golden-ratio hues)."""
    hue = (index * 0.61803398875) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 if index % 2 else 0.5, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def from_labels(
    name: str,
    labels: Iterable[str],
    parents: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
    generator: str = "",
) -> Partonomy:
    """Make a partonomy of a project's own labels, in their order.

    labels: as in the labeling config; `parent/child` gives the tree, and so does `parents`
    (label -> the label of its parent). A parent that is no label only groups.
    Every label becomes a class whose name is the whole label; `background` takes class 0.
    """
    own = [label for label in dict.fromkeys(labels) if label.strip()]
    background = next((x for x in own if normalize_label(x) == BACKGROUND), BACKGROUND)
    own = [label for label in own if label != background]
    parts = [Part(background, 0, None, "#000000")]
    known = {label: (parents or {}).get(label) or _path_parent(label) for label in own}
    groups = [p for p in dict.fromkeys(known.values()) if p is not None and p not in known]
    while groups:
        group = groups.pop(0)
        known[group] = _path_parent(group)
        if known[group] is not None and known[group] not in known:
            groups.append(str(known[group]))
    for label, parent in known.items():
        index = own.index(label) + 1 if label in own else None
        color = (colors or {}).get(label, "")
        valid = re.fullmatch(r"#[0-9a-fA-F]{6}", color)
        parts.append(Part(label, index, parent, color if valid else class_color(index or 0)))
    return Partonomy(name, tuple(parts), title=name, generator=generator)


def shipped_partonomies() -> list[str]:
    """Names of the partonomies that come with the package."""
    return sorted(path.stem for path in _shipped_folder().glob("*.yaml"))


def load_partonomy(name: str | Path) -> Partonomy:
    """Load a shipped partonomy by name, or a YAML file by its path.

    Raises DganError that names the file and what is wrong with it.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = _shipped_folder() / f"{name}.yaml"
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(shipped_partonomies())
        raise DganError(f"There is no partonomy {str(name)!r}; shipped are: {known}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DganError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(value, Mapping) or not isinstance(value.get("parts"), list):
        raise DganError(f"{path} needs a `name` and a list of `parts`.")
    try:
        parts = tuple(_read_parts(value["parts"], None))
        return Partonomy(
            str(value.get("name", path.stem)),
            parts,
            title=str(value.get("title", "")),
            generator=str(value.get("generator", "")),
            labels_needed=int(value.get("labels_needed", 16)),
        )
    except (DganError, ValueError) as error:
        raise DganError(f"{path}: {error}") from error


def _read_parts(values: Iterable[Any], parent: str | None) -> Iterable[Part]:
    for value in values:
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise DganError(f"every part needs a name; found {value!r}.")
        index = value.get("index")
        color = str(value.get("color") or class_color(index if isinstance(index, int) else 0))
        yield Part(value["name"], index, parent, color, tuple(value.get("aliases", ())))
        yield from _read_parts(value.get("children", ()), value["name"])


def _path_parent(label: str) -> str | None:
    return label.rpartition("/")[0].strip() or None


def _shipped_folder() -> Path:
    return next((folder for folder in _SHIPPED if folder.is_dir()), _SHIPPED[0])


def _check(partonomy: Partonomy) -> None:
    names = [part.name for part in partonomy.parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DganError(f"partonomy {partonomy.name!r} names {', '.join(twice)} more than once.")
    for part in partonomy.parts:
        if part.parent is not None and part.parent not in names:
            raise DganError(f"part {part.name!r} has an unknown parent {part.parent!r}.")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", part.color):
            raise DganError(f"part {part.name!r}: {part.color!r} is no colour like #12ab34.")
        _check_no_cycle(partonomy, part)
        if part.index is not None and type(part.index) is not int:
            raise DganError(f"part {part.name!r}: index {part.index!r} is no whole number.")
    indices = sorted(part.index for part in partonomy.parts if part.index is not None)
    if indices != list(range(len(indices))) or not indices:
        raise DganError(
            f"partonomy {partonomy.name!r}: class indices must be 0, 1, 2 ... without gaps, "
            f"not {indices}."
        )
    if len(indices) > MAX_CLASSES:
        raise DganError(f"partonomy {partonomy.name!r} has over {MAX_CLASSES} classes.")


def _check_no_cycle(partonomy: Partonomy, part: Part) -> None:
    parents = {p.name: p.parent for p in partonomy.parts}
    seen = {part.name}
    parent = part.parent
    while parent is not None:
        if parent in seen:
            raise DganError(f"part {part.name!r} is its own ancestor.")
        seen.add(parent)
        parent = parents.get(parent)
