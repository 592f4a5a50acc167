"""A labeling config bound to its partonomy: which label means which class."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.config import Label, LabelingConfig
from dgan_backend.partonomy import (
    BACKGROUND,
    Part,
    Partonomy,
    from_labels,
    load_partonomy,
    normalize_label,
    shipped_partonomies,
)

OWN = "own"  # {"partonomy": "own"} in the extra params: no shipped one, even if it would fit


@dataclass(frozen=True)
class Binding:
    """A labeling config and the partonomy that its labels belong to.

    class_of: label as it may stand in a region (value or alias) -> class index
    label_of: class index -> label as Label Studio writes it; classes without a label are absent
    """

    config: LabelingConfig
    partonomy: Partonomy
    class_of: Mapping[str, int]
    label_of: Mapping[int, str]

    def to(self, partonomy: Partonomy) -> Binding:
        """The same labels on another tree, that of a version fitted before the config changed:
        classes go by name, so labels may have been moved, added or removed since.
        """
        return self if partonomy == self.partonomy else _bound(self.config, partonomy)

    @property
    def spelling(self) -> str:
        """What regions are written with; see `regions.fits`."""
        config = self.config
        return json.dumps([config.kind, config.from_name, config.image, *self.spelled])

    @property
    def spelled(self) -> list[str]:
        """The labels as Label Studio writes them, sorted."""
        return sorted(self.label_of.values())

    def folded(self) -> npt.NDArray[np.uint8]:
        """[K] uint8: each class, or where the config has no label for it, its nearest ancestor
        that has one (else background). So a project that labels only `face` gets whole faces.
        """
        index_of = {name: i for i, name in enumerate(self.partonomy.classes)}
        table = np.zeros(self.partonomy.num_classes, dtype=np.uint8)
        for index, name in enumerate(self.partonomy.classes):
            chain = [index_of.get(n, 0) for n in (name, *self.partonomy.ancestors(name))]
            table[index] = next((i for i in chain if i in self.label_of), 0)
        return table


def bind(
    config: LabelingConfig, project: int | None, extra_params: Mapping[str, Any] | None = None
) -> Binding:
    """Choose the partonomy of a project and map its labels.

    A partonomy named in the extra params (`{"partonomy": "toonhead"}`) is enforced: DganError
    lists the labels that fit it and those that do not. Without one, a shipped partonomy that all
    labels fit is used (see `_fitting`); else the project's own, made from its labels
    (`parent/child` names or `parent` attributes give the tree).
    """
    named = (extra_params or {}).get("partonomy")
    if not any(normalize_label(label.spelling) != BACKGROUND for label in config.labels):
        raise DganError("The labeling config has no label beside background; add your parts.")
    if named is not None and named != OWN:
        partonomy = _enforced(config, named)
    else:
        shipped = None if named == OWN else _fitting(config)
        partonomy = shipped or _own(config, project)
    return _bound(config, partonomy)


def _bound(config: LabelingConfig, partonomy: Partonomy) -> Binding:
    class_of: dict[str, int] = {}
    label_of: dict[int, str] = {}
    for label in config.labels:
        part = _part(partonomy, label)
        if part is not None and part.index is not None:
            class_of.update({name: part.index for name in (label.value, label.alias) if name})
            label_of.setdefault(part.index, label.spelling)
    return Binding(config, partonomy, class_of, label_of)


def _part(partonomy: Partonomy, label: Label) -> Part | None:
    """The class that a label means, by its value or its alias; None when there is none."""
    for text in (label.alias, label.value):
        if not text:
            continue
        part = partonomy.named(text) or partonomy.find(text)
        if part is not None and part.index is not None:
            return part
    return None


def _misfits(config: LabelingConfig, partonomy: Partonomy) -> list[str]:
    """Labels that are no class of the partonomy; `background` fits all."""
    return [
        label.spelling
        for label in config.labels
        if normalize_label(label.spelling) != BACKGROUND and _part(partonomy, label) is None
    ]


def _enforced(config: LabelingConfig, named: object) -> Partonomy:
    shipped = shipped_partonomies()
    if named not in shipped:  # a name only: extra params must not open files
        raise DganError(
            f"The extra params name the partonomy {named!r}, which is none of: "
            f"{', '.join([*shipped, OWN])}."
        )
    partonomy = load_partonomy(str(named))
    misfits = _misfits(config, partonomy)
    if misfits:
        fits = [label.spelling for label in config.labels if label.spelling not in misfits]
        raise DganError(
            f"These labels do not fit the partonomy {named!r}: {', '.join(misfits)}. "
            f"These fit: {', '.join(fits) or 'none'}. Its classes are: "
            f"{', '.join(partonomy.classes[1:])}. Rename the labels, or take the partonomy out of "
            "the extra params."
        )
    return partonomy


def _fitting(config: LabelingConfig) -> Partonomy | None:
    """The shipped partonomy that all labels fit: one with a generator, else the smallest.

    Without a generator, at least half of its classes must be there: `door, window` of house fronts
    are no cars, and would gain nothing by it.
    """
    found = [load_partonomy(name) for name in shipped_partonomies()]
    found = [
        partonomy
        for partonomy in found
        if not _misfits(config, partonomy)
        and (partonomy.generator or 2 * _labeled(config, partonomy) >= partonomy.num_classes - 1)
    ]
    return min(found, key=lambda p: (not p.generator, p.num_classes, p.name), default=None)


def _labeled(config: LabelingConfig, partonomy: Partonomy) -> int:
    """How many classes beside background have a label."""
    parts = [_part(partonomy, label) for label in config.labels]
    return len({part.index for part in parts if part is not None and part.index})


def _own(config: LabelingConfig, project: int | None) -> Partonomy:
    spelling = {
        normalize_label(name): label.spelling
        for label in config.labels
        for name in (label.value, label.alias)
        if name
    }
    parents = {
        label.spelling: spelling.get(normalize_label(label.parent), label.parent)
        for label in config.labels
        if label.parent
    }
    colors = {label.spelling: _hex(label.color) for label in config.labels}
    name = "project" if project is None else f"project-{project}"
    return from_labels(name, [label.spelling for label in config.labels], parents, colors)


def _hex(color: str) -> str:
    """`#abc` as `#aabbcc`; other spellings (`red`) are left to the palette."""
    return "#" + "".join(2 * c for c in color[1:]) if re.fullmatch(r"#\w{3}", color) else color
