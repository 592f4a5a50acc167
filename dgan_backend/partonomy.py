"""The tree of parts of an object; any node with an index is a class, class 0 is background."""

from __future__ import annotations

import colorsys
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.lined_yaml import Item, read_yaml
from dgan_backend.merging import Merge, merge_by_name

BACKGROUND = "background"
MAX_CLASSES = 255  # a mask is uint8, and 255 marks a pixel to ignore
DEFAULT_LABELS_NEEDED = 16
_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
_NAME = r"[A-Za-z0-9][\w.-]*"  # it becomes a part of folder names
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

    generator:     the generator of this domain, "" when none is known
    wanted:        what a generator of this domain makes, for those who must bring one
    labels_needed: how many labeled pictures a first fit wants
    merges:        coarser sets of classes, see `merge`
    """

    name: str
    parts: tuple[Part, ...]
    title: str = ""
    generator: str = ""
    labels_needed: int = DEFAULT_LABELS_NEEDED
    wanted: str = ""
    merges: tuple[Merge, ...] = ()

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
    def mirrored(self) -> tuple[int, ...] | None:
        """The class that each class becomes in a mirrored picture: `left` and `right` trade places.

        Words of the name tell (`left eye`, `LeftEye`, `l_eye`); None when a class has no
        counterpart (see `one_sided`), so that pictures must not be mirrored.
        """
        if self.one_sided:
            return None
        index = {_words(name): i for i, name in enumerate(self.classes)}
        return tuple(index.get(_other_side(name), i) for i, name in enumerate(self.classes))

    @cached_property
    def one_sided(self) -> tuple[str, ...]:
        """Classes that are named `left` or `right` and have no counterpart."""
        words = {_words(name): name for name in self.classes}
        return tuple(
            name
            for own, name in words.items()
            if {"left", "right"} & set(own) and _other_side(name) not in words
        )

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

    def named(self, name: str) -> Part | None:
        """The part of that exact name, or None."""
        return self._by_name.get(name)

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

    def merge(self, name: str, start: str = "") -> Merge:
        """A named merge of the file, from the partonomy's own classes on.

        With `start`, from the classes of that merge on: of `20 -> 12 -> 5`, the `12 -> 5`.
        """
        steps = {merge.name: merge for merge in self.merges}
        if name not in steps:
            known = ", ".join(steps) or "none"
            raise DganError(f"Partonomy {self.name!r} has no merge {name!r}; it has: {known}.")
        step = steps[name]
        if step.of == start:
            return step
        if not step.of:
            raise DganError(f"The merge {name!r} of {self.name!r} is not made of {start!r}.")
        return self.merge(step.of, start).then(step)

    def merge_into(self, *names: str) -> Merge:
        """Each part below one of these becomes it (the nearest one of several)."""
        for name in names:
            if name not in self._by_name:
                parts = ", ".join(part.name for part in self.parts)
                raise DganError(f"Partonomy {self.name!r} has no part {name!r}; it has: {parts}.")

        def nearest(part: str) -> str:
            return next((n for n in (part, *self.ancestors(part)) if n in names), part)

        return self._merge_by("into " + ", ".join(names), nearest)

    def merge_to_depth(self, depth: int) -> Merge:
        """Each part becomes its ancestor at that depth: 0 = at the top of the tree."""
        if depth < 0:
            raise DganError(f"A depth to merge to is 0 or more, not {depth}.")

        def above(part: str) -> str:
            chain = [part, *self.ancestors(part)][::-1]
            return chain[min(depth, len(chain) - 1)]

        return self._merge_by(f"depth {depth}", above)

    def _merge_by(self, name: str, become: Callable[[str], str]) -> Merge:
        return merge_by_name(name, self.classes, [become(part) for part in self.classes])

    def missing_generator(self, version: str) -> str:
        """Why nothing can be predicted, and what to do until `version` can be fitted."""
        return (
            f"No generator of {self.name!r} is at hand; it needs {self.wanted}. Bring one: "
            "`dgan-backend generator import FILE --out DIR` takes a checkpoint of another project, "
            "`dgan-backend generator train --images DIR --out RUN --name NAME` learns one from "
            'pictures. Then give {"generator": "its folder"} in the extra params of the model and '
            f"label {self.labels_needed} pictures, or fit labeled ones: `dgan-backend fit PAIRS "
            f"--generator FOLDER --partonomy {self.name} --out MODEL_DIR/{version}`."
        )

    def to_json(self) -> dict[str, Any]:
        """A flat description that `from_json` reads back."""
        return {
            "name": self.name,
            "title": self.title,
            "generator": self.generator,
            "labels_needed": self.labels_needed,
            "wanted": self.wanted,
            "merges": [merge.to_json() for merge in self.merges],
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
                value["name"],
                parts,
                value["title"],
                value["generator"],
                value["labels_needed"],
                value.get("wanted", ""),  # versions of the first release have neither
                tuple(Merge.from_json(merge) for merge in value.get("merges", ())),
            )
        except (KeyError, TypeError) as error:
            raise DganError(f"This is not a stored partonomy: {error!r}.") from error


def normalize_label(label: str) -> str:
    """Labels are compared without case, and with `_`, `-` and spaces alike."""
    return re.sub(r"[\s_\-]+", " ", label).strip().lower()


def _words(name: str) -> tuple[str, ...]:
    """Of a class name, `left`, `eye` of `LeftEye`; `l` and `r` alone are sides, too."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return tuple(word for word in re.split(r"[\W_]+", apart.lower()) if word)


def _other_side(name: str) -> tuple[str, ...]:
    """The words of the class on the other side."""
    return tuple(_SIDES.get(word, word) for word in _words(name))


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
    groups = deque(p for p in dict.fromkeys(known.values()) if p is not None and p not in known)
    while groups:
        group = groups.popleft()
        known[group] = _path_parent(group)
        if known[group] is not None and known[group] not in known:
            groups.append(str(known[group]))
    index_of = {label: index for index, label in enumerate(own, start=1)}
    for label, parent in known.items():
        index = index_of.get(label)
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
    try:
        if "\0" in str(name):  # no path has one
            raise FileNotFoundError
        if path.suffix in (".yaml", ".yml"):
            return _read(read_yaml(path), path.stem)
        return _load_shipped(str(name))
    except FileNotFoundError:
        known = ", ".join(shipped_partonomies())
        raise DganError(
            f"There is no partonomy {str(name)!r}; shipped are: {known}; or give a .yaml file."
        ) from None


@cache
def _load_shipped(name: str) -> Partonomy:
    """Read once a process: each request compares its labels with all of them."""
    if not re.fullmatch(_NAME, name):
        raise FileNotFoundError
    return _read(read_yaml(_shipped_folder() / f"{name}.yaml"), name)


_KEYS = ("name", "title", "generator", "wanted", "labels_needed", "parts", "merges")
_PART_KEYS = ("name", "index", "color", "aliases", "children")


def _read(document: Item, stem: str) -> Partonomy:
    if not isinstance(document.value, dict) or "parts" not in document.value:
        raise document.fault("a partonomy needs a `name` and a list of `parts`.")
    fields = document.fields("a partonomy", _KEYS)

    def text(key: str, default: str = "") -> str:
        return fields[key].text(f"`{key}`") if key in fields else default

    read = list(_read_parts(fields["parts"].sequence("`parts`"), None))
    parts = tuple(part for part, _ in read)
    items = [item for _, item in read]
    _check_labels(parts, items)
    try:
        partonomy = Partonomy(
            text("name", stem),
            parts,
            title=text("title"),
            generator=text("generator"),
            labels_needed=_read_labels_needed(fields.get("labels_needed")),
            wanted=text("wanted"),
        )
    except _PartFault as fault:
        item = items[fault.position] if fault.position is not None else fields["parts"]
        raise item.fault(str(fault)) from None
    _check_name_and_background(partonomy, items, fields.get("name", document))
    if partonomy.num_classes < 2:
        raise fields["parts"].fault(
            "there is no class beside the background; give a part an index."
        )
    if "merges" not in fields:
        return partonomy
    return replace(partonomy, merges=tuple(_read_merges(fields["merges"], partonomy.classes)))


def _read_labels_needed(item: Item | None) -> int:
    if item is None:
        return DEFAULT_LABELS_NEEDED
    if type(item.value) is not int or item.value < 1:
        raise item.fault(f"`labels_needed` must be a whole number from 1, not {item.shown()}.")
    return item.value


def _read_parts(items: Iterable[Item], parent: str | None) -> Iterator[tuple[Part, Item]]:
    for item in items:
        if not isinstance(item.value, dict) or "name" not in item.value:
            raise item.fault(f"every part needs a name; found {item.shown()}.")
        fields = item.fields("a part", _PART_KEYS)
        name = fields["name"].text("a part's name")
        index = fields["index"].value if "index" in fields else None
        color = class_color(index if type(index) is int else 0)
        if "color" in fields:
            color = fields["color"].text(f"the color of {name!r}")
        aliases: list[Item] = []
        if "aliases" in fields:
            aliases = fields["aliases"].sequence(f"`aliases` of {name!r}")
        spoken = tuple(alias.text(f"an alias of {name!r}") for alias in aliases)
        yield Part(name, index, parent, color, spoken), item
        if "children" in fields:
            yield from _read_parts(fields["children"].sequence(f"`children` of {name!r}"), name)


def _check_labels(parts: Iterable[Part], items: Iterable[Item]) -> None:
    """Refuse a label that two parts answer to."""
    owners: dict[str, str] = {}
    for part, item in zip(parts, items, strict=True):
        for label in (part.name, *part.aliases):
            owner = owners.setdefault(normalize_label(label), part.name)
            if owner != part.name:
                raise item.fault(f"part {part.name!r}: {label!r} already means {owner!r}.")


def _check_name_and_background(partonomy: Partonomy, items: list[Item], name: Item) -> None:
    if not re.fullmatch(_NAME, partonomy.name):
        raise name.fault(
            f"the name {partonomy.name!r} must be of letters, digits, `_`, `.` and `-` only; it "
            "becomes a part of folder names."
        )
    for part, item in zip(partonomy.parts, items, strict=True):
        if part.index == 0 and (normalize_label(part.name) != BACKGROUND or part.parent):
            raise item.fault(
                f"class 0 must be `{BACKGROUND}`, alone at the top, not {part.name!r}."
            )


def _read_merges(merges: Item, own: tuple[str, ...]) -> Iterator[Merge]:
    """Tables of new class -> list of classes; `of` names the table that it begins with."""
    known: dict[str, tuple[str, ...]] = {"": own}
    for name, item in merges.mapping("`merges`").items():
        table = dict(item.mapping(f"the merge {name!r}"))
        of = ""
        if "of" in table and not isinstance(table["of"].value, list):
            of = table["of"].text("`of`")
            if of not in known:
                raise table["of"].fault(f"there is no merge {of!r} above {name!r}.")
            del table["of"]
        yield _read_merge(name, of, item, table, known[of])
        known[name] = tuple(_new_names(table))


def _new_names(table: Mapping[str, Item]) -> list[str]:
    """Background first, then the new classes as they stand in the file."""
    return [BACKGROUND, *(name for name in table if normalize_label(name) != BACKGROUND)]


def _read_merge(
    name: str, of: str, item: Item, table: Mapping[str, Item], source: tuple[str, ...]
) -> Merge:
    new_of: dict[str, str] = {source[0]: BACKGROUND}
    alike: dict[str, str] = {}
    for new, members in table.items():
        if (first := alike.setdefault(normalize_label(new), new)) != new:
            raise members.fault(f"{new!r} already means {first!r} in the merge {name!r}.")
        new = BACKGROUND if normalize_label(new) == BACKGROUND else new
        for member in members.sequence(f"{new!r} of the merge {name!r}"):
            old = member.text(f"a class under {new!r}")
            if old not in source:
                raise member.fault(
                    f"the merge {name!r} names {old!r}, which is none of its classes: "
                    f"{', '.join(source)}."
                )
            if old in new_of and (old, new) != (source[0], BACKGROUND):
                raise member.fault(f"the merge {name!r} has {old!r} under {new_of[old]!r} already.")
            new_of[old] = new
        if not members.value and new != BACKGROUND:
            raise members.fault(f"{new!r} of the merge {name!r} has no class.")
    missing = [old for old in source if old not in new_of]
    if missing:
        raise item.fault(
            f"the merge {name!r} leaves out {', '.join(missing)}; list what is to vanish under "
            f"`{BACKGROUND}`."
        )
    classes = tuple(_new_names(table))
    return Merge(name, source, classes, tuple(classes.index(new_of[old]) for old in source), of)


def _path_parent(label: str) -> str | None:
    return label.rpartition("/")[0].strip() or None


def _shipped_folder() -> Path:
    return next((folder for folder in _SHIPPED if folder.is_dir()), _SHIPPED[0])


class _PartFault(DganError):
    """What is wrong with a tree; `position` of the part at fault in `parts`, where it is one."""

    def __init__(self, message: str, position: int | None) -> None:
        super().__init__(message)
        self.position = position


def _check(partonomy: Partonomy) -> None:
    seen: set[str] = set()
    names = {part.name for part in partonomy.parts}
    for position, part in enumerate(partonomy.parts):
        if part.name in seen:
            raise _PartFault(
                f"partonomy {partonomy.name!r} names {part.name} more than once.", position
            )
        seen.add(part.name)
        if part.parent is not None and part.parent not in names:
            raise _PartFault(f"part {part.name!r} has an unknown parent {part.parent!r}.", position)
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", part.color):
            raise _PartFault(
                f"part {part.name!r}: {part.color!r} is no colour like #12ab34.", position
            )
        if part.index is not None and type(part.index) is not int:
            raise _PartFault(
                f"part {part.name!r}: index {part.index!r} is no whole number.", position
            )
    _check_no_cycles(partonomy)
    _check_indices(partonomy)


def _check_indices(partonomy: Partonomy) -> None:
    indices = [part.index for part in partonomy.parts if part.index is not None]
    free = set(range(len(indices)))
    for position, part in enumerate(partonomy.parts):
        if part.index is not None and part.index not in free:
            raise _PartFault(
                f"partonomy {partonomy.name!r}: class indices must be 0, 1, 2 ... without gaps, "
                f"each once, not {sorted(indices)}; see {part.name!r}.",
                position,
            )
        free.discard(-1 if part.index is None else part.index)
    if not indices:
        raise _PartFault(f"partonomy {partonomy.name!r} has no class; give parts an index.", None)
    if len(indices) > MAX_CLASSES:
        raise _PartFault(f"partonomy {partonomy.name!r} has over {MAX_CLASSES} classes.", None)


def _check_no_cycles(partonomy: Partonomy) -> None:
    """Each part is walked up from once: what leads to the top is remembered."""
    parents = {part.name: part.parent for part in partonomy.parts}
    at_top: set[str] = set()
    for position, part in enumerate(partonomy.parts):
        walked: set[str] = set()
        name: str | None = part.name
        while name is not None and name not in at_top:
            if name in walked:
                raise _PartFault(f"part {part.name!r} is its own ancestor.", position)
            walked.add(name)
            name = parents[name]
        at_top |= walked
