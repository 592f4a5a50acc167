"""Pictures as arrays and tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dgan_backend.errors import DganError

Picture = npt.NDArray[np.uint8]


def load_picture(path: Path) -> Picture:
    """[H, W, 3] uint8 RGB; raises DganError that names the file when it cannot be read."""
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DganError(f"{path} cannot be read as a picture ({error}); replace it.") from error


def load_square(path: Path, resolution: int) -> Picture:
    """[R, R, 3] uint8: the centre square of a file, resized; raises DganError as load_picture."""
    image = Image.fromarray(load_picture(path))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = np.asarray(image.crop((left, top, left + side, top + side)))
    return resize(square, resolution, resolution)


def resize(picture: Picture, height: int, width: int) -> Picture:
    """[H, W, 3] uint8 -> [height, width, 3] uint8: averaged when it shrinks, else bicubic."""
    shrinks = picture.shape[0] >= height and picture.shape[1] >= width
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((width, height), method))


def to_tensor(pictures: Picture) -> Tensor:
    """[N, H, W, 3] uint8 -> [N, 3, H, W] float32 in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_pictures(images: Tensor) -> Picture:
    """[N, C, H, W] nominally in [-1, 1] -> [N, H, W, 3] uint8; one channel becomes grey."""
    scaled = (images.detach().float() * 127.5 + 128.0).clamp(0, 255)
    pictures = scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    return np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else pictures


def contact_sheet(rows: list[list[Picture]], gap: int = 2) -> Picture:
    """Rows of equally large pictures -> one picture, on white."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    shape = ((height + gap) * len(rows) - gap, (width + gap) * columns - gap, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            top, left = y * (height + gap), x * (width + gap)
            sheet[top : top + height, left : left + width] = picture
    return sheet
