"""The two layouts of torch.save: a zip archive, and what was before it (also one storage alone).

torch.load is not used, not even with weights_only: it inflates compressed archives (256 MB of
262 kB), and reads all of a training's checkpoint where one network of it is wanted.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.allowed import STORAGE, TORCH
from dgan_backend.generators.foreign.pickles import MOST_STEPS, Pickle
from dgan_backend.generators.foreign.stored import LazyStorage, Storage
from dgan_backend.generators.foreign.values import Allowed, Blob, Global

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."
_FEW_STEPS = 300  # opcodes of each pickle about one storage; torch writes 30
_CENTRAL = 2 * 2**20  # bytes of a zip's list of contents
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error)
_LOCAL_HEADER = 30  # bytes of a zip entry before its name


def is_legacy(data: memoryview) -> bool:
    return bytes(data[: len(_START)]) == _START


def read_legacy(data: memoryview, allowed: Allowed = TORCH, steps: int = MOST_STEPS) -> Any:
    """What was saved: magic, protocol, machine, object, list of keys, then each key's numbers."""
    storages: dict[str, Storage] = {}
    places: dict[str, memoryview] = {}

    def stored(told: tuple[Any, ...]) -> Storage:
        kind, key, numel = _storage(told)
        if key not in storages:
            storages[key] = Storage(kind, numel, lambda: places[key])
        return storages[key]

    def plain(at: int) -> tuple[Any, int]:
        return Pickle(data[at:], {}, None, _FEW_STEPS).read()

    at = 0
    for wanted in (MAGIC, _PROTOCOL):
        found, length = plain(at)
        if found != wanted:
            raise DganError("it is damaged: it does not begin as torch.save writes it.")
        at += length
    machine, length = plain(at)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise DganError("it was written on a machine with another byte order.")
    at += length
    value, length = Pickle(data[at:], allowed, stored, steps).read()
    at += length
    keys, length = Pickle(data[at:], {}, None, steps).read()
    at += length
    _place(data, at, keys, storages, places)
    return value


def _place(
    data: memoryview,
    at: int,
    keys: Any,
    storages: dict[str, Storage],
    places: dict[str, memoryview],
) -> None:
    """Where each storage lies: its count as int64, then its numbers."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise DganError("it is damaged: its list of tensors is none.")
    if sorted(keys) != sorted(storages):
        raise DganError("it is damaged: its list of tensors is not that of its network.")
    for key in keys:
        begin, end = at + 8, at + 8 + storages[key].nbytes
        count = int.from_bytes(data[at:begin], "little")
        if end > len(data):
            raise DganError("it is cut short: its last tensors are missing; fetch it again.")
        if count != storages[key].numel:
            raise DganError("it is damaged: a tensor of it has another length than it says.")
        places[key] = data[begin:end]
        at = end


def one_storage(blob: Blob) -> LazyStorage:
    """The storage that a nested file holds, and nothing else."""

    return LazyStorage(blob, _parsed)


def _parsed(data: memoryview) -> Storage:
    if not is_legacy(data):
        raise DganError("it is damaged: a tensor of it is not as torch.save writes it.")
    value = read_legacy(data, STORAGE, _FEW_STEPS)
    if type(value) is not Storage:
        raise DganError("it is damaged: a tensor of it is something else.")
    return value


def _storage(told: tuple[Any, ...]) -> tuple[str, str, Any]:
    """Kind, key and count of a persistent id ('storage', class, key, device, count[, view])."""
    word, kind, key, _, numel = told[:5]
    if word != "storage" or type(kind) is not Global or type(key) is not str:
        raise TypeError
    if len(told) > 5 and told[5] is not None:
        raise DganError("it was written by a torch before 0.4, which cannot be read.")
    return kind.name, key, numel


def is_zip(data: memoryview) -> bool:
    return bytes(data[:4]) == b"PK\x03\x04"


def read_zip(data: memoryview) -> Any:
    """What was saved: data.pkl, and a file data/KEY a storage, none of them compressed."""
    archive = _Archive(data)
    pickle = archive.find("data.pkl")
    if archive.has("byteorder") and bytes(archive.find("byteorder")) != b"little":
        raise DganError("it was written on a machine with another byte order.")
    storages: dict[str, Storage] = {}

    def stored(told: tuple[Any, ...]) -> Storage:
        kind, key, numel = _storage(told)
        if key not in storages:
            storages[key] = Storage(kind, numel, lambda: archive.find(f"data/{key}"))
        return storages[key]

    return Pickle(pickle, TORCH, stored).read()[0]


class _Archive:
    """The entries of a zip, all in one folder, as slices of it."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        try:
            with zipfile.ZipFile(_Bounded(data)) as archive:
                entries = archive.infolist()
        except _ZIP_ERRORS as error:
            raise DganError(f"it is a zip that is cut short or damaged ({error}).") from None
        pickles = [e.filename for e in entries if e.filename.split("/", 1)[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise DganError("it is a zip, but not one that torch.save writes (no data.pkl).")
        self._folder = pickles[0].removesuffix("data.pkl")
        self._entries = {e.filename: e for e in entries}
        self._whole: dict[str, memoryview] = {}

    def has(self, name: str) -> bool:
        return self._folder + name in self._entries

    def find(self, name: str) -> memoryview:
        """The bytes of an entry; raises DganError when they are not whole."""
        if name not in self._whole:
            self._whole[name] = self._checked(name)
        return self._whole[name]

    def _checked(self, name: str) -> memoryview:
        entry = self._entries.get(self._folder + name)
        if entry is None:
            raise DganError(f"it is damaged: its zip has no {name[:50]}.")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise DganError("its zip is compressed; torch.save writes none such. Repack it.")
        at = entry.header_offset
        header = self._data[at : at + _LOCAL_HEADER] if at >= 0 else self._data[:0]
        if len(header) < _LOCAL_HEADER or bytes(header[:4]) != b"PK\x03\x04":
            raise DganError("it is a damaged zip: an entry is not where it should be.")
        before = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        begin = at + _LOCAL_HEADER + before
        found = self._data[begin : begin + entry.file_size]
        if len(found) != entry.file_size or zlib.crc32(found) != entry.CRC:
            raise DganError(
                f"it is damaged: {name[:50]} in it differs from its checksum; fetch it again."
            )
        return found


class _Bounded(io.RawIOBase):
    """The archive as a file that gives no more at once than a list of contents may have."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, len(self._data))[whence]
        if base + offset < 0:
            raise OSError(22, "before the beginning")  # which zipfile expects
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        found = self._data[self._at : None if size < 0 else self._at + size]
        if len(found) > _CENTRAL:
            raise ValueError("its list of contents is too long")
        self._at += len(found)
        return bytes(found)
