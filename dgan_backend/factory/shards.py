"""Shards on storage: what workers write and the last step reads.

Below `shards/` of the data set: `order.json`, and for each shard a tar with its pictures and masks
as files and, written after it, an index that names the tar. A shard is there when its index is.
The tar is named by its content, so whichever of two workers comes last, an index never speaks of
another one's tar.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.factory.order import Order
from dgan_backend.generators.native import file_hash
from dgan_backend.storage import Storage

FOLDER = "shards"
ORDER = "order.json"
_DIGITS = 16  # of the SHA-256, in a tar's name


@dataclass(frozen=True)
class Entry:
    """What is told of one picture. side: px. uncertainty: of the picture, nats. score: see
    Segmentation. areas: pixels of each class by its index. boxes: x, y, width, height of each,
    where the format wants them."""

    seed: int
    side: int
    uncertainty: float
    score: float
    areas: dict[str, int]
    boxes: dict[str, list[int]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What its files are called."""
        return f"{self.seed:010d}"


@dataclass(frozen=True)
class Item:
    """A picture and its mask as files, and what is told of them."""

    entry: Entry
    picture: bytes
    mask: bytes


class Shards:
    """Those of one data set. folder: the data set's own."""

    def __init__(self, folder: Storage, order: Order) -> None:
        self._place = folder / FOLDER
        self.order = order

    @classmethod
    def found(cls, folder: Storage) -> Shards | None:
        """Those that somebody has begun in that folder; None where nobody has."""
        text = (folder / FOLDER).find(ORDER)
        if text is None:
            return None
        try:
            return cls(folder, Order.from_json(json.loads(text)))
        except (ValueError, TypeError) as error:
            raise DganError(
                f"{folder}/{FOLDER}/{ORDER} was written by another release ({error}); go on with "
                "that one, or delete the folder."
            ) from error

    def begin(self) -> None:
        self._place.write(ORDER, (json.dumps(self.order.to_json(), indent=1) + "\n").encode())

    def done(self) -> set[int]:
        """Numbers of the shards that are there."""
        stems = [name.removesuffix(".json") for name in self._place.names() if name != ORDER]
        return {int(stem) for stem in stems if stem.isdecimal()}

    def has(self, number: int) -> bool:
        return self._place.has(f"{number:06d}.json")

    def write(
        self, number: int, items: Iterable[Item], check: Callable[[], None] = lambda: None
    ) -> None:
        """Write one shard whole. Items are not held together. check: called before anything is
        put on storage; may raise."""
        entries = []
        with tempfile.TemporaryDirectory(prefix="dgan-shard-") as folder:
            path = Path(folder) / "shard.tar"
            with tarfile.open(path, "w") as tar:
                for item in items:
                    entries.append(item.entry)
                    _add(tar, f"{item.entry.key}.picture", item.picture)
                    _add(tar, f"{item.entry.key}.mask", item.mask)
            name = f"{number:06d}-{file_hash(path)[:_DIGITS]}.tar"
            check()
            self._place.put(path, name)
        check()
        index = {"tar": name, "entries": [asdict(entry) for entry in entries]}
        self._place.write(f"{number:06d}.json", json.dumps(index).encode())

    def entries(self, number: int) -> list[Entry]:
        return self._index(number)[1]

    def items(self, number: int, wanted: set[int]) -> Iterator[Item]:
        """Those of the wanted seeds, by seed."""
        name, entries = self._index(number)
        if not wanted & set(self.order.seeds(number)):
            return
        data = self._place.find(name)
        if data is None or hashlib.sha256(data).hexdigest()[:_DIGITS] not in name:
            raise self._damaged(number)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for entry in entries:
                if entry.seed in wanted:
                    yield Item(
                        entry,
                        _member(tar, f"{entry.key}.picture"),
                        _member(tar, f"{entry.key}.mask"),
                    )

    def discard(self, number: int) -> None:
        """Have a shard made anew."""
        self._place.delete(f"{number:06d}.json")

    def delete(self) -> None:
        self._place.delete_all()

    def _index(self, number: int) -> tuple[str, list[Entry]]:
        """Raises DganError, and has it made anew, when it does not hold each of its seeds once."""
        try:
            index = json.loads(self._place.read(f"{number:06d}.json"))
            name, entries = str(index["tar"]), [Entry(**entry) for entry in index["entries"]]
            whole = [entry.seed for entry in entries] == list(self.order.seeds(number))
        except (ValueError, KeyError, TypeError):
            name, entries, whole = "", [], False
        if not whole:
            raise self._damaged(number)
        return name, entries

    def _damaged(self, number: int) -> DganError:
        """What to raise; the shard is discarded."""
        self.discard(number)
        return DganError(
            f"Shard {number} of {self._place} is damaged; say the same command again, which makes "
            "it anew."
        )


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()
