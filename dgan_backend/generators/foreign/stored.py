"""Arrays and tensors that still lie in a file: where, how large, and read only when wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.values import Blob, Buildable

_MOST_DIMENSIONS = 8
_MOST_ELEMENTS = 2**40


class Budget:
    """What reading tensors may take: as many bytes of them as the file has, and as many again of
    bytes that have to be decoded first."""

    def __init__(self, size: int) -> None:
        self._left = self._work = size

    def spend(self, size: int) -> None:
        self._left -= size
        self._check()

    def work(self, size: int) -> None:
        self._work -= size
        self._check()

    def _check(self) -> None:
        if self._left < 0 or self._work < 0:
            raise DganError("it asks for more memory than it holds; it is damaged or a trap.")


class Record(Buildable):
    """What an object of the file was made of; never that object.

    kind: the name that the file gave. args: what it was to be made of. state: what BUILD said.
    """

    __slots__ = ("args", "kind", "state")

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind, self.args, self.state = kind, args, None

    def build(self, state: Any) -> Record:
        if self.state is not None:
            raise TypeError
        self.state = state
        return self


class Dtype(Buildable):
    """A numpy dtype of plain numbers, little-endian."""

    __slots__ = ("numpy",)

    def __init__(self, numpy: np.dtype[Any]) -> None:
        self.numpy = numpy

    def build(self, state: Any) -> Dtype:
        """state: numpy's (version, byte order, ...)."""
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise DganError("it has numbers in a byte order of other machines.")
        return self


class StoredArray(Buildable):
    """A numpy array in the file."""

    __slots__ = ("_blob", "_dtype", "_fortran", "size")

    def __init__(self) -> None:
        self._blob: Blob | None = None
        self._dtype = np.dtype("f4")
        self.size: tuple[int, ...] = ()
        self._fortran = False

    def build(self, state: Any) -> StoredArray:
        """state: numpy's (version, shape, dtype, Fortran order, bytes)."""
        if self._blob is not None:
            raise TypeError
        _, size, dtype, fortran, blob = state
        return self.fill(size, dtype, bool(fortran), blob)

    def fill(self, size: Any, dtype: Any, fortran: bool, blob: Any) -> StoredArray:
        if type(dtype) is not Dtype or type(blob) is not Blob:
            raise TypeError
        wanted = elements(size) * dtype.numpy.itemsize
        if wanted > blob.at_most:
            raise DganError(f"it is damaged: an array of {wanted} bytes has {blob.at_most}.")
        self.size, self._dtype, self._fortran, self._blob = size, dtype.numpy, fortran, blob
        return self

    def read(self, budget: Budget) -> npt.NDArray[Any]:
        """The array, in the machine's order and in memory of its own."""
        if self._blob is None:
            raise DganError("it is damaged: an array of it has no numbers.")
        budget.spend(elements(self.size) * self._dtype.itemsize)
        budget.work(self._blob.work)
        data = self._blob.read()
        if len(data) != elements(self.size) * self._dtype.itemsize:
            raise DganError("it is damaged: an array of it has the wrong number of bytes.")
        flat = np.frombuffer(data, self._dtype)
        return np.array(flat.reshape(self.size, order="F" if self._fortran else "C"), order="C")


# By the name of the storage's class in torch: how it lies in the file, and what a tensor of it is.
_KINDS: dict[str, tuple[str, torch.dtype]] = {
    "FloatStorage": ("<f4", torch.float32),
    "HalfStorage": ("<f2", torch.float16),
    "BFloat16Storage": ("<i2", torch.bfloat16),
    "DoubleStorage": ("<f8", torch.float64),
    "LongStorage": ("<i8", torch.int64),
    "IntStorage": ("<i4", torch.int32),
    "ShortStorage": ("<i2", torch.int16),
    "CharStorage": ("|i1", torch.int8),
    "ByteStorage": ("|u1", torch.uint8),
    "BoolStorage": ("|b1", torch.bool),
}
STORAGES = tuple(_KINDS)


class Storage:
    """A torch storage. kind: one of STORAGES. find: gives its bytes."""

    __slots__ = ("_find", "kind", "numel")

    def __init__(self, kind: str, numel: Any, find: Callable[[], memoryview]) -> None:
        if type(numel) is not int or not 0 <= numel <= _MOST_ELEMENTS or kind not in _KINDS:
            raise TypeError
        self.kind, self.numel, self._find = kind, numel, find

    @property
    def nbytes(self) -> int:
        return self.numel * np.dtype(_KINDS[self.kind][0]).itemsize

    def read(self) -> npt.NDArray[Any]:
        """[numel], not a copy."""
        data = self._find()
        if len(data) != self.nbytes:
            raise DganError(f"it is damaged: a tensor of {self.nbytes} bytes has {len(data)}.")
        return np.frombuffer(data, _KINDS[self.kind][0])


class LazyStorage:
    """A storage inside a file of its own, which is looked at when it is wanted."""

    __slots__ = ("_blob", "_parse")

    def __init__(self, blob: Blob, parse: Callable[[memoryview], Storage]) -> None:
        self._blob, self._parse = blob, parse

    def storage(self, budget: Budget) -> Storage:
        budget.work(self._blob.work)
        return self._parse(self._blob.read())


class StoredTensor:
    """A tensor in the file. size, stride: whole numbers from 0 on."""

    __slots__ = ("_offset", "_storage", "_stride", "size")

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        if type(storage) not in (Storage, LazyStorage):
            raise TypeError
        elements(size)
        elements(stride)
        if type(offset) is not int or not 0 <= offset <= _MOST_ELEMENTS or len(size) != len(stride):
            raise TypeError
        self._storage, self._offset = storage, offset
        self.size, self._stride = tuple(size), tuple(stride)

    def read(self, budget: Budget) -> Tensor:
        """The tensor, contiguous and in memory of its own; float64 becomes float32.

        Raises DganError when it reaches beyond its storage or says the same numbers twice.
        """
        storage = self._storage
        if type(storage) is LazyStorage:
            storage = storage.storage(budget)
        count = elements(self.size)
        last = self._offset + sum((n - 1) * s for n, s in zip(self.size, self._stride, strict=True))
        if count and (last >= storage.numel or count > storage.numel):
            raise DganError(
                f"it is damaged or a trap: a tensor of size {list(self.size)} reaches beyond its "
                f"{storage.numel} numbers."
            )
        layout, kind = _KINDS[storage.kind]
        wide = np.dtype(layout).itemsize
        budget.spend(count * wide)
        if not count:
            raise DganError("it is damaged: a tensor of it is empty.")
        steps = [s * wide for s in self._stride]
        flat = storage.read()[self._offset :]
        view = np.lib.stride_tricks.as_strided(flat, self.size, steps, writeable=False)
        made = torch.from_numpy(view.copy(order="C"))
        if kind is torch.float64:
            return made.float()
        return made.view(kind) if made.dtype is not kind else made


def elements(size: Sequence[Any]) -> int:
    """The product of a size; raises TypeError or DganError when it is none."""
    if type(size) not in (tuple, list) or len(size) > _MOST_DIMENSIONS:
        raise TypeError
    if not all(type(n) is int and 0 <= n <= _MOST_ELEMENTS for n in size):
        raise TypeError
    return math.prod(size)
