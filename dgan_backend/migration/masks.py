"""Folders with `images/` and `masks/`: each picture has a mask of its name whose values are class
numbers, a grey or palette PNG or an npy file; 0 is background, 255 says nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.migration.classes import class_names, names_beside
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


def is_masks(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def read_masks(folder: Path, classes: str = "") -> Collection:
    """classes: what names the numbers, see `class_names`; else `classes.txt`, `classes.json` or
    `partonomy.yaml` in the folder. Raises DganError that names the file at fault."""
    if not is_masks(folder):
        raise DganError(f"{folder} has no images/ with pictures, and masks/ beside it.")
    names = class_names(classes) if classes else names_beside(folder)
    entries, bare, used = [], [], set()
    for picture in pictures_in(folder / "images"):
        found = [folder / "masks" / f"{picture.stem}{ending}" for ending in _ENDINGS]
        mask = next((path for path in found if path.is_file()), None)
        name = f"images/{picture.name}"
        if mask is None:
            bare.append(name)
            continue
        used.add(mask)
        entries.append(Entry(name, partial(_read, name, picture, mask, names)))
    lost = sorted(p.name for p in (folder / "masks").iterdir() if p not in used and p.is_file())
    notes = [f"Masks without a picture of their name: {', '.join(lost[:10])}."] if lost else []
    return Collection(FORMAT, tuple(entries), names, without_labels=tuple(bare), notes=tuple(notes))


def _read(name: str, picture: Path, mask: Path, names: tuple[str, ...]) -> LabeledPicture:
    pixels, file, ending = read_picture(read_bytes(picture), str(picture))
    labels = fitted(read_mask(mask), pixels, mask)
    return LabeledPicture(name, pixels, file, ending, regions_of_mask(labels, names, mask))
