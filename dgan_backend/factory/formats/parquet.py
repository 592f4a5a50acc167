"""Parquet files that Hugging Face's `datasets` loads, pictures and masks as its Image feature."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.factory.shards import Item
from dgan_backend.storage import Storage

ROWS = 1000  # in a file
_GROUP_BYTES = 32 * 2**20  # that are held at once
_IMAGE = {"_type": "Image"}
_FEATURES: dict[str, Any] = {
    "image": _IMAGE,
    "mask": _IMAGE,
    "seed": {"dtype": "int64", "_type": "Value"},
    "score": {"dtype": "float32", "_type": "Value"},
    "uncertainty": {"dtype": "float32", "_type": "Value"},
}


def pyarrow() -> Any:
    """The package, or DganError that says how to come by it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DganError(
            "--format parquet needs pyarrow, which is not installed: pip install "
            "'dgan-backend[parquet]'."
        ) from error
    return pyarrow


class ParquetWriter:
    """`data/train-00000-of-00010.parquet` and so on; a mask's values are class indices."""

    def __init__(self, folder: Storage, count: int, scratch: Path) -> None:
        self._folder, self._path = folder, scratch / "part.parquet"
        self._files, self._number, self._written = math.ceil(count / ROWS), 0, 0
        self._arrow = pyarrow()
        self._schema = _schema(self._arrow)
        self._open: Any = None
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, item: Item) -> None:
        entry = item.entry
        row = {
            "image": {"bytes": item.picture, "path": f"{entry.key}.png"},
            "mask": {"bytes": item.mask, "path": f"{entry.key}.mask.png"},
            "seed": entry.seed,
            "score": entry.score,
            "uncertainty": entry.uncertainty,
        }
        self._rows.append(row)
        self._bytes += len(item.picture) + len(item.mask)
        if self._bytes >= _GROUP_BYTES:
            self._flush()
        if self._written + len(self._rows) == ROWS:
            self.finish()

    def finish(self) -> None:
        if not self._written and not self._rows:
            return
        self._flush()
        self._open.close()
        name = f"data/train-{self._number:05d}-of-{self._files:05d}.parquet"
        self._folder.put(self._path, name)
        self._open, self._number, self._written = None, self._number + 1, 0

    def close(self) -> None:
        if self._open is not None:
            self._open.close()

    def _flush(self) -> None:
        """Write a group of rows."""
        if self._open is None:
            self._open = self._arrow.parquet.ParquetWriter(
                self._path, self._schema, compression={"image.bytes": "none", "mask.bytes": "none"}
            )
        if self._rows:
            self._open.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._written += len(self._rows)
        self._rows, self._bytes = [], 0


def _schema(arrow: Any) -> Any:
    file = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = [
        ("image", file),
        ("mask", file),
        ("seed", arrow.int64()),
        ("score", arrow.float32()),
        ("uncertainty", arrow.float32()),
    ]
    told = {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
    return arrow.schema(columns, metadata=told)
