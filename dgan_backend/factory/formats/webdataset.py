"""WebDataset: tars of samples whose files have the same name up to the first dot."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from dgan_backend.factory.formats.png import told
from dgan_backend.factory.shards import Item
from dgan_backend.partonomy import Partonomy
from dgan_backend.storage import Storage

SAMPLES = 1000  # in a tar


class WebDatasetWriter:
    """`train-000000.tar` and so on, each of `<seed>.image.png`, `<seed>.mask.png` (palette; values
    are class indices) and `<seed>.json`."""

    def __init__(self, folder: Storage, partonomy: Partonomy, scratch: Path) -> None:
        self._folder, self._classes = folder, partonomy.classes
        self._path = scratch / "part.tar"
        self._tar: tarfile.TarFile | None = None
        self._tars = self._samples = 0

    def add(self, item: Item) -> None:
        if self._tar is None:
            self._tar = tarfile.open(self._path, "w")  # noqa: SIM115  until it is full
        line = json.dumps(told(item.entry, self._classes))
        self._write(f"{item.entry.key}.image.png", item.picture)
        self._write(f"{item.entry.key}.mask.png", item.mask)
        self._write(f"{item.entry.key}.json", line.encode())
        self._samples += 1
        if self._samples == SAMPLES:
            self.finish()

    def finish(self) -> None:
        if self._tar is None:
            return
        self._tar.close()
        self._folder.put(self._path, f"train-{self._tars:06d}.tar")
        self._tar, self._samples, self._tars = None, 0, self._tars + 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()

    def _write(self, name: str, data: bytes) -> None:
        assert self._tar is not None
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
