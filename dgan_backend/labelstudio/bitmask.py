"""BitmaskLabels masks: a PNG as data URL, black pixels on transparent ground."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from dgan_backend.pictures import in_tiles
from dgan_backend.records import MAX_PIXELS

_PREFIX = "data:image/png;base64,"


def encode(mask: npt.NDArray[np.bool_]) -> str:
    """[H, W] bool -> data URL of a PNG whose alpha is 255 inside and 0 outside."""
    pixels = np.zeros((*mask.shape, 2), dtype=np.uint8)
    pixels[:, :, 1] = mask * np.uint8(255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return _PREFIX + base64.b64encode(file.getvalue()).decode()


def decode(url: str, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Data URL -> [H, W] bool, alpha > 0; a PNG of another size is scaled to the nearest pixel,
    as Label Studio shows it stretched. Raises ValueError when there is no PNG in it.
    """
    if not isinstance(url, str) or not url.startswith(_PREFIX):
        raise ValueError(f"its imageDataURL does not begin with {_PREFIX}")
    try:
        data = base64.b64decode(url[len(_PREFIX) :], validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as png:
            if png.width * png.height > MAX_PIXELS:
                raise ValueError(f"its PNG of {png.width} x {png.height} is too large")
            alpha = in_tiles(png, _alpha, 1)[:, :, 0]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError("its PNG is too large") from error
    except (binascii.Error, OSError, SyntaxError) as error:
        raise ValueError("its PNG is cut short or broken") from error
    if alpha.shape != (height, width):
        resized = Image.fromarray(alpha).resize((width, height), Image.Resampling.NEAREST)
        alpha = np.asarray(resized)
    return alpha > 0


def _alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").getchannel("A")
