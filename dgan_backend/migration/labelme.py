"""Folders of LabelMe: one JSON file a picture, which is in the file or beside it."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.migration.collection import Collection, Entry, LabeledPicture, Region
from dgan_backend.migration.files import PICTURES, read_bytes, read_picture
from dgan_backend.migration.shapes import kind_of, region_of

FORMAT = "labelme"


def is_labelme(folder: Path) -> bool:
    """Whether there is a JSON file that says `shapes`."""
    return any(b'"shapes"' in read_bytes(path) for path in _files(folder))


def read_labelme(folder: Path) -> Collection:
    """All JSON files below a folder; those without `shapes` are passed over and told."""
    entries, other, shown = [], [], set[Path]()
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if _is_other(path, shown):
            other.append(name)
        else:
            entries.append(Entry(name, partial(_read, name, path, folder)))
    if not entries:
        raise DganError(f"{folder} has no JSON file of LabelMe (with `shapes`).")
    pictures = (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURES)
    bare = [p.relative_to(folder).as_posix() for p in pictures if p.resolve() not in shown]
    notes = [f"Not of LabelMe: {', '.join(other[:10])}."] if other else []
    return Collection(FORMAT, tuple(entries), without_labels=tuple(bare), notes=tuple(notes))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json") if path.is_file())


def _is_other(path: Path, shown: set[Path]) -> bool:
    """Whether it is sound JSON of something else; a broken file is for `_read` to complain of.

    shown: where the picture of a file of LabelMe may lie is added.
    """
    try:
        about = json.loads(read_bytes(path))
    except (ValueError, RecursionError):
        return False
    if not isinstance(about, dict) or "shapes" not in about:
        return True
    shown |= {path.with_suffix(ending).resolve() for ending in PICTURES}
    if isinstance(named := about.get("imagePath"), str) and "\0" not in named:
        shown |= {place.resolve() for place in _places(named, path)}
    return False


def _read(name: str, path: Path, folder: Path) -> LabeledPicture:
    about = _parsed(path)
    picture, file, ending = _picture(about, path, folder)
    height, width = picture.shape[:2]
    _check_size(about, path, height, width)
    regions, left_out = [], Counter[str]()
    for number, shape in enumerate(about["shapes"], 1):
        try:
            region = _region(shape, height, width)
        except ValueError as error:
            raise DganError(f"{path}, shape {number}{_label_of(shape)}: {error}.") from error
        if region is None:
            left_out[kind_of(shape)] += 1
        else:
            regions.append(region)
    return LabeledPicture(name, picture, file, ending, tuple(regions), left_out)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DganError(f"{path} is not valid JSON ({error}); save it in LabelMe again.") from error
    if not isinstance(about, dict) or not isinstance(about.get("shapes"), list):
        raise DganError(f"{path} has no list of `shapes`; it is no file of LabelMe.")
    return about


def _region(shape: object, height: int, width: int) -> Region | None:
    if not isinstance(shape, Mapping):
        raise ValueError("it is no object")
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise ValueError("it has no label")
    return region_of(shape, label.strip(), height, width)


def _label_of(shape: object) -> str:
    label = shape.get("label") if isinstance(shape, Mapping) else None
    return f" ({label:.60})" if isinstance(label, str) and label.strip() else ""


def _picture(about: Mapping[str, Any], path: Path, folder: Path) -> Any:
    """From `imageData`, else from the file that `imagePath` names."""
    data = about.get("imageData")
    if isinstance(data, str) and data:
        try:
            found = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DganError(f"{path}: its imageData is no valid base64 ({error}).") from error
        return read_picture(found, f"The imageData of {path}")
    found_at = _beside(about.get("imagePath"), path, folder)
    return read_picture(read_bytes(found_at), str(found_at))


def _beside(named: object, path: Path, folder: Path) -> Path:
    """The picture where `imagePath` says, if that is below the folder; else the one of that file
    name beside the JSON file, since absolute paths are of the machine it was made on."""
    if not isinstance(named, str) or not named.strip() or "\0" in named:
        raise DganError(f"{path} has neither imageData nor an imagePath; put the picture back.")
    places = _places(named, path)
    root = folder.resolve()
    for place in places:
        resolved = place.resolve()
        if resolved.is_relative_to(root) and resolved.is_file():
            return resolved
    if places[0].resolve().is_relative_to(root):
        raise DganError(f"{path} shows {named!r}, which is not there; put the picture back.")
    raise DganError(
        f"{path} shows {named!r}, which is outside of {folder} and is not read. Put the picture "
        "beside the JSON file, or give the folder that holds both."
    )


def _places(named: str, path: Path) -> list[Path]:
    """Where the picture that a file names may lie; Windows writes backslashes."""
    parts = named.replace("\\", "/")
    return [path.parent / parts, path.parent / parts.rpartition("/")[2]]


def _check_size(about: Mapping[str, Any], path: Path, height: int, width: int) -> None:
    drawn = about.get("imageWidth"), about.get("imageHeight")
    if all(type(value) is int for value in drawn) and drawn != (width, height):
        raise DganError(
            f"{path} was drawn on {drawn[0]} x {drawn[1]} pixels, but its picture is {width} x "
            f"{height}; bring back the picture that it was drawn on."
        )
