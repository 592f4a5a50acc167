"""Files that are written a few at a time, since object stores take many at once."""

from __future__ import annotations

from dgan_backend.storage import Storage

_BYTES = 16 * 2**20


class Batches:
    def __init__(self, folder: Storage) -> None:
        self._folder = folder
        self._held: dict[str, bytes] = {}
        self._bytes = 0

    def add(self, name: str, data: bytes) -> None:
        self._held[name] = data
        self._bytes += len(data)
        if self._bytes >= _BYTES:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self._folder.write_all(self._held)
        self._held, self._bytes = {}, 0
