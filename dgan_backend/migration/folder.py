"""Labels into a folder that `dgan-backend fit` takes: images/, masks/ and a partonomy."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE
from dgan_backend.migration.collection import Entry
from dgan_backend.migration.files import png
from dgan_backend.migration.matching import Matching, paint
from dgan_backend.partonomy import Partonomy, load_partonomy, shipped_partonomies

PARTONOMY = "partonomy.yaml"
KEPT_OUT = "kept-out"  # a folder of pairs within the folder
_KINDS = ("images", "masks")


@dataclass(frozen=True)
class _Written:
    """files: of the draft, picture and mask. shown: hash of the picture's pixels."""

    files: tuple[Path, Path]
    shown: str


def check_free(out: Path) -> None:
    """Raises DganError when there is something already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DganError(f"{out} is there already; name a new folder, or remove it.")


def write_folder(
    entries: Iterable[Entry],
    matching: Matching,
    out: Path,
    least: int = 0,
    kept_out: tuple[int, int] = (0, 0),
) -> tuple[int, list[str]]:
    """Write all pictures with a labeled pixel; how many, and the names of those without.

    The folder appears whole or not at all. Pictures stay as they are, unless no browser shows
    their format; masks are 8-bit PNG of class numbers, 255 = ignored. `partonomy.yaml` is written
    unless the classes are a shipped one's. kept_out: so many pictures, drawn by a seed, go to
    `kept-out/` in it and do not count; copies of one picture are all kept out or none.
    """
    check_free(out)
    draft = _draft(out)
    try:
        written, bare = _write(entries, matching, draft, least)
        apart = keep_out([w.shown for w in written], *kept_out)
        _move([written[n] for n in apart], draft)
        done = (len(written) - len(apart), bare)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise DganError(f"{out} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return done


def _draft(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        draft.chmod(0o777 & ~_umask())
        for kind in _KINDS:
            (draft / kind).mkdir()
    except OSError as error:
        raise DganError(f"{out} cannot be written: {error.strerror}.") from error
    return draft


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(
    entries: Iterable[Entry], matching: Matching, draft: Path, least: int
) -> tuple[list[_Written], list[str]]:
    if not is_shipped(matching.partonomy):
        (draft / PARTONOMY).write_text(to_yaml(matching.partonomy), encoding="utf-8")
        load_partonomy(draft / PARTONOMY)  # names that no file may have are refused at once
    taken, bare, written = set[str](), list[str](), list[_Written]()
    for entry in entries:
        read = entry.read()
        mask = paint(read, matching, least)
        if not ((mask != 0) & (mask != IGNORE)).any():
            bare.append(entry.name)
            continue
        stem = _free(entry.name, taken)
        files = (draft / "images" / f"{stem}{read.ending}", draft / "masks" / f"{stem}.png")
        files[0].write_bytes(read.file)
        files[1].write_bytes(png(np.ascontiguousarray(mask)))
        shown = f"{read.picture.shape}".encode() + read.picture.tobytes()
        written.append(_Written(files, hashlib.sha256(shown).hexdigest()))
    return written, bare


def keep_out(shown: Sequence[str], count: int, seed: int) -> list[int]:
    """Which pictures are kept out: `count` of them, in ascending order.

    shown: what each picture shows; those that show the same are all kept out or none.
    Raises DganError when nothing would be left to learn from, or they cannot be parted so.
    """
    if count and count >= len(shown):
        raise DganError(f"There are {len(shown)} labeled pictures, so {count} cannot be kept out.")
    groups: dict[str, list[int]] = {}
    for n, picture in enumerate(shown):
        groups.setdefault(picture, []).append(n)
    copies, chosen = list(groups.values()), list[int]()
    for number in np.random.RandomState(seed).permutation(len(copies)):
        if len(chosen) + len(copies[number]) <= count:
            chosen += copies[number]
    if len(chosen) != count:
        raise DganError(
            f"{count} pictures cannot be kept out, as copies of a picture stay together; "
            f"{len(chosen)} can."
        )
    return sorted(chosen)


def _move(apart: Iterable[_Written], draft: Path) -> None:
    for written in apart:
        for kind, file in zip(_KINDS, written.files, strict=True):
            (draft / KEPT_OUT / kind).mkdir(parents=True, exist_ok=True)
            file.rename(draft / KEPT_OUT / kind / file.name)


def _free(name: str, taken: set[str]) -> str:
    """A stem of its own, also where two files differ in their ending or their folder."""
    stem = re.sub(r"[^\w.-]+", "-", name.rpartition(".")[0]).strip("-.") or "picture"
    stem = stem.removeprefix("images-")
    number, free = 1, stem
    while free.lower() in taken:
        number += 1
        free = f"{stem}-{number}"
    taken.add(free.lower())
    return free


def is_shipped(partonomy: Partonomy) -> bool:
    """Whether `--partonomy NAME` finds it."""
    return partonomy.name in shipped_partonomies() and load_partonomy(partonomy.name) == partonomy


def to_yaml(partonomy: Partonomy) -> str:
    """A file that `load_partonomy` reads back; without merges."""
    about: dict[str, Any] = {"name": partonomy.name}
    for key in ("title", "generator", "wanted", "labels_needed"):
        if value := getattr(partonomy, key):
            about[key] = value
    about["parts"] = _children(partonomy, None)
    return yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=100)


def _children(partonomy: Partonomy, parent: str | None) -> list[dict[str, Any]]:
    rows = []
    for part in partonomy.parts:
        if part.parent != parent:
            continue
        row: dict[str, Any] = {"name": part.name}
        if part.index is not None:
            row |= {"index": part.index, "color": part.color}
        if part.aliases:
            row["aliases"] = list(part.aliases)
        if below := _children(partonomy, part.name):
            row["children"] = below
        rows.append(row)
    return rows
