"""The one format inside the house: a folder of safetensors and a JSON card."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dgan_backend.errors import DganError
from dgan_backend.generators.families import build, family, family_name
from dgan_backend.generators.network import Architecture, Network, Synthesis

FORMAT = "dgan-backend generator 1"
CARD, WEIGHTS = "card.json", "generator.safetensors"


@dataclass(frozen=True)
class GeneratorCard:
    """What a generator is and where it comes from.

    truncation: the psi that samples are drawn with. training: what it was trained on and for how
    long, in plain words and numbers.
    """

    name: str
    architecture: Architecture
    sha256: str
    truncation: float = 0.7
    licence: str = ""
    attribution: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name and the first 8 hex digits of the weights' SHA-256."""
        return f"{self.name}-{self.sha256[:8]}"

    @property
    def turns(self) -> bool:
        """Whether its pictures have no up, so that what learns from them does at any angle."""
        return bool(self.training.get("turns"))

    @property
    def caution(self) -> str:
        """What people who make pictures with it should be told; "" where the licence, if there is
        one, does not keep them from using these."""
        if not re.search(r"non-?commercial|\bNC\b", self.licence, re.IGNORECASE):
            return ""
        return f"pictures of the generator {self.name} come under its licence: {self.licence}."

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "family": family_name(self.architecture),
            "architecture": self.architecture.to_json(),
            "sha256": self.sha256,
            "truncation": self.truncation,
            "licence": self.licence,
            "attribution": self.attribution,
            "training": self.training,
        }


def trained_for(folder: Path, generator_id: str) -> bool:
    """Whether what was trained for a generator of that id is for the one in the folder: whether it
    has the same weights. "" = nobody told, which is believed."""
    if not generator_id or not (folder / CARD).is_file():
        return True
    return read_card(folder).id.rpartition("-")[2] == generator_id.rpartition("-")[2]


class Generator(nn.Module):
    """A network of any family with a name: a latent of it *is* its picture (noise is fixed)."""

    def __init__(self, card: GeneratorCard) -> None:
        super().__init__()
        self.card = card
        self.network = build(card.architecture)

    @property
    def id(self) -> str:
        return self.card.id

    @property
    def config(self) -> Architecture:
        return self.card.architecture

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def at_once(self) -> int:
        """Pictures that are computed together where nobody says: 16 up to 128 px, then fewer."""
        return max(2, min(16, 16 * 128 // self.resolution))

    @property
    def z_dim(self) -> int:
        return self.config.z_dim

    @property
    def w_dim(self) -> int:
        return self.config.w_dim

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def synthesis(self) -> Synthesis:
        return self.network.synthesis

    def mapping(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """z [N, z_dim] -> w+ [N, num_ws, w_dim].

        c: [N, c_dim]; None = a class for each z that follows from it, see `labels_of`.
        truncation_cutoff: rows of w+ that are truncated; None = as the family does it.
        """
        if c is None and self.config.c_dim:
            c = labels_of(z, self.config.c_dim)
        return self.network.mapping(z, c, truncation, truncation_cutoff)

    def at_rest(self) -> Generator:
        """Itself, for use rather than for training: without gradients of the weights, which lie as
        convolutions are fastest."""
        if self.network.channels_last:
            for parameter in self.network.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
        return self.eval().requires_grad_(False)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load weights by name; raises DganError that names missing, unknown or misshapen ones."""
        self.network.load_tensors(tensors)

    def latent_from_seed(self, seed: int) -> Tensor:
        """z [1, z_dim] float32: numpy RandomState(seed), bit-identical on every machine.

        seed: a whole number in [0, 2^32).
        """
        z = np.random.RandomState(seed).randn(1, self.z_dim).astype(np.float32)
        return torch.from_numpy(z).to(self.device)


def labels_of(z: Tensor, classes: int) -> Tensor:
    """One-hot classes [N, classes] float32, one of each z [N, z_dim]: its CRC-32 modulo `classes`.

    So a seed alone still is a picture, and all classes are sampled alike.
    """
    rows = np.ascontiguousarray(z.detach().cpu().numpy(), dtype="<f4")
    chosen = torch.tensor([zlib.crc32(row.tobytes()) % classes for row in rows])
    return nn.functional.one_hot(chosen, classes).float().to(z.device)


def read_generator(folder: Path, device: str = "cpu") -> Generator:
    """Read a native folder; raises DganError that names the file at fault and what to do."""
    _check_device(device)
    card = read_card(folder)
    path = folder / WEIGHTS
    tensors = read_tensors(path)
    if (found := file_hash(path)) != card.sha256:
        raise DganError(f"{path} has SHA-256 {found[:8]}..., its card says {card.sha256[:8]}...: "
                        "one of the two was replaced; fetch both again.")  # fmt: skip
    generator = Generator(card)
    generator.load_tensors(tensors)
    return generator.at_rest().to(device)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DganError(f"device {device!r} cannot be used here ({reason}); try cpu.") from error


def read_card(folder: Path) -> GeneratorCard:
    """Read a native folder's card; raises DganError that names the file and the key at fault."""
    path = folder / CARD
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DganError(f"{folder} has no {CARD}, so it is no native generator folder.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DganError(f"{path} is not JSON ({error}).") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise DganError(f"{path} has format {found!r}; this version reads {FORMAT!r}.")
    try:
        numbers = family(value.get("family", "stylegan2")).config
        return GeneratorCard(
            name=value["name"],
            architecture=numbers.from_json(value["architecture"]),
            sha256=value["sha256"],
            truncation=float(value["truncation"]),
            licence=value.get("licence", ""),
            attribution=value.get("attribution", ""),
            training=value.get("training", {}),
        )
    except KeyError as error:
        raise DganError(f"{path} misses the key {error}.") from error
    except (TypeError, ValueError, DganError) as error:
        raise DganError(f"{path}: {error}") from error


def save_generator(
    folder: Path,
    name: str,
    network: Network,
    *,
    truncation: float = 0.7,
    licence: str = "",
    attribution: str = "",
    training: dict[str, Any] | None = None,
    dtype: torch.dtype | None = torch.float16,
) -> GeneratorCard:
    """Write a network as a native folder, weights as `dtype` (None = as they are); returns the
    card written.

    What the config alone tells is left out, and what is too sensitive stays in float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    tensors = {k: v for k, v in state.items() if not k.endswith(network.redundant)}
    write_tensors(folder / WEIGHTS, tensors, dtype, network.exact)
    card = GeneratorCard(
        name=name,
        architecture=network.config,
        sha256=file_hash(folder / WEIGHTS),
        truncation=truncation,
        licence=licence,
        attribution=attribution,
        training=training or {},
    )
    write_json(folder / CARD, card.to_json())
    return card


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises DganError that names it when it is something else."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise DganError(f"{path} is missing; copy the whole folder again.") from None
    except (SafetensorError, OSError) as error:
        raise DganError(f"{path} is not a safetensors file or is cut short ({error}).") from error


def write_tensors(
    path: Path,
    tensors: dict[str, Tensor],
    dtype: torch.dtype | None = torch.float16,
    exact: tuple[str, ...] = (),
) -> None:
    """Write tensors in one step; raises DganError that says why it cannot be.

    Floats as `dtype` (None = as they are); exact: endings of the names of those that stay as they
    are.
    """

    def stored_as(name: str, t: Tensor) -> Tensor:
        narrowed = dtype is not None and t.is_floating_point() and not name.endswith(exact)
        return t.to(dtype) if narrowed else t

    stored = {name: stored_as(name, t).detach().cpu().contiguous() for name, t in tensors.items()}
    with _moved_to(path) as partial:
        save_file(stored, partial)


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one step; raises DganError that says why it cannot be."""
    with _moved_to(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _moved_to(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` when all went well."""
    partial = path.with_suffix(".partial")
    try:
        yield partial
        partial.replace(path)
    except (SafetensorError, OSError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DganError(
            f"{path} cannot be written ({error}); see that there is room, and the right to write."
        ) from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
