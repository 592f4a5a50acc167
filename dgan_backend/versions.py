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
from dgan_backend.student.native import STUDENT_CARD, load_student, save_student
from dgan_backend.student.student import Student

FORMAT = "dgan-backend version 1"
CARD, WEIGHTS, TRAINING = "version.json", "interpreter.safetensors", "training.safetensors"
SHIPPED = Path(__file__).parent / "shipped" / "versions"


@dataclass(frozen=True)
class VersionCard:
    """What a version is.

    generator: a shipped name or a folder; generator_id: the exact weights. inversion: the
    `InversionSettings` it was fitted with; {} = the defaults. outside: what labels pictures from
    outside, 'student' or 'interpreter'. maps: what the interpreter reads, 'generator' or
    'generator+picture'. backbone_id: of the student's backbone, which also says how familiar a
    picture is; "" where there is none, and in versions written before it was kept.
    """

    name: str
    partonomy: Partonomy
    generator: str
    generator_id: str
    label_resolution: int
    inversion: dict[str, Any] = field(default_factory=dict)
    outside: str = "interpreter"
    maps: str = "generator"
    backbone_id: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "partonomy": self.partonomy.to_json()}


@dataclass(frozen=True)
class TrainingSet:
    """What a version was fitted on, so that it can be fitted again with more labels.

    w [N, num_ws, w_dim] float32; masks [N, H, W] uint8; pictures [N, 3, S, S] uint8, RGB, on the
    label grid (none in versions of release 0.1).
    """

    w: Tensor
    masks: Tensor
    pictures: Tensor


def shipped_versions() -> dict[str, Path]:
    """Folders of the versions that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CARD}"))}


def write_version(
    folder: Path, card: VersionCard, ensemble: Ensemble, student: Student | None, data: TrainingSet
) -> None:
    """Write a version whole: into a partial folder that is then moved into place.

    Raises DganError when the folder is there already: versions are immutable.
    """
    if folder.exists():
        raise DganError(f"{folder} exists already, and versions never change; choose another name.")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_tensors(partial / WEIGHTS, ensemble.tensors())
    if student is not None:
        save_student(partial, student)
    stored = {"w": data.w, "masks": data.masks, "pictures": data.pictures}
    write_tensors(partial / TRAINING, stored, dtype=None)
    write_json(partial / CARD, card.to_json())
    partial.replace(folder)


def read_version(
    folder: Path, device: str = "cpu"
) -> tuple[VersionCard, Ensemble, Student | None, TrainingSet]:
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
    pictures = stored.get("pictures", torch.empty(0, 3, 0, 0, dtype=torch.uint8))
    data = TrainingSet(stored["w"].to(torch.float32), stored["masks"], pictures)
    student = load_student(folder, device)
    if card.outside == "student" and student is None:
        raise DganError(f"{folder} has no {STUDENT_CARD}; copy the whole folder again.")
    if ensemble.num_classes != card.partonomy.num_classes:
        raise DganError(f"{path} and {WEIGHTS} disagree on the number of classes; fit it again.")
    return card, ensemble, student, data
