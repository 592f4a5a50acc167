"""Pictures and index masks as PNG files, and a manifest of one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dgan_backend.factory.formats.batches import Batches
from dgan_backend.factory.shards import Entry, Item
from dgan_backend.partonomy import Partonomy
from dgan_backend.storage import Storage

MANIFEST = "manifest.jsonl"


class PngWriter:
    """`images/<seed>.png`, `masks/<seed>.png` (palette; values are class indices)."""

    def __init__(self, folder: Storage, partonomy: Partonomy, scratch: Path) -> None:
        self._folder, self._classes = folder, partonomy.classes
        self._files = Batches(folder)
        self._path = scratch / MANIFEST
        self._manifest = self._path.open("w", encoding="utf-8")

    def add(self, item: Item) -> None:
        image, mask = f"images/{item.entry.key}.png", f"masks/{item.entry.key}.png"
        self._files.add(image, item.picture)
        self._files.add(mask, item.mask)
        line = {"image": image, "mask": mask, **told(item.entry, self._classes)}
        self._manifest.write(json.dumps(line) + "\n")

    def finish(self) -> None:
        self._files.flush()
        self._manifest.close()
        self._folder.put(self._path, MANIFEST)

    def close(self) -> None:
        self._manifest.close()


def told(entry: Entry, classes: tuple[str, ...]) -> dict[str, Any]:
    """What formats tell of a picture; pixels: of each class that is there, by its name."""
    return {
        "seed": entry.seed,
        "width": entry.side,
        "height": entry.side,
        "score": round(entry.score, 6),
        "uncertainty": round(entry.uncertainty, 6),
        "pixels": {classes[int(k)]: pixels for k, pixels in entry.areas.items()},
    }
