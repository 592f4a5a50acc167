"""Latents of pictures that were inverted before, on disk, found by what the pictures show."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators import Generator
from dgan_backend.generators.native import read_tensors, write_tensors
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.pictures import Picture

LATENTS = "latents"  # in MODEL_DIR, a folder for each project
_FORMAT = 1  # another number for another way to invert, so that old latents are not taken for new

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latent:
    """w [1, num_ws, w_dim] float32; error: see `Inversion.errors`."""

    w: Tensor
    error: float


class Latents:
    """A folder of them; each entry is written whole and never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Latent | None:
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            tensors = read_tensors(path)
            return Latent(tensors["w"], float(tensors["error"]))
        except (DganError, KeyError) as error:
            log.warning("Its picture is inverted again: %s", error)
            return None

    def keep(self, key: str, latent: Latent) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"w": latent.w, "error": latent.w.new_tensor(latent.error)}
        # A process that lost its lease may write the same one.
        mine = path.with_name(f"{path.stem}-{os.getpid()}.tmp")
        write_tensors(mine, tensors, dtype=None)
        mine.replace(path)

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob("*.safetensors"))

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"


def latents_of(model_dir: Path, uid: str) -> Latents:
    """Those of one project. Raises DganError when `uid` is none, since it becomes a path."""
    if not re.fullmatch(r"\d+(\.\d+)?", uid):
        raise DganError(f"{uid!r} is no project's uid.")
    return Latents(model_dir / LATENTS / uid)


def projects_with_latents(model_dir: Path) -> set[str]:
    """Their uids."""
    return {path.name for path in (model_dir / LATENTS).glob("*") if path.is_dir()}


def inverter_id(generator: Generator, encoder: Encoder, settings: InversionSettings) -> str:
    """SHA-256 of all that a picture's latent follows from beside the picture."""
    digest = hashlib.sha256(
        json.dumps(
            [_FORMAT, generator.card.sha256, encoder.config.to_json(), asdict(settings)]
        ).encode()
    )
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def latent_key(inverter: str, picture: Picture) -> str:
    """inverter: see `inverter_id`; picture: [R, R, 3] uint8, as it is inverted."""
    return hashlib.sha256(inverter.encode() + picture.tobytes()).hexdigest()
