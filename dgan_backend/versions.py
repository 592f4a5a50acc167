"""A version on disk: one trained interpreter, its training latents and masks, whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.errors import DamagedError, DganError
from dgan_backend.generators.native import file_hash, read_tensors, write_json, write_tensors
from dgan_backend.interpreter import Ensemble
from dgan_backend.partonomy import Partonomy
from dgan_backend.student.native import STUDENT_CARD, load_student, save_student
from dgan_backend.student.student import Student

FORMAT = "dgan-backend version 1"
CARD, WEIGHTS, TRAINING = "version.json", "interpreter.safetensors", "training.safetensors"
SOURCES = "sources.json"
SHIPPED = Path(__file__).parent / "shipped" / "versions"


@dataclass(frozen=True)
class VersionCard:
    """What a version is.

    generator: a shipped name or a folder; generator_id: the exact weights. inversion: the
    `InversionSettings` it was fitted with; {} = the defaults. outside: what labels pictures from
    outside, 'student' or 'interpreter'. maps: what the interpreter reads, 'generator' or
    'generator+picture'. backbone_id: of the student's backbone, which also says how familiar a
    picture is; "" where the student began at random, or there is none. files: the SHA-256 of each
    other file, as it was written; {} in versions of earlier releases.
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
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "partonomy": self.partonomy.to_json()}


@dataclass(frozen=True)
class Source:
    """Where a labeled picture comes from.

    task: of Label Studio; None for the base, which came with the version or was fitted by hand.
    key: of the annotations (`Correction.key`). factor: how well the picture was inverted, in
    [0, 1]; the interpreter draws its pixels that often, and none with 0. reason: why it was left
    out of something, in plain words; "" = used for all.
    """

    task: int | None = None
    key: str = ""
    factor: float = 1.0
    reason: str = ""


@dataclass(frozen=True)
class TrainingSet:
    """What a version was fitted on, so that it can be fitted again with more labels.

    w [N, num_ws, w_dim] float32; masks [N, H, W] uint8, 255 = ignore; pictures [N, 3, S, S]
    uint8, RGB, on the label grid; sources: of each.
    """

    w: Tensor
    masks: Tensor
    pictures: Tensor
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", (Source(),) * len(self.masks))

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def side(self) -> int:
        """Of the label grid, px."""
        return int(self.pictures.shape[-1])

    @property
    def corrected(self) -> Tensor:
        """Which pictures people of the project labeled, [N] bool."""
        return torch.tensor([s.task is not None for s in self.sources], dtype=torch.bool)

    def grid_masks(self) -> Tensor:
        """The masks on the label grid, by nearest neighbour: [N, S, S] uint8."""
        if self.masks.shape[-1] == self.side:
            return self.masks
        size = (self.side, self.side)
        return F.interpolate(self.masks[:, None], size=size, mode="nearest-exact")[:, 0]

    def pick(self, chosen: Sequence[int]) -> TrainingSet:
        rows = torch.tensor(list(chosen), dtype=torch.long)
        sources = tuple(self.sources[n] for n in rows.tolist())
        return TrainingSet(self.w[rows], self.masks[rows], self.pictures[rows], sources)

    def repeated(self, weight: int) -> TrainingSet:
        """With every corrected picture `weight` times, beside a base."""
        corrected = self.corrected
        if corrected.all() or weight == 1:
            return self
        repeats = torch.where(corrected, weight, 1)
        return self.pick(torch.arange(len(self)).repeat_interleave(repeats).tolist())


def shipped_versions() -> dict[str, Path]:
    """Folders of the versions that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CARD}"))}


def write_version(
    folder: Path, card: VersionCard, ensemble: Ensemble, student: Student | None, data: TrainingSet
) -> None:
    """Write a version whole: into a partial folder that is then moved into place.

    Raises DganError when the folder is there already (versions are immutable), or cannot be
    written; then nothing is left of it.
    """
    if folder.exists():
        raise DganError(f"{folder} exists already, and versions never change; choose another name.")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write_tensors(partial / WEIGHTS, ensemble.tensors())
        if student is not None:
            save_student(partial, student)
        stored = {"w": data.w, "masks": data.masks, "pictures": data.pictures}
        write_tensors(partial / TRAINING, stored, dtype=None)
        write_json(partial / SOURCES, [asdict(source) for source in data.sources])
        files = {file.name: file_hash(file) for file in sorted(partial.iterdir())}
        write_json(partial / CARD, replace(card, files=files).to_json())
        partial.replace(folder)
    except OSError as error:
        raise DganError(
            f"{folder} cannot be written ({error}); see that there is room, and the right to write."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_version(
    folder: Path, device: str = "cpu"
) -> tuple[VersionCard, Ensemble, Student | None, TrainingSet]:
    """Read a version; raises DganError that names the file at fault: DamagedError when that is not
    what was written."""
    path = folder / CARD
    try:
        value = _card(path)
        if value.pop("format") != FORMAT:
            raise DganError(f"{path} was written by another release; fit it again.")
        card = VersionCard(**{**value, "partonomy": Partonomy.from_json(value["partonomy"])})
        _check_files(folder, card)
        ensemble = Ensemble.from_tensors(_tensors(folder / WEIGHTS), device)
    except FileNotFoundError:
        raise DganError(f"{folder} has no {CARD}, so it is no version.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DganError(f"{path} is no version card ({error!r}).") from error
    stored = _tensors(folder / TRAINING)
    if missing := {"w", "masks"} - set(stored):
        raise DganError(f"{folder / TRAINING} misses {', '.join(sorted(missing))}; copy it again.")
    pictures = stored.get("pictures", torch.empty(0, 3, 0, 0, dtype=torch.uint8))
    data = TrainingSet(stored["w"].float(), stored["masks"], pictures, read_sources(folder))
    student = load_student(folder, device)
    if card.outside == "student" and student is None:
        raise DganError(f"{folder} has no {STUDENT_CARD}; copy the whole folder again.")
    if ensemble.num_classes != card.partonomy.num_classes:
        raise DganError(f"{path} and {WEIGHTS} disagree on the number of classes; fit it again.")
    return card, ensemble, student, data


def _card(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: it is no JSON ({error}).") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(path)
    except DganError as error:
        raise DamagedError(str(error)) from error


def _check_files(folder: Path, card: VersionCard) -> None:
    for name, digest in card.files.items():
        try:
            found = file_hash(folder / name)
        except FileNotFoundError:
            raise DamagedError(f"{folder / name} is missing: {card.name} is damaged.") from None
        if found != digest:
            raise DamagedError(f"{folder / name} is damaged: it is not what was written.")


def read_sources(folder: Path) -> tuple[Source, ...]:
    """Of a version's pictures; () in versions written before they were kept: all are base."""
    path = folder / SOURCES
    if not path.is_file():
        return ()
    try:
        return tuple(Source(**value) for value in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DganError(f"{path} is no list of sources ({error}).") from error
