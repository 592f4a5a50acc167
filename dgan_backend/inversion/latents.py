"""Latents of pictures that were inverted before, on storage, found by what the pictures show."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators import Generator
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.pictures import Picture
from dgan_backend.storage import Storage

LATENTS = "latents"  # in MODEL_DIR, a folder for each project
_ENDING = ".safetensors"
_FORMAT = 2  # another number for another way to invert, so that old latents are not taken for new

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latent:
    """w [1, num_ws, w_dim] float32; error: see `Inversion.errors`."""

    w: Tensor
    error: float


class Latents:
    """A folder of them; each entry is written whole and never changes."""

    def __init__(self, folder: Storage | Path) -> None:
        self._folder = folder if isinstance(folder, Storage) else Storage(folder)

    def find(self, key: str) -> Latent | None:
        try:
            found = self._folder.find(_name(key))
            if found is None:
                return None
            tensors = load(found)
            return Latent(tensors["w"], float(tensors["error"]))
        except (DganError, SafetensorError, KeyError) as error:
            log.warning("Its picture is inverted again: %s/%s: %s", self._folder, _name(key), error)
            return None

    def keep(self, key: str, latent: Latent) -> None:
        tensors = {"w": latent.w, "error": latent.w.new_tensor(latent.error)}
        stored = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        self._folder.write(_name(key), save(stored))

    def __len__(self) -> int:
        return sum(name.endswith(_ENDING) for name in self._folder.names())

    def forget(self) -> None:
        self._folder.delete_all()


def _name(key: str) -> str:
    return f"{key}{_ENDING}"


def latents_of(models: Storage | Path, uid: str) -> Latents:
    """Those of one project. Raises DganError when `uid` is none, since it becomes a path."""
    if not re.fullmatch(r"\d+(\.\d+)?", uid):
        raise DganError(f"{uid!r} is no project's uid.")
    models = models if isinstance(models, Storage) else Storage(models)
    return Latents(models / LATENTS / uid)


def projects_with_latents(models: Storage) -> set[str]:
    """Their uids."""
    return set((models / LATENTS).folders())


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
