"""Which pictures remain: the surest of all, found in memory that does not grow with their number.

The uncertainties of all pictures lie in a file, sixteen bytes each, and are read in blocks. A
radix search finds the last one that remains: as many times as the number has digits (of 16 bits),
those that begin with the digits found so far are counted by their next digit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import numpy.typing as npt

_RECORD = np.dtype([("uncertainty", "<f8"), ("seed", "<u8")])
_BLOCK = 65_536  # records that are held at once
_DIGIT = 16  # bits


@dataclass
class Ranking:
    """Pictures by uncertainty; of equals the smaller seed is surer."""

    count: int = 0
    _file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def add(self, uncertainties: Iterable[float], seeds: Iterable[int]) -> None:
        """uncertainties: 0 or more, nats. Raises ValueError for others, NaN among them."""
        records = np.array(list(zip(uncertainties, seeds, strict=True)), dtype=_RECORD)
        if not (records["uncertainty"] >= 0).all():
            raise ValueError("an uncertainty is no number from 0 upward")
        records["uncertainty"] += 0.0  # the bits of -0.0 are no small number
        self._file.seek(0, 2)
        self._file.write(records.tobytes())
        self.count += len(records)

    def last(self, kept: int) -> tuple[float, int]:
        """Uncertainty and seed of the last of the `kept` surest."""
        if not 0 < kept <= self.count:
            raise ValueError(f"{kept} of {self.count} pictures cannot be kept")
        bits, rank = self._search(kept - 1, "uncertainty", None)
        seed, _ = self._search(rank, "seed", bits)
        return float(np.uint64(bits).view(np.float64)), seed

    def _search(self, rank: int, name: str, among: int | None) -> tuple[int, int]:
        """The value of that rank, from 0, as bits, and its own rank among those that are equal.

        among: only records of that uncertainty (bits).
        """
        found = 0
        for shift in range(64 - _DIGIT, -1, -_DIGIT):
            counts = np.zeros(2**_DIGIT, dtype=np.int64)
            for block in self._blocks():
                values = _bits(block, name)
                same = values >> np.uint64(shift) >> np.uint64(_DIGIT) == found
                if among is not None:
                    same &= _bits(block, "uncertainty") == among
                digits = values[same] >> np.uint64(shift) & np.uint64(2**_DIGIT - 1)
                counts += np.bincount(digits.astype(np.int64), minlength=2**_DIGIT)
            ends = np.cumsum(counts)
            digit = int(np.searchsorted(ends, rank, side="right"))
            rank -= int(ends[digit - 1]) if digit else 0
            found = found << _DIGIT | digit
        return found, rank

    def _blocks(self) -> Iterator[npt.NDArray[np.void]]:
        self._file.seek(0)
        while data := self._file.read(_BLOCK * _RECORD.itemsize):
            yield np.frombuffer(data, dtype=_RECORD)

    def close(self) -> None:
        self._file.close()


def _bits(block: npt.NDArray[np.void], name: str) -> npt.NDArray[np.uint64]:
    """Of numbers from 0 upward, whose order is that of their bits."""
    return np.ascontiguousarray(block[name]).view(np.uint64)
