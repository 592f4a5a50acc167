"""The one door for generators of other projects: a file is read, converted, and kept as our own.

Nothing of a file is run, whatever it says; `foreign/` has the readers, one a format.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign import nvidia, rosinality, tensorflow, torch_files
from dgan_backend.generators.foreign.found import Found
from dgan_backend.generators.foreign.stored import Budget, StoredTensor
from dgan_backend.generators.foreign.stylegan1 import (
    AVERAGE,
    port_state,
    recorded_stylegan1,
    stylegan1,
)
from dgan_backend.generators.foreign.stylegan2 import stylegan2
from dgan_backend.generators.foreign.stylegan3 import MARK, recorded_stylegan3, stylegan3
from dgan_backend.generators.native import CARD, GeneratorCard, save_generator
from dgan_backend.generators.network import Network
from dgan_backend.settings import Settings

CONVERSION = 1  # of how files are converted; what an older one kept is made anew
KEPT = "generators"  # under MODEL_DIR
FORMATS = (
    "NVIDIA's pickles of StyleGAN2 (PyTorch, TensorFlow) and StyleGAN3, .pt files of rosinality's "
    "StyleGAN2 and of encoders made for it (pSp, e4e, ReStyle), DatasetGAN's StyleGAN1"
)
_DIGITS = 16  # of the SHA-256 that name a kept folder
_AVERAGES = {"stylegan1": AVERAGE}  # else mapping.w_avg
_NETWORKS: dict[str, Callable[[Found, int | None], tuple[Network, Found]]] = {
    "stylegan1": stylegan1,
    "stylegan2": stylegan2,
    "stylegan3": stylegan3,
}

log = logging.getLogger(__name__)


def import_generator(
    path: Path,
    folder: Path,
    *,
    name: str = "",
    licence: str = "",
    label: int | None = None,
    average: Path | None = None,
    turns: bool = False,
) -> GeneratorCard:
    """Convert a file to a native folder; returns its card.

    name: "" = the file's. licence: "" = the one known of the format. label: the class that a
    conditional generator is to make. average: npy with the average latent [w_dim] or
    [rows, w_dim], where the file has none. turns: its pictures have no up.
    Raises DganError that names the file and says what is wrong with it.
    """
    if folder.exists():
        raise DganError(f"{folder} exists already; choose another --out.")
    w = None if average is None else _latent(average)
    try:
        found = read_foreign(path)
        if w is not None:
            found = _with_average(found, w)
        network, found = network_of(found, label)
    except DganError as error:
        raise DganError(f"{path} cannot be used: {error}") from error
    training = {
        "imported": found.kind,
        "file": path.name,
        "file_sha256": hash_of(path),
        "notes": list(found.notes),
        **({"turns": True} if turns else {}),
    }
    name, licence = name or _name_of(path), licence or found.licence
    try:
        return save_generator(folder, name, network, licence=licence, training=training, dtype=None)
    except (OSError, SafetensorError) as error:
        raise DganError(f"{folder} cannot be written ({error}).") from error


def converted(path: Path) -> Path:
    """The native folder of a file, under MODEL_DIR by the file's SHA-256; made when missing."""
    kept = Settings.from_env().model_dir / KEPT
    folder = kept / f"{hash_of(path)[:_DIGITS]}-{CONVERSION}"
    if (folder / CARD).is_file():
        return folder
    try:
        kept.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".", dir=kept))
    except OSError as error:
        raise DganError(
            f"{path} cannot be converted, as {kept} cannot be written to ({error.strerror}); set "
            "MODEL_DIR, or convert it by `dgan-backend generator import`."
        ) from error
    try:
        card = import_generator(path, unfinished / "made")
        try:
            (unfinished / "made").rename(folder)
        except OSError:  # another process was faster
            if not (folder / CARD).is_file():
                raise
        log.info("%s is now the generator %s in %s", path, card.name, folder)
    finally:
        shutil.rmtree(unfinished)
    return folder


def network_of(found: Found, label: int | None = None) -> tuple[Network, Found]:
    """An RGB network of what was found, and all notes on it. label: see `import_generator`."""
    return _NETWORKS[found.family](found, label)


def read_foreign(path: Path) -> Found:
    """What a file has of a generator; raises DganError, in a sentence without the file's name."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise DganError(f"it cannot be opened ({error.strerror}).") from error
    _check_beginning(bytes(data[:512]))
    budget = Budget(len(data))
    if torch_files.is_zip(data):
        return _of_torch(torch_files.read_zip(data), budget)
    if torch_files.is_legacy(data):
        return _of_torch(torch_files.read_legacy(data), budget)
    if data[0] != 0x80:  # which all pickles from protocol 2 on begin with
        raise DganError(f"it is none of the formats that can be read: {FORMATS}.")
    return _of_pickle(nvidia.read(data), budget)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict that torch.save wrote, by their names.

    Where it lies beside other things, as `model` or `state_dict`. Raises DganError, in a sentence
    without the file's name.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise DganError(f"it cannot be opened ({error.strerror}).") from error
    _check_beginning(bytes(data[:512]))
    if not (torch_files.is_zip(data) or torch_files.is_legacy(data)):
        raise DganError("it was not saved by torch; give a .pth or a .safetensors file.")
    read = torch_files.read_zip if torch_files.is_zip(data) else torch_files.read_legacy
    value, budget = read(data), Budget(len(data))
    for key in ("model", "state_dict"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict):
        raise DganError(f"it holds {_inside(value)}, and no tensors by their names.")
    stored = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
    return {name: tensor.read(budget) for name, tensor in stored.items()}


def _of_torch(value: Any, budget: Budget) -> Found:
    if (state := rosinality.states(value)) is not None:
        return rosinality.stylegan2(value, state, budget)
    if (state := port_state(value)) is not None:
        return recorded_stylegan1(state, budget)
    raise DganError(
        f"it was saved by torch, but holds {_inside(value)}, and no generator known here."
    )


def _of_pickle(value: Any, budget: Budget) -> Found:
    if (network := nvidia.recorded(value)) is not None:
        stylegan = recorded_stylegan3 if MARK in network.tensors else nvidia.stylegan2
        return stylegan(network, budget)
    if (state := tensorflow.network(value)) is not None:
        return tensorflow.stylegan2(state, budget)
    raise DganError(f"it is a pickle of {_inside(value)}, and no generator known here.")


def _inside(value: Any) -> str:
    if isinstance(value, dict):
        keys = [str(key)[:40] for key in list(value)[:6]]
        return f"the keys {', '.join(keys)}" if keys else "nothing"
    return f"one {type(value).__name__}"


def _check_beginning(head: bytes) -> None:
    """Raises DganError for what people have instead of the file they wanted."""
    text = head.lstrip().lower()
    if not head:
        raise DganError("it is empty; fetch it again.")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise DganError(
            "it is a web page, not weights: the server answered with a page (a login, a quota); "
            "fetch it in a browser."
        )
    if text.startswith(b"version https://git-lfs"):
        raise DganError("it is a pointer of Git LFS, not weights; run `git lfs pull` there.")
    if head[8:9] == b"{":
        raise DganError("it is a safetensors file; of a native generator, give the folder.")


def _latent(path: Path) -> Tensor:
    """[w_dim] or [rows, w_dim] float32."""
    try:
        value = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DganError(f"{path} is no npy file of numbers ({error}).") from error
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim not in (1, 2):
        raise DganError(f"{path} must have one latent [w_dim] or [rows, w_dim] of real numbers.")
    return torch.from_numpy(value.astype(np.float32))


def _with_average(found: Found, w: Tensor) -> Found:
    """w: [w_dim], or [rows, w_dim], of which only StyleGAN1 uses each."""
    if (name := _AVERAGES.get(found.family)) is None:
        name, w = "mapping.w_avg", w if w.ndim == 1 else w.mean(dim=0)
    return found.noted({**found.tensors, name: w})


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", path.stem).strip("-.") or "generator"


def hash_of(path: Path) -> str:
    """SHA-256, read once as long as the file stays as it is."""
    try:
        about = path.stat()
    except OSError as error:
        raise DganError(f"{path} cannot be opened ({error.strerror}).") from error
    return _hashed(path.absolute(), about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, changed: int, inode: int) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    except OSError as error:
        raise DganError(f"{path} cannot be read ({error.strerror}).") from error
    return digest.hexdigest()
