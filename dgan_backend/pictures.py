"""Pictures as arrays and tensors."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from dgan_backend.errors import DganError
from dgan_backend.records import MAX_PIXELS

if TYPE_CHECKING:
    from torch import Tensor

Picture = npt.NDArray[np.uint8]

_TILE = 1024  # rows and columns that are converted at a time
_LARGE = 4_000_000  # pixels; of larger pictures one at a time is decoded
_one_large = threading.Lock()
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class PictureError(DganError):
    """A file is no usable picture; the message says why and what to do, without its name."""


def load_picture(path: Path) -> Picture:
    """[H, W, 3] uint8 RGB as `decode_picture` gives it; raises DganError that names the file."""
    try:
        return decode_picture(path.read_bytes())
    except OSError as error:
        raise DganError(f"{path} cannot be read ({error.strerror}).") from error
    except PictureError as error:
        raise DganError(f"{path} cannot be read as a picture: it {error}.") from error


def save_picture(path: Path, picture: Picture) -> None:
    """Write [H, W, 3] uint8, its folder made first; raises DganError for an odd ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        Image.fromarray(picture).save(path, optimize=True)
    except ValueError as error:
        raise DganError(f"{path} needs the ending of a picture format, such as .png.") from error


def decode_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """An image file -> [H, W, 3] uint8 RGB: turned as its EXIF says, first frame, over white.

    Raises PictureError when it is broken, of another format or larger than max_pixels. Waits while
    another large picture is decoded: that takes several times the memory of what comes of it.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise PictureError(_too_large(f"{image.width} x {image.height}", max_pixels))
            with _one_large if image.width * image.height > _LARGE else nullcontext():
                ImageOps.exif_transpose(image, in_place=True)
                return in_tiles(image, _to_rgb(image), 3)
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(_too_large("its size", max_pixels)) from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"is none of {', '.join(_FORMATS)}; convert it first") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise PictureError("is broken or cut short; use an intact copy") from error


def _too_large(size: str, max_pixels: int) -> str:
    return f"is too large ({size}, over {max_pixels / 1e6:g} million pixels); use a smaller one"


def in_tiles(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image], channels: int
) -> Picture:
    """[H, W, channels] uint8: an image converted piece by piece, so that there is no other copy
    of all of it."""
    made = np.empty((image.height, image.width, channels), dtype=np.uint8)
    for left, top, right, bottom in _tiles(image):
        here = made[top:bottom, left:right]
        tile = convert(image.crop((left, top, right, bottom)))
        here[:] = np.asarray(tile, dtype=np.uint8).reshape(here.shape)
    return made


def _tiles(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right and bottom of pieces that make up the image."""
    for top in range(0, image.height, _TILE):
        for left in range(0, image.width, _TILE):
            yield left, top, min(left + _TILE, image.width), min(top + _TILE, image.height)


def _to_rgb(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What makes a piece of the image RGB."""
    if not image.mode.startswith(("I", "F")):
        return _rgb
    # 16 bits a pixel and more: the upper eight are shown
    most = np.max([np.asarray(image.crop(tile)).max() for tile in _tiles(image)])
    scale = 257.0 if most > 255 else 1.0

    def shown(tile: Image.Image) -> Image.Image:
        values = np.nan_to_num(np.asarray(tile).astype(np.float64)) / scale
        eight_bits = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))
        return _rgb(eight_bits)

    return shown


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def load_square(path: Path, resolution: int) -> Picture:
    """[R, R, 3] uint8: the centre square of a file, resized; raises DganError as load_picture."""
    return middle_square(load_picture(path), resolution)


def middle_square(picture: Picture, resolution: int) -> Picture:
    """The largest square in the middle of [H, W, 3] uint8, resized to [R, R, 3]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(picture[top : top + side, left : left + side], resolution, resolution)


def resize(picture: Picture, height: int, width: int) -> Picture:
    """[H, W, 3] uint8 -> [height, width, 3] uint8: averaged when it shrinks, else bicubic."""
    shrinks = picture.shape[0] >= height and picture.shape[1] >= width
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((width, height), method))


def to_tensor(pictures: Picture) -> Tensor:
    """[N, H, W, 3] uint8 -> [N, 3, H, W] float32 in [-1, 1]."""
    import torch  # takes seconds, which many that only read pictures do not have

    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_pictures(images: Tensor) -> Picture:
    """[N, C, H, W] nominally in [-1, 1] -> [N, H, W, 3] uint8; one channel becomes grey."""
    import torch

    scaled = (images.detach().float() * 127.5 + 128.0).clamp(0, 255)
    pictures = scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    return np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else pictures


def check_picture(image: Picture, name: str) -> None:
    """Raises DganError that names the picture unless it is [H, W, 3] uint8 and not empty."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        shape = getattr(image, "shape", type(image).__name__)
        raise DganError(f"{name} must be [H, W, 3] RGB, not {shape}.")
    if image.dtype != np.uint8 or 0 in image.shape:
        raise DganError(f"{name} must be uint8 and not empty, not {image.dtype} {image.shape}.")


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
