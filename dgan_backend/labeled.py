"""Labeled pictures on disk: a folder with `images/` and `masks/`, or one npz file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import Partonomy
from dgan_backend.pictures import Picture, load_picture


@dataclass(frozen=True)
class LabeledPictures:
    """N pictures [H, W, 3] uint8 and masks [H, W] uint8, with the names they have on disk."""

    names: list[str]
    images: list[Picture]
    masks: list[npt.NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.names)

    def __add__(self, other: LabeledPictures) -> LabeledPictures:
        return LabeledPictures(
            self.names + other.names, self.images + other.images, self.masks + other.masks
        )

    def checked(self, tree: Partonomy) -> LabeledPictures:
        """These; raises DganError that names the first mask with a value that is no class."""
        for name, mask in zip(self.names, self.masks, strict=True):
            if (wrong := mask[(mask >= tree.num_classes) & (mask != IGNORE)]).size:
                raise DganError(
                    f"the mask of {name} holds {wrong[0]}; the classes of {tree.name!r} are 0 to "
                    f"{tree.num_classes - 1}, and {IGNORE} is ignored."
                )
        return self

    def pick(self, indices: npt.ArrayLike) -> LabeledPictures:
        chosen = [int(i) for i in np.asarray(indices)]
        return LabeledPictures(
            [self.names[i] for i in chosen],
            [self.images[i] for i in chosen],
            [self.masks[i] for i in chosen],
        )


def content_digest(path: Path) -> str:
    """SHA-256 of the names and contents of a folder's pictures and masks, or of a file."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    found = hashlib.sha256()
    for file in sorted(p for place in ("images", "masks") for p in (path / place).glob("*")):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        found.update(f"{file.relative_to(path)} {content}\n".encode())
    return found.hexdigest()


def load_pairs(path: Path) -> LabeledPictures:
    """Read labeled pictures.

    path: a folder whose `images/NAME.*` has a mask `masks/NAME.png` (8-bit class indices, 255 =
    ignore), or an npz with `image` [N, H, W, 3] and `mask` [N, H, W], both uint8.
    Raises DganError that names the file at fault.
    """
    if path.is_dir():
        return _from_folder(path)
    try:
        with np.load(path) as stored:
            images, masks = stored["image"], stored["mask"]
    except FileNotFoundError:
        raise DganError(f"There is no {path}; give a folder with images/ and masks/.") from None
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise DganError(f"{path} is no npz with `image` and `mask` ({error}).") from error
    if len(images) != len(masks):
        raise DganError(f"{path} has {len(images)} pictures and {len(masks)} masks; make them one.")
    names = [f"{path.name}[{i}]" for i in range(len(images))]
    return LabeledPictures(names, list(images), list(masks))


def _from_folder(folder: Path) -> LabeledPictures:
    pictures = sorted(p for p in (folder / "images").glob("*") if p.is_file())
    if not pictures:
        raise DganError(f"{folder} has no images/ with pictures, and masks/ beside it.")
    images, masks = [], []
    for picture in pictures:
        mask = folder / "masks" / f"{picture.stem}.png"
        if not mask.is_file():
            raise DganError(f"{picture} has no mask; {mask} is missing.")
        images.append(load_picture(picture))
        masks.append(_load_mask(mask))
        if masks[-1].shape != images[-1].shape[:2]:
            raise DganError(
                f"{mask} is {masks[-1].shape}, its picture {images[-1].shape[:2]} (height, width); "
                "masks must have their picture's size."
            )
    return LabeledPictures([p.name for p in pictures], images, masks)


def _load_mask(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as opened:
            if opened.mode not in ("L", "P"):
                raise DganError(
                    f"{path} is a {opened.mode} picture; a mask is an 8-bit grey or palette PNG "
                    "whose values are class indices."
                )
            return np.asarray(opened)
    except (UnidentifiedImageError, OSError) as error:
        raise DganError(f"{path} cannot be read as a mask ({error}).") from error
