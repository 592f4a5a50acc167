"""A version on disk: one trained interpreter, its training latents and masks, whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.native import read_tensors, write_json, write_tensors
from dgan_backend.interpreter import Ensemble
from dgan_backend.partonomy import Partonomy

FORMAT = "dgan-backend version 1"
CARD, WEIGHTS, TRAINING = "version.json", "interpreter.safetensors", "training.safetensors"
SHIPPED = Path(__file__).parent / "shipped" / "versions"


@dataclass(frozen=True)
class VersionCard:
    """What a version is.

    generator: a shipped name or a folder; generator_id: the exact weights. inversion: the
    `InversionSettings` it was fitted with; {} = the defaults.
    """

    name: str
    partonomy: Partonomy
    generator: str
    generator_id: str
    label_resolution: int
    inversion: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "partonomy": self.partonomy.to_json()}


@dataclass(frozen=True)
class TrainingSet:
    """What a version was fitted on. w [N, num_ws, w_dim] float32; masks [N, H, W] uint8."""

    w: Tensor
    masks: Tensor


def shipped_versions() -> dict[str, Path]:
    """Folders of the versions that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CARD}"))}


def write_version(folder: Path, card: VersionCard, ensemble: Ensemble, data: TrainingSet) -> None:
    """Write a version whole: into a partial folder that is then moved into place.

    Raises DganError when the folder is there already: versions are immutable.
    """
    if folder.exists():
        raise DganError(f"{folder} exists already, and versions never change; choose another name.")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_tensors(partial / WEIGHTS, ensemble.tensors())
    write_tensors(partial / TRAINING, {"w": data.w, "masks": data.masks}, dtype=None)
    write_json(partial / CARD, card.to_json())
    partial.replace(folder)


def read_version(folder: Path, device: str = "cpu") -> tuple[VersionCard, Ensemble, TrainingSet]:
    """Read a version; raises DganError that names the file at fault."""
    path = folder / CARD
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("format") != FORMAT:
            raise DganError(f"{path} was written by another release; fit it again.")
        card = VersionCard(**{**value, "partonomy": Partonomy.from_json(value["partonomy"])})
        ensemble = Ensemble.from_tensors(read_tensors(folder / WEIGHTS), device)
    except FileNotFoundError:
        raise DganError(f"{folder} has no {CARD}, so it is no version.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DganError(f"{path} is no version card ({error!r}).") from error
    stored = read_tensors(folder / TRAINING)
    if missing := {"w", "masks"} - set(stored):
        raise DganError(f"{folder / TRAINING} misses {', '.join(sorted(missing))}; copy it again.")
    data = TrainingSet(stored["w"].to(torch.float32), stored["masks"])
    if ensemble.num_classes != card.partonomy.num_classes:
        raise DganError(f"{path} and {WEIGHTS} disagree on the number of classes; fit it again.")
    return card, ensemble, data
