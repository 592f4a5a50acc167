"""Names of class numbers: a list, a JSON file, a partonomy, or said on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE
from dgan_backend.migration.files import read_bytes
from dgan_backend.partonomy import BACKGROUND, load_partonomy, normalize_label

BESIDE = ("classes.txt", "classes.json", "partonomy.yaml")  # where names are looked for
_HOW = (
    "give --classes: NAME=NUMBER,NAME=NUMBER, a text file with one name a line (the first one is "
    "number 0), a JSON list or object of numbers and names, or a partonomy (name or .yaml file)"
)
_SAID = re.compile(r"\s*([^=,]+?)\s*=\s*(\d{1,3})\s*")

Numbers = dict[int, str]  # what a number of a mask is called, 0 (background) first


def class_names(named: str) -> tuple[str, ...]:
    """Names by number where all are named from 0 on, see `class_numbers`."""
    numbers = class_numbers(named)
    if list(numbers) != list(range(len(numbers))):
        raise DganError(f"{named} names {list(numbers)}; name all numbers from 0 on.")
    return tuple(numbers.values())


def class_numbers(named: str) -> Numbers:
    """Names by number, background first, of a file, of a shipped partonomy, or of what was said
    as `NAME=NUMBER,NAME=NUMBER`. Numbers may have gaps, and 255 means a class once it is named.

    Raises DganError that names the file and what is wrong with it.
    """
    path = Path(named)
    if "=" in named and not path.exists():
        return _checked(_said(named), f"--classes {named}")
    if path.suffix.lower() == ".json":
        return _checked(_from_json(path), str(path))
    if path.suffix.lower() == ".txt":
        lines = [line.strip() for line in _text(path).splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        return _checked(dict(enumerate(lines)), str(path))
    return dict(enumerate(load_partonomy(named).classes))


def numbers_beside(folder: Path, found: Iterable[int] = ()) -> Numbers:
    """Of a folder that says itself what its numbers mean. found: numbers in its masks, for an
    error that can be copied."""
    for name in BESIDE:
        if (folder / name).is_file():
            return class_numbers(str(folder / name))
    there = sorted(set(found) - {0})
    held = f" Its masks hold 0, {', '.join(map(str, there))}." if there else ""
    raise DganError(f"{folder} does not say what its class numbers mean; {_HOW}.{held}")


def _said(text: str) -> Numbers:
    numbers: Numbers = {}
    for part in text.split(","):
        match = _SAID.fullmatch(part)
        if not match or int(match[2]) in numbers:
            raise DganError(f"--classes {text}: {part!r} is no NAME=NUMBER of its own.")
        numbers[int(match[2])] = match[1]
    return {0: BACKGROUND, **numbers}


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DganError(f"{path} is no UTF-8 text; save it as such.") from error


def _from_json(path: Path) -> Numbers:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DganError(f"{path} is not valid JSON: {error}.") from error
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict):
        raise _not_named(path)
    numbered: Numbers = {}
    for key, other in value.items():  # {"0": "background"} or {"background": 0}
        number, name = (other, key) if type(other) is int else (_number(key), other)
        if not isinstance(name, str) or not 0 <= number <= IGNORE or number in numbered:
            raise _not_named(path)
        numbered[number] = name
    return numbered


def _number(key: str) -> int:
    return int(key) if key.isascii() and key.isdigit() and len(key) < 4 else -1


def _not_named(path: Path) -> DganError:
    return DganError(f"{path} does not give each class number one name; {_HOW}.")


def _checked(names: Numbers, where: str) -> Numbers:
    if not 2 <= len(names) <= IGNORE:
        raise DganError(f"{where} names {len(names)} classes; 2 to {IGNORE} can be.")
    if empty := [number for number, name in names.items() if not name.strip()]:
        raise DganError(f"{where} has no name for class {empty[0]}.")
    if large := [number for number in names if number > IGNORE]:
        raise DganError(f"{where} names the number {large[0]}; masks hold 0 to {IGNORE}.")
    if normalize_label(names.get(0, "")) != BACKGROUND:  # `_background_` is the same
        raise DganError(
            f"{where} names class 0 {names.get(0, '')!r}; 0 is the background. Put `background` "
            "first."
        )
    return {0: BACKGROUND, **{number: names[number] for number in sorted(names) if number}}
