"""A reader of pickles that runs nothing of them (protocols 2 to 5).

Nothing is imported and nothing is called but the constructors of `allowed.py`, which make plain
containers and inert records. Long bytes and texts stay where they are in the file, so what is read
takes memory by the number of opcodes, which is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.values import (
    LONGEST_NAME,
    Allowed,
    Blob,
    Buildable,
    Constructor,
    Global,
    LongText,
    checked_key,
)

MOST_STEPS = 300_000  # opcodes of one pickle; published generators have up to 60,000
_SHORT = 4096  # bytes; a longer text is not decoded (source code, or bytes in protocol 2)
_MOST_TEXT = 8 * 2**20  # bytes that all short texts may have together
_LETTERS = 16  # of a text that count as one step where it may be copied
_LONGEST_INT = 16  # bytes
_PROTOCOLS = range(2, 6)


class Pickle:
    """One pickle in a buffer.

    allowed: what may be named, and what stands for it. persistent: what a persistent id stands
    for; None = there may be none. steps: opcodes that it may have.
    """

    def __init__(
        self,
        data: memoryview,
        allowed: Allowed,
        persistent: Constructor | None = None,
        steps: int = MOST_STEPS,
    ) -> None:
        self._data, self._allowed, self._persistent = data, allowed, persistent
        self._at, self._steps, self._text = 0, steps, 0
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def read(self, start: int = 0) -> tuple[Any, int]:
        """The value of the pickle that begins at `start`, and where it ends.

        Raises DganError that says, in one sentence without the file's name, what is wrong.
        """
        self._at = start
        try:
            while (code := self._byte()) != _STOP:
                self.charge(1)
                act = _ACTS.get(code)
                if act is None:
                    raise DganError(
                        f"its pickle has an opcode that no generator file needs ({code:#x})."
                    )
                act(self)
            value = self._stack.pop()
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error):
            raise DganError(
                f"it is damaged: its pickle makes no sense at byte {self._at}."
            ) from None
        return value, self._at

    def charge(self, steps: int) -> None:
        """Count work; raises DganError when it is more than a generator needs."""
        self._steps -= steps
        if self._steps < 0:
            raise DganError("its pickle has far more parts than any generator; it is not one.")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> memoryview:
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise DganError(
                f"it is cut short or damaged: {count} bytes are announced at byte {self._at} and "
                f"{len(self._data) - self._at} are left; fetch it again."
            )
        view = self._data[self._at : end]
        self._at = end
        return view

    def _number(self, layout: str) -> Any:
        (number,) = struct.unpack(layout, self._take(struct.calcsize(layout)))
        return number

    def _line(self) -> str:
        window = bytes(self._data[self._at : self._at + LONGEST_NAME])
        length = window.index(b"\n")
        self._at += length + 1
        return window[:length].decode("utf-8")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def pop_marked(self) -> None:
        self._pop_mark()

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    # What each opcode does, in the order of the pickle documentation (pickletools).

    def protocol(self) -> None:
        if (found := self._byte()) not in _PROTOCOLS:
            raise DganError(f"its pickle has protocol {found}; 2 to 5 can be read.")

    def frame(self) -> None:
        length = self._number("<Q")
        if length > len(self._data) - self._at:
            raise DganError("it is cut short: its last frame is not whole; fetch it again.")

    def mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def text(self, layout: str) -> None:
        self._decoded(self._take(self._number(layout)), "utf-8")

    def old_text(self, layout: str) -> None:
        """A str of Python 2."""
        self._decoded(self._take(self._number(layout)), "latin-1")

    def _decoded(self, view: memoryview, encoding: str) -> None:
        if len(view) > _SHORT:
            self._push(LongText(view))
            return
        self._text += len(view)
        if self._text > _MOST_TEXT:
            raise DganError("it has far more text than any generator; it is not one.")
        self._push(str(view, encoding, "surrogatepass"))

    def data(self, layout: str) -> None:
        self._push(Blob(self._take(self._number(layout))))

    def long(self, layout: str) -> None:
        count = self._number(layout)
        if count > _LONGEST_INT:
            raise DganError("it has a number with more digits than any generator; it is not one.")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def empty_dict(self) -> None:
        self._push({})

    def empty_list(self) -> None:  # and EMPTY_SET: the sets in generators are lists of names
        self._push([])

    def tuple_of(self, count: int) -> None:
        split = len(self._stack) - count
        if split < 0:
            raise IndexError
        self._stack[split:] = [tuple(self._stack[split:])]

    def marked_tuple(self) -> None:
        items = self._pop_mark()
        self._push(tuple(items))

    def append(self) -> None:
        value = self._stack.pop()
        self._list().append(value)

    def appends(self) -> None:
        items = self._pop_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        target = self._stack[-1]
        if type(target) is not list:
            raise TypeError
        return target

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def set_items(self) -> None:
        self._set(self._pop_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def get(self, layout: str) -> None:
        self._push(self._memo[self._number(layout)])

    def put(self, layout: str) -> None:
        self._memo[self._number(layout)] = self._stack[-1]

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def name(self) -> None:
        self._name(self._line(), self._line())

    def stacked_name(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError
        found = Global(module, name)
        if found not in self._allowed:
            raise DganError(
                f"it names {str(found)!r}, which no generator needs; nothing of it was run. Take "
                "the file from its authors, or ask them for one of weights alone."
            )
        self._push(found)

    def make(self) -> None:
        """REDUCE and NEWOBJ: what the allowed name stands for, never a call of the file's own."""
        args, made = self._stack.pop(), self._stack.pop()
        if type(args) is not tuple or type(made) is not Global:
            raise TypeError
        for item in args:  # which may be copied
            if type(item) in (list, dict, str):
                self.charge(len(item) // (_LETTERS if type(item) is str else 1))
        self._push(self._allowed[made](args))

    def build(self) -> None:
        """State for one of our records. What a dict subclass has beside its items is ignored."""
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is dict:
            return
        if not isinstance(target, Buildable):
            raise TypeError
        self._stack[-1] = target.build(state)

    def persistent_id(self) -> None:
        if self._persistent is None:
            raise DganError("its pickle points to something outside of it; it is no generator.")
        told = self._stack.pop()
        if type(told) is not tuple:
            raise TypeError
        self._push(self._persistent(told))


def _constant(value: Any) -> Callable[[Pickle], None]:
    return lambda pickle: pickle._push(value)


def _plain(layout: str) -> Callable[[Pickle], None]:
    return lambda pickle: pickle._push(pickle._number(layout))


def _with(method: Callable[[Pickle, Any], None], value: Any) -> Callable[[Pickle], None]:
    return lambda pickle: method(pickle, value)


_STOP = ord(".")
_ACTS: dict[int, Callable[[Pickle], None]] = {
    code[0]: act
    for code, act in {
        b"\x80": Pickle.protocol, b"\x95": Pickle.frame, b"(": Pickle.mark,
        b"0": Pickle.pop, b"1": Pickle.pop_marked,
        b"N": _constant(None), b"\x88": _constant(True), b"\x89": _constant(False),
        b"K": _plain("<B"), b"M": _plain("<H"), b"J": _plain("<i"), b"G": _plain(">d"),
        b"\x8a": _with(Pickle.long, "<B"), b"\x8b": _with(Pickle.long, "<i"),
        b"X": _with(Pickle.text, "<I"), b"\x8c": _with(Pickle.text, "<B"),
        b"\x8d": _with(Pickle.text, "<Q"),
        b"T": _with(Pickle.old_text, "<i"), b"U": _with(Pickle.old_text, "<B"),
        b"B": _with(Pickle.data, "<I"), b"C": _with(Pickle.data, "<B"),
        b"\x8e": _with(Pickle.data, "<Q"), b"\x96": _with(Pickle.data, "<Q"),
        b"}": Pickle.empty_dict, b"]": Pickle.empty_list, b"\x8f": Pickle.empty_list,
        b")": _constant(()), b"t": Pickle.marked_tuple,
        b"\x85": _with(Pickle.tuple_of, 1), b"\x86": _with(Pickle.tuple_of, 2),
        b"\x87": _with(Pickle.tuple_of, 3),
        b"a": Pickle.append, b"e": Pickle.appends, b"\x90": Pickle.appends,
        b"s": Pickle.set_item, b"u": Pickle.set_items,
        b"h": _with(Pickle.get, "<B"), b"j": _with(Pickle.get, "<I"),
        b"q": _with(Pickle.put, "<B"), b"r": _with(Pickle.put, "<I"), b"\x94": Pickle.memoize,
        b"c": Pickle.name, b"\x93": Pickle.stacked_name, b"R": Pickle.make, b"\x81": Pickle.make,
        b"b": Pickle.build, b"Q": Pickle.persistent_id,
    }.items()
}  # fmt: skip
