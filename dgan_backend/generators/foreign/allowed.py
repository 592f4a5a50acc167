"""The names that a generator file may give, and what stands for each: never the thing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.stored import (
    STORAGES,
    Budget,
    Dtype,
    Record,
    StoredArray,
    StoredTensor,
)
from dgan_backend.generators.foreign.values import (
    Allowed,
    Blob,
    Constructor,
    Global,
    LongText,
    checked_key,
    shown,
)

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
NETWORK = "dnnlib.tflib.network.Network"
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def _record(kind: str) -> Constructor:
    return lambda args: Record(kind, args)


def _dict(args: tuple[Any, ...]) -> dict[str | int, Any]:
    """Of nothing, of a dict, or of a list of pairs."""
    if not args:
        return {}
    (items,) = args
    if type(items) is dict:
        return dict(items)
    if type(items) is not list or not all(type(pair) in (list, tuple) for pair in items):
        raise TypeError
    return {checked_key(key): value for key, value in items}


def _set(args: tuple[Any, ...]) -> list[Any]:
    (items,) = args or ([],)
    if type(items) is not list:
        raise TypeError
    return items


def _encoded(args: tuple[Any, ...]) -> Blob:
    """Bytes, which protocol 2 writes as text."""
    text, encoding = args
    if encoding not in ("latin1", "latin-1"):
        raise TypeError
    if type(text) is LongText:
        return Blob(text.view, encoded=True)
    return Blob(memoryview(text.encode("latin-1")))


def _bytes(args: tuple[Any, ...]) -> Blob:
    """Empty ones in protocol 2, and those of a bytearray in protocol 5."""
    (blob,) = args or (Blob(memoryview(b"")),)
    if type(blob) is not Blob:
        raise TypeError
    return blob


def _dtype(args: tuple[Any, ...]) -> Dtype:
    code = args[0]
    if type(code) is str and code in _NUMBERS:
        return Dtype(np.dtype(code).newbyteorder("<"))
    raise DganError(f"it has an array of {shown(code)}; only plain numbers are read.")


def _scalar(args: tuple[Any, ...]) -> float | int:
    dtype, blob = args
    return StoredArray().fill((), dtype, False, blob).read(Budget(8)).item()


def _array(args: tuple[Any, ...]) -> StoredArray:
    if not args or args[0] != Global("numpy", "ndarray"):
        raise TypeError
    return StoredArray()


def _array_of_buffer(args: tuple[Any, ...]) -> StoredArray:
    """As protocol 5 has it."""
    blob, dtype, size, order = args
    return StoredArray().fill(size, dtype, order == "F", blob)


def _refused(args: tuple[Any, ...]) -> Any:
    """Of names that are only pointed to."""
    raise TypeError


def _tensor(args: tuple[Any, ...]) -> StoredTensor:
    storage, offset, size, stride = args[:4]
    return StoredTensor(storage, offset, size, stride)


def _parameter(args: tuple[Any, ...]) -> StoredTensor:
    if type(args[0]) is not StoredTensor:
        raise TypeError
    return args[0]


def _names(*texts: str) -> list[Global]:
    return [Global(*text.rsplit(".", 1)) for text in texts]


_NUMPY: dict[Global, Constructor] = {
    Global("numpy", "dtype"): _dtype,
    Global("numpy", "ndarray"): _refused,
    **{
        Global(f"numpy.{core}.{module}", name): made
        for core in ("core", "_core")
        for module, name, made in (
            ("multiarray", "scalar", _scalar),
            ("multiarray", "_reconstruct", _array),
            ("numeric", "_frombuffer", _array_of_buffer),
        )
    },
}
_PLAIN: dict[Global, Constructor] = {
    Global("collections", "OrderedDict"): _dict,
    Global("dnnlib.util", "EasyDict"): _dict,
    Global("dnnlib", "EasyDict"): _dict,
    Global("builtins", "set"): _set,
    Global("__builtin__", "set"): _set,
    Global("builtins", "bytes"): _bytes,
    Global("__builtin__", "bytes"): _bytes,
    Global("builtins", "bytearray"): _bytes,
    Global("__builtin__", "bytearray"): _bytes,
    Global("_codecs", "encode"): _encoded,
}
_TENSORS: dict[Global, Constructor] = {
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Global("torch._utils", "_rebuild_parameter"): _parameter,
}


# Of NVIDIA's pickles, those of TensorFlow included. `storage` stands for torch's function that
# would load a nested file.
def nvidia(storage: Callable[[Blob], Any]) -> Allowed:
    def nested(args: tuple[Any, ...]) -> Any:
        (blob,) = args
        if type(blob) is not Blob:
            raise TypeError
        return storage(blob)

    return {
        **_NUMPY,
        **_PLAIN,
        **_TENSORS,
        Global("torch.storage", "_load_from_bytes"): nested,
        **{Global(*name.rsplit(".", 1)): _record(name) for name in (PERSISTENT, NETWORK)},
    }


# Of torch.save: weights, and what a training keeps beside them. Storages are persistent ids.
TORCH: Allowed = {
    **_NUMPY,
    **_PLAIN,
    **_TENSORS,
    **{
        Global(*name.rsplit(".", 1)): _record(name)
        for name in ("argparse.Namespace", "torch.Size", "torch.device")
    },
    **{Global("torch", kind): _refused for kind in STORAGES},
}
STORAGE: Allowed = {Global("torch", kind): _refused for kind in STORAGES}
