"""The layout of DatasetGAN's released annotations, and of folders made with its scripts.

Training data: `image_{i}.jpg` and `image_mask{i}.npy`, class numbers. Testing data: `*.npy` and
pictures, paired in the order of their names. Latents: `latent_stylegan1.npy` [N, 512], z codes of a
StyleGAN1, truncated at 0.7.

Which latent a picture belongs to differs. In the release `image_{i}` is row i, as its trainer
pairs them. Its script `make_training_data.py` writes the picture of the mean latent as `image_0`
and does not store that latent, so there `image_{i}` is row i - 1 and `image_0` has none; the file
has one row less than there are pictures, which tells the two apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.migration.classes import class_names
from dgan_backend.migration.collection import Collection, Entry, LabeledPicture
from dgan_backend.migration.files import (
    fitted,
    pictures_in,
    read_bytes,
    read_mask,
    read_npy,
    read_picture,
    regions_of_mask,
)
from dgan_backend.partonomy import BACKGROUND, load_partonomy

FORMAT = "datasetgan"
LEAST_PIXELS = 30  # its trainer takes smaller classes of a picture for slips
TRUNCATION = 0.7
LATENTS = "latent_stylegan1.npy"
_PICTURE = re.compile(r"image_(\d{1,6})\.(jpe?g|png)", re.IGNORECASE)
_MASK = re.compile(r"image_mask(\d{1,6})\.npy")


@dataclass(frozen=True)
class Release:
    """A set of the release: its folder, and whose numbers its classes have.

    partonomy: a shipped one, "" where names are not public. merge: a merge of it.
    """

    folder: str
    partonomy: str
    merge: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        if self.merge:
            return load_partonomy(self.partonomy).merge(self.merge).classes
        if self.partonomy:
            return load_partonomy(self.partonomy).classes
        return (BACKGROUND, *(f"class {number}" for number in range(1, 16)))


RELEASES = {
    "car_20": Release("training_data/car_processed", "car"),
    "face_34": Release("training_data/face_processed", "head"),
    "cat_16": Release("training_data/cat_processed", ""),
    "car_20_class": Release("testing_data/car_20_class", "car"),
    "car_ade_12_class": Release("testing_data/car_ade_12_class", "car", "car-12"),
    "face_34_class": Release("testing_data/face_34_class", "head"),
    "cat_16_class": Release("testing_data/cat_16_class", ""),
}


@dataclass(frozen=True)
class Latents:
    """What tasks are told of latents.

    generator: the id of the StyleGAN1 they are of; "" = nothing is told. file: None = where the
    release has it, or beside the pictures. first: number of the picture of row 0, None = told by
    the number of rows.
    """

    generator: str = ""
    file: Path | None = None
    first: int | None = None


def is_datasetgan(folder: Path) -> bool:
    return _is_training(folder) or bool(_sets_in(folder)) or _set_of(folder) != ""


def read_datasetgan(
    folder: Path, chosen: str = "", classes: str = "", latents: Latents | None = None
) -> Collection:
    """One set. chosen: which one of a folder that holds several. classes: what names the numbers,
    see `class_names`; else those of the set. Raises DganError that names the file at fault."""
    latents = latents or Latents()
    place, name = _chosen(folder, chosen)
    release = RELEASES.get(name)
    if release is None and not classes:
        raise DganError(
            f"{folder} is none of the released sets ({', '.join(RELEASES)}) by its name; say which "
            "with --set, or name its classes with --classes."
        )
    names = class_names(classes) if classes else release.names if release else ()
    partonomy = "" if classes or not release or release.merge else release.partonomy
    notes = [] if classes or partonomy or (release and release.merge) else [_UNNAMED]
    if not _is_training(place):
        if latents.generator or latents.file:
            raise DganError(f"{place} is testing data, photographs that have no latents.")
        return _testing(place, names, partonomy, notes)
    return _training(place, name, names, partonomy, latents, notes)


_UNNAMED = (
    "The names of this set's classes are not public: they are called `class 1`, `class 2` ...; "
    "name them with --classes, or --rename 'class 1=ear'."
)


def _chosen(folder: Path, chosen: str) -> tuple[Path, str]:
    """The folder with the files, and the name of the set."""
    found = _sets_in(folder)
    if _is_training(folder) or (not found and _set_of(folder)):
        return folder, chosen or _set_of(folder)
    if chosen and chosen in found:
        return found[chosen], chosen
    if not chosen and len(found) == 1:
        ((name, place),) = found.items()
        return place, name
    if found:
        raise DganError(f"{folder} holds {', '.join(found)}; choose one of them with --set.")
    if chosen and any(folder.glob("*.npy")):
        return folder, chosen
    raise DganError(
        f"{folder} has no image_mask0.npy with image_0.jpg, nor the folders of the release "
        "(annotation/training_data/car_processed ...)."
    )


def _sets_in(folder: Path) -> dict[str, Path]:
    """The sets of a release's folder, or of its annotation/ or training_data/."""
    found = {}
    for name, release in RELEASES.items():
        tail = release.folder.partition("/")[2]
        places = [folder / "annotation" / release.folder, folder / release.folder, folder / tail]
        place = next((p for p in places if p.is_dir() and any(p.glob("*.npy"))), None)
        if place is not None:
            found[name] = place
    return found


def _set_of(folder: Path) -> str:
    name = folder.resolve().name
    fits = (key for key, r in RELEASES.items() if name == r.folder.rpartition("/")[2])
    return next(fits, "")


def _is_training(folder: Path) -> bool:
    return any(_MASK.fullmatch(path.name) for path in folder.glob("image_mask*.npy"))


def _training(
    folder: Path,
    name: str,
    names: tuple[str, ...],
    partonomy: str,
    latents: Latents,
    notes: list[str],
) -> Collection:
    pictures = _numbered(pictures_in(folder), _PICTURE)
    masks = _numbered(sorted(folder.glob("*.npy")), _MASK)
    if lost := sorted(masks.keys() - pictures.keys()):
        raise DganError(f"{masks[lost[0]]} has no picture; image_{lost[0]}.jpg is missing.")
    told = _Told.of(folder, name, latents, max(pictures))
    entries = [
        Entry(
            pictures[number].name,
            partial(_read, pictures[number], masks[number], names, told.latent(number)),
        )
        for number in sorted(masks)
    ]
    bare = [pictures[number].name for number in sorted(pictures.keys() - masks.keys())]
    return Collection(
        FORMAT,
        tuple(entries),
        names,
        partonomy,
        without_labels=tuple(bare),
        notes=(*notes, *([told.said] if told.said else [])),
    )


def _numbered(paths: list[Path], pattern: re.Pattern[str]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in paths:
        if match := pattern.fullmatch(path.name):
            number = int(match[1])
            if number in found:
                raise DganError(f"{path} and {found[number].name} have one number; remove one.")
            found[number] = path
    return found


@dataclass(frozen=True)
class _Told:
    """Which row of which file a picture is. said: that, for people."""

    generator: str = ""
    file: str = ""
    first: int = 0
    said: str = ""

    @classmethod
    def of(cls, folder: Path, name: str, latents: Latents, last: int) -> _Told:
        """last: the highest number of a picture."""
        file = latents.file or _latents_of(folder, name)
        if not latents.generator and latents.file is None:
            return cls()
        if file is None:
            raise DganError(
                f"There is no {LATENTS} beside {folder} nor where the release has it; say where it "
                "is with --latents, or leave --generator out."
            )
        rows, first = _rows(file), latents.first
        if first is None:
            first = 1 if rows == last else 0
        if not first <= last < rows + first:
            raise DganError(
                f"{file} has {rows} latents, too few for image_{last}.jpg; it is of other pictures."
            )
        how = "image_i is row i, as in the release"
        if first:
            how = (
                "image_i is row i - 1 and image_0, which shows the mean latent, has none, as "
                "make_training_data.py writes them"
            )
        return cls(latents.generator, file.name, first, f"{file}: {rows} latents; {how}.")

    def latent(self, number: int) -> dict[str, object]:
        """Of a picture, for its task's data."""
        row = number - self.first
        if not self.generator or row < 0:
            return {}
        told = {"generator": self.generator, "file": self.file, "index": row}
        return {"latent": {**told, "truncation": TRUNCATION}}


def _latents_of(folder: Path, name: str) -> Path | None:
    """Beside the pictures, or in the release's training_latent/."""
    root = folder.resolve()
    places = [root, *(above / "training_latent" / name for above in root.parents[:3] if name)]
    return next((place / LATENTS for place in places if (place / LATENTS).is_file()), None)


def _rows(file: Path) -> int:
    shape = read_npy(file).shape
    if len(shape) != 2 or not shape[0]:
        raise DganError(f"{file} is {shape}; latents are [N, 512].")
    return int(shape[0])


def _testing(folder: Path, names: tuple[str, ...], partonomy: str, notes: list[str]) -> Collection:
    pictures, masks = pictures_in(folder), sorted(folder.glob("*.npy"), key=lambda p: p.name)
    if len(pictures) != len(masks):
        raise DganError(
            f"{folder} has {len(pictures)} pictures and {len(masks)} masks; they are paired in the "
            "order of their names, so there must be as many."
        )
    entries = [
        Entry(picture.name, partial(_read, picture, mask, names, {}))
        for picture, mask in zip(pictures, masks, strict=True)
    ]
    note = "Pictures and masks are paired in the order of their names."
    return Collection(FORMAT, tuple(entries), names, partonomy, notes=(*notes, note))


def _read(
    picture: Path, mask: Path, names: tuple[str, ...], data: dict[str, object]
) -> LabeledPicture:
    pixels, file, ending = read_picture(read_bytes(picture), str(picture))
    labels = fitted(read_mask(mask), pixels, mask)
    regions = regions_of_mask(labels, dict(enumerate(names)), mask)
    return LabeledPicture(picture.name, pixels, file, ending, regions, {}, data)
