"""Folders of pictures and index masks: `images/` and `masks/`, or each mask beside its picture.

A mask has its picture's name, is a grey or palette PNG or an npy file, and its values are class
numbers; 0 is background, and 255 says nothing unless a class is called so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dgan_backend.errors import DganError
from dgan_backend.migration.classes import Numbers, class_numbers, numbers_beside
from dgan_backend.migration.collection import Collection, Entry, LabeledPicture
from dgan_backend.migration.files import (
    fitted,
    pictures_in,
    read_bytes,
    read_mask,
    read_picture,
    regions_of_mask,
)

FORMAT = "masks"
_ENDINGS = (".png", ".npy")
_LOOKED_AT = 20  # masks whose numbers an error tells


def is_masks(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def is_side_by_side(folder: Path) -> bool:
    """Whether pictures have masks of their name beside them, as `a.jpg` and `a.png`."""
    return bool(_Files.side_by_side(folder).pairs)


def read_masks(folder: Path, classes: str = "") -> Collection:
    """classes: what names the numbers, see `class_numbers`; else `classes.txt`, `classes.json` or
    `partonomy.yaml` in the folder. Raises DganError that names the file at fault."""
    files = _Files.apart(folder) if is_masks(folder) else _Files.side_by_side(folder)
    if not is_masks(folder) and not files.pairs:
        raise DganError(
            f"{folder} has no images/ with pictures, and masks/ beside it; nor has any picture in "
            "it a mask of its name (a.jpg, a.png)."
        )
    masks = [mask for _, mask in files.pairs]
    names = class_numbers(classes) if classes else numbers_beside(folder, _numbers_in(masks))
    entries = []
    for picture, mask in files.pairs:
        name = picture.relative_to(folder).as_posix()
        entries.append(Entry(name, partial(_read, name, picture, mask, names)))
    lost = ", ".join(files.lost[:10])
    return Collection(
        FORMAT,
        tuple(entries),
        tuple(names.values()),
        without_labels=tuple(picture.relative_to(folder).as_posix() for picture in files.bare),
        notes=(f"Masks without a picture of their name: {lost}.",) if lost else (),
    )


@dataclass(frozen=True)
class _Files:
    """pairs: pictures and their masks. bare: pictures without. lost: names of masks without."""

    pairs: list[tuple[Path, Path]]
    bare: list[Path]
    lost: list[str]

    @classmethod
    def apart(cls, folder: Path) -> _Files:
        pairs, bare = _paired(pictures_in(folder / "images"), folder / "masks")
        used = {mask for _, mask in pairs}
        there = (p for p in (folder / "masks").iterdir() if p not in used and p.is_file())
        return cls(pairs, bare, sorted(p.name for p in there))

    @classmethod
    def side_by_side(cls, folder: Path) -> _Files:
        pairs, bare = _paired(pictures_in(folder), folder)
        masks = {mask for _, mask in pairs}
        pictures = [pair for pair in pairs if pair[0] not in masks]
        return cls(pictures, [picture for picture in bare if picture not in masks], [])


def _paired(pictures: Iterable[Path], masks: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    pairs, bare = [], []
    for picture in pictures:
        found = [masks / f"{picture.stem}{ending}" for ending in _ENDINGS]
        mask = next((path for path in found if path != picture and path.is_file()), None)
        if mask is None:
            bare.append(picture)
        else:
            pairs.append((picture, mask))
    return pairs, bare


def _numbers_in(masks: list[Path]) -> Iterator[int]:
    """Of some masks; those that cannot be read are told later, when names are known."""
    for mask in masks[:_LOOKED_AT]:
        try:
            yield from np.unique(read_mask(mask)).tolist()
        except DganError:
            continue


def _read(name: str, picture: Path, mask: Path, names: Numbers) -> LabeledPicture:
    pixels, file, ending = read_picture(read_bytes(picture), str(picture))
    labels = fitted(read_mask(mask), pixels, mask)
    return LabeledPicture(name, pixels, file, ending, regions_of_mask(labels, names, mask))
