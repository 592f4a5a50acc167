"""What a pickle's opcodes make: names that are never looked up, bytes that stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dgan_backend.errors import DganError

LONGEST_NAME = 200
_MOST_KEY = 2**31  # integer keys are small, so that none are made to collide
_CHUNK = 2**16  # bytes of a text that are turned into bytes at once


@dataclass(frozen=True)
class Global:
    """A name that the pickle gives, never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:LONGEST_NAME]


Constructor = Callable[[tuple[Any, ...]], Any]
Allowed = Mapping[Global, Constructor]


class LongText:
    """A text that was not decoded."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view


class Blob:
    """Bytes of the file. encoded: they stand there as UTF-8 of Latin-1 (protocol 2)."""

    __slots__ = ("_encoded", "_view")

    def __init__(self, view: memoryview, encoded: bool = False) -> None:
        self._view, self._encoded = view, encoded

    @property
    def at_most(self) -> int:
        """Bytes that it can have."""
        return len(self._view)

    @property
    def work(self) -> int:
        """Bytes that reading it takes new memory for."""
        return len(self._view) if self._encoded else 0

    def read(self) -> memoryview:
        """All bytes; raises DganError when they are no bytes."""
        if not self._encoded:
            return self._view
        made, rest = bytearray(), self._view
        try:
            while rest:  # by parts, as one wide letter would make the whole text wide
                end = next((n for n in range(_CHUNK, _CHUNK + 4) if _begins(rest, n)), len(rest))
                made += str(rest[:end], "utf-8").encode("latin-1")
                rest = rest[end:]
        except UnicodeError:
            raise DganError("it is damaged: bytes are written in it as letters of none.") from None
        return memoryview(made)


def _begins(text: memoryview, place: int) -> bool:
    """Whether a letter of UTF-8 begins there."""
    return place < len(text) and text[place] & 0xC0 != 0x80


class Buildable:
    """What BUILD may give a state to."""

    __slots__ = ()

    def build(self, state: Any) -> Any:
        """This, with its state; raises DganError or TypeError when that cannot be."""
        raise NotImplementedError


def shown(value: Any) -> str:
    """A value of a file for a sentence to people; short, whatever it is."""
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)[:40]
    return f"a {type(value).__name__}"


def checked_key(key: Any) -> str | int:
    """A key of a dict: a short text or a small number; raises TypeError for all others."""
    if type(key) is str or (type(key) is int and abs(key) < _MOST_KEY):
        return key
    raise TypeError
