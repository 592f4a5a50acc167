"""Ways to write a data set, one a module: pictures come one by one, in the order of their seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from dgan_backend.factory.formats.coco import CocoWriter
from dgan_backend.factory.formats.parquet import ParquetWriter
from dgan_backend.factory.formats.png import PngWriter
from dgan_backend.factory.formats.webdataset import WebDatasetWriter
from dgan_backend.factory.order import Order
from dgan_backend.factory.shards import Item
from dgan_backend.partonomy import Partonomy
from dgan_backend.storage import Storage

__all__ = ["Writer", "writer"]


class Writer(Protocol):
    def add(self, item: Item) -> None: ...

    def finish(self) -> None:
        """Write what is still held."""

    def close(self) -> None:
        """Let go of local files, finished or not."""


def writer(folder: Storage, order: Order, partonomy: Partonomy, scratch: Path) -> Writer:
    """One for the order's format. scratch: an empty local folder."""
    if order.format == "png":
        return PngWriter(folder, partonomy, scratch)
    if order.format == "coco":
        return CocoWriter(folder, partonomy, scratch)
    if order.format == "webdataset":
        return WebDatasetWriter(folder, partonomy, scratch)
    return ParquetWriter(folder, order.count, scratch)
