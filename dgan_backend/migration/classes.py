"""Names of class numbers: a list, a JSON file, or a partonomy."""

from __future__ import annotations

import json
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE
from dgan_backend.migration.files import read_bytes
from dgan_backend.partonomy import BACKGROUND, load_partonomy, normalize_label

BESIDE = ("classes.txt", "classes.json", "partonomy.yaml")  # where names are looked for
_HOW = (
    "give --classes: a text file with one name a line (the first one is number 0), a JSON list or "
    "object of numbers and names, or a partonomy (name or .yaml file)"
)


def class_names(named: str) -> tuple[str, ...]:
    """Names by number, background first, of a file or of a shipped partonomy.

    Raises DganError that names the file and what is wrong with it.
    """
    path = Path(named)
    if path.suffix.lower() == ".json":
        names = _from_json(path)
    elif path.suffix.lower() == ".txt":
        names = [line.strip() for line in _text(path).splitlines()]
        while names and not names[-1]:
            names.pop()
    else:
        return load_partonomy(named).classes
    return _checked(names, path)


def names_beside(folder: Path) -> tuple[str, ...]:
    """Of a folder that says itself what its numbers mean."""
    for name in BESIDE:
        if (folder / name).is_file():
            return class_names(str(folder / name))
    raise DganError(f"{folder} does not say what its class numbers mean; {_HOW}.")


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DganError(f"{path} is no UTF-8 text; save it as such.") from error


def _from_json(path: Path) -> list[str]:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DganError(f"{path} is not valid JSON: {error}.") from error
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict):
        raise _not_named(path)
    numbered: dict[int, str] = {}
    for key, other in value.items():  # {"0": "background"} or {"background": 0}
        number, name = (other, key) if type(other) is int else (_number(key), other)
        if not isinstance(name, str) or not 0 <= number < IGNORE or number in numbered:
            raise _not_named(path)
        numbered[number] = name
    if sorted(numbered) != list(range(len(numbered))):
        raise DganError(f"{path} names {sorted(numbered)}; name all numbers from 0 on.")
    return [numbered[number] for number in range(len(numbered))]


def _number(key: str) -> int:
    return int(key) if key.isascii() and key.isdigit() and len(key) < 4 else -1


def _not_named(path: Path) -> DganError:
    return DganError(f"{path} does not give each class number one name; {_HOW}.")


def _checked(names: list[str], path: Path) -> tuple[str, ...]:
    if not 2 <= len(names) <= IGNORE:
        raise DganError(f"{path} names {len(names)} classes; 2 to {IGNORE} can be.")
    if empty := [number for number, name in enumerate(names) if not name.strip()]:
        raise DganError(f"{path} has no name for class {empty[0]}.")
    if normalize_label(names[0]) != BACKGROUND:  # `_background_` is the same
        raise DganError(
            f"{path} names class 0 {names[0]!r}; 0 is the background. Put `background` first."
        )
    return (BACKGROUND, *names[1:])
