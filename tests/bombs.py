"""Small files that would take a careless reader's memory or time."""

from __future__ import annotations

import io
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.pickled import (
    Call,
    ada_attributes,
    persistent,
    recorded,
    small_tensors,
    tf_pickle,
    torch_saved,
    written,
)

PROTO = b"\x80\x04"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def _doubling() -> bytes:
    """A list of two lists of two lists ..."""
    return PROTO + b"]q\x00" + b"".join(
        b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(200)
    ) + b"."  # fmt: skip


def _doubling_modules() -> bytes:
    module: Any = persistent({"_modules": {}})
    for _ in range(60):
        module = persistent({"_modules": {"a": module, "b": module}})
    return written({"G_ema": module})


def _endless_modules() -> bytes:
    """A module whose modules have a module of its own state."""
    data = written({"G_ema": persistent({"_modules": {}})})
    inside = data.index(b"_modules\x94}\x94") + len(b"_modules\x94}\x94")
    same = b"\x8c\x01ah\x04h\x08\x85Rs"  # memo 4: the name of what makes it, 8: its table
    return data[:inside] + same + data[inside:]


def _stride_zero() -> bytes:
    storage = torch.zeros(1).untyped_storage()
    tensor = torch.empty(0).set_(storage, 0, (10**6, 10**6), (0, 0))
    return _with_average(tensor)


def _with_average(value: Any) -> bytes:
    tensors = small_tensors()
    attributes = ada_attributes(tensors, 0.01, None)
    attributes["mapping"] = {"_buffers": OrderedDict(w_avg=value)}
    return written({"G_ema": recorded(tensors, attributes)})


def _rebuilt(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    blob = torch_saved(torch.zeros(16)._typed_storage(), legacy=True)
    storage = Call("torch.storage", "_load_from_bytes", blob)
    name = ("torch._utils", "_rebuild_tensor_v2")
    return _with_average(Call(*name, storage, offset, size, stride, False, OrderedDict()))


def _claimed_storage() -> bytes:
    """A nested storage that says it has 2^40 numbers."""
    blob = torch_saved(torch.zeros(16)._typed_storage(), legacy=True)
    at = blob.index(b"K\x10N")
    blob = blob[:at] + whole(2**40) + blob[at + 2 :]
    storage = Call("torch.storage", "_load_from_bytes", blob)
    name = ("torch._utils", "_rebuild_tensor_v2")
    return _with_average(Call(*name, storage, 0, (2**40,), (1,), False, OrderedDict()))


def _crowd(buffers: list[Any], protocol: int = 4) -> bytes:
    """A network of so many modules of one buffer each, that looks like a generator."""
    layer = persistent({"activation": "lrelu", "conv_clamp": None})
    modules = {f"m{n}": persistent({"_buffers": {"x": buffer}}) for n, buffer in enumerate(buffers)}
    first = persistent({"_buffers": {"const": torch.zeros(1)}, "_modules": {"conv1": layer}})
    synthesis = persistent({"_modules": {"b4": first}})
    network = persistent({"_modules": {"synthesis": synthesis, **modules}})
    return written({"G_ema": network}, protocol)


def _same_tensor_often() -> bytes:
    """900 names of one tensor of 4 MB."""
    return _crowd([torch.zeros(2**20)] * 900)


def _same_text_often() -> bytes:
    """4 MB that protocol 2 writes as text, to be decoded for each of 900 small tensors."""
    blob = torch_saved(torch.zeros(2**20)._typed_storage(), legacy=True)
    storages = [Call("torch.storage", "_load_from_bytes", blob) for _ in range(900)]
    name = ("torch._utils", "_rebuild_tensor_v2")
    return _crowd([Call(*name, s, 0, (1,), (1,), False, {}) for s in storages], 2)


def _copied_dicts() -> bytes:
    """An OrderedDict of 50,000 pairs, copied 50,000 times."""
    pairs = b"".join(text(str(n)) + b"N\x86" for n in range(50_000))
    made = b"ccollections\nOrderedDict\nq\x01" + b"](" + pairs + b"eq\x02"
    return PROTO + made + b"h\x01h\x02\x85R" * 50_000 + b"."


def _encoded_often() -> bytes:
    made = b"c_codecs\nencode\nq\x01" + text("x" * 4096) + b"q\x02" + text("latin1") + b"q\x03"
    return PROTO + made + b"h\x01h\x02h\x03\x86R" * 60_000 + b"."


def _colliding() -> bytes:
    """Numbers of one hash as keys."""
    keys = b"".join(whole(n * (2**61 - 1)) + b"N" for n in range(1, 60_000) if n < 2**9)
    return PROTO + b"}(" + keys + b"u."


def _wide_text() -> bytes:
    return PROTO + (text("\N{GRINNING FACE}" + "x" * 4000) + b"0") * 4000 + b"N."


def _compressed_zip() -> bytes:
    """64 MB of zeros in 64 kB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**26))
    return file.getvalue()


def _long_directory() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for n in range(30_000):
            archive.writestr(f"archive/data/{n:050d}", b"")
    return file.getvalue()


def _tall_pyramid() -> bytes:
    """Layers for 2^30 px, whose missing noise would have to be drawn."""
    state = {
        "style.1.weight": torch.zeros(4, 4),
        "style.1.bias": torch.zeros(4),
        "input.input": torch.zeros(1, 4, 4, 4),
        "conv1.conv.weight": torch.zeros(1, 4, 4, 3, 3),
    }
    for n in range(56):
        state[f"convs.{n}.conv.weight"] = torch.zeros(1, 4, 4, 3, 3)
    for n in range(28):
        state[f"to_rgbs.{n}.conv.weight"] = torch.zeros(1, 3, 4, 1, 1)
    return torch_saved({"g_ema": state})


def _tf_many_parts() -> bytes:
    tensors = small_tensors()
    return tf_pickle(tensors, {"resample_kernel": [0.0] * 10_000})


def _parts_of_scalars() -> bytes:
    return written(np.zeros((2, 2)), 2).replace(
        b"K\x02K\x02\x86", whole(2**40) + whole(2**40) + b"\x86"
    )


BOMBS: dict[str, Callable[[], bytes]] = {
    "doubling lists": _doubling,
    "doubling modules": _doubling_modules,
    "endless modules": _endless_modules,
    "deep lists": lambda: PROTO + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": lambda: PROTO + b"N" + b"\x85" * 250_000 + b".",
    "deep value of G_ema": lambda: (
        PROTO + b"}" + text("G_ema") + b"]" * 100_000 + b"a" * 99_999 + b"s."
    ),
    "marks": lambda: PROTO + b"(" * 3_000_000 + b".",
    "lists": lambda: PROTO + b"]" * 5_000_000 + b".",
    "sets": lambda: PROTO + b"\x8f" * 5_000_000 + b".",
    "memo": lambda: PROTO + b"N" + b"\x94" * 5_000_000 + b".",
    "memo index": lambda: PROTO + b"Nr\xff\xff\xff\xff.",
    "long number": lambda: PROTO + b"\x8b\xff\xff\xff\x7f" + bytes(2**20),
    "negative length": lambda: PROTO + b"\x8b\xff\xff\xff\xff.",
    "bytes of 2^40": lambda: PROTO + b"\x8e" + struct.pack("<Q", 2**40) + b".",
    "text of 2^63": lambda: PROTO + b"\x8d" + struct.pack("<Q", 2**63) + b".",
    "frame of 2^60": lambda: PROTO + b"\x95" + struct.pack("<Q", 2**60) + b".",
    "stride 0": _stride_zero,
    "stride 0, small": lambda: _rebuilt(0, (2**40,), (0,)),
    "beyond storage": lambda: _rebuilt(8, (4, 4), (4, 1)),
    "negative stride": lambda: _rebuilt(0, (4,), (-1,)),
    "negative offset": lambda: _rebuilt(-1, (4,), (1,)),
    "too many axes": lambda: _rebuilt(0, (1,) * 200, (1,) * 200),
    "empty": lambda: _rebuilt(0, (2**39, 0), (1, 1)),
    "claimed storage": _claimed_storage,
    "one tensor often": _same_tensor_often,
    "one text often": _same_text_often,
    "copied dicts": _copied_dicts,
    "encoded often": _encoded_often,
    "colliding keys": _colliding,
    "wide text": _wide_text,
    "compressed zip": _compressed_zip,
    "long directory": _long_directory,
    "tall pyramid": _tall_pyramid,
    "long kernel": _tf_many_parts,
    "array of 2^80": _parts_of_scalars,
    "build twice": lambda: PROTO + b"cdnnlib.tflib.network\nNetwork\n)\x81}b}b.",
    "build often": lambda: PROTO + b"}" + b"}b" * 100_000 + b".",
    "build a name": lambda: PROTO + b"cdnnlib.util\nEasyDict\n}b.",
}
