"""BrushLabels masks: Label Studio's run-length code (thi.ng rle-pack over RGBA bytes).

The code itself is label-studio-sdk's, which was checked against the browser's; here are the
checks that it does not make. Its import takes half a second, so it happens at the first use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MOST_BYTES = 32 * 2**20  # of a code; decoding takes ten times as much memory


def encode(mask: npt.NDArray[np.bool_]) -> list[int]:
    """[H, W] bool -> bytes as ints; inside is opaque (alpha 255: 1 would be invisible)."""
    from label_studio_sdk.converter import brush

    code: list[int] = brush.mask2rle(mask.astype(np.uint8) * 255)
    return code


def decode(code: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Bytes as ints -> [H, W] bool, alpha over 127 (strokes have soft edges).

    Raises ValueError when the code is broken or holds a mask of another size.
    """
    from label_studio_sdk.converter import brush

    if not isinstance(code, (list, tuple, bytes)):  # of a number, `bytes` makes that many zeros
        raise ValueError("its RLE is not a list of numbers from 0 to 255")
    if len(code) > MOST_BYTES:
        raise ValueError(f"its RLE has over {MOST_BYTES // 2**20} million numbers")
    try:
        data = bytes(code)
    except (TypeError, ValueError) as error:
        raise ValueError("its RLE is not a list of numbers from 0 to 255") from error
    # The header says how much memory decoding takes, so it is checked first.
    words = int.from_bytes(data[:4], "big")
    if len(data) < 8 or words != height * width * 4:
        raise ValueError(f"its RLE holds {words / 4:g} pixels, not {width} x {height}")
    if data[4] >> 3 != 7:
        raise ValueError("its RLE is not made of 8-bit words")
    try:
        values = brush.decode_rle(data)
    except (ValueError, IndexError) as error:
        raise ValueError("its RLE is cut short or broken") from error
    alpha: npt.NDArray[np.uint8] = values.reshape(height, width, 4)[:, :, 3]
    return alpha > 127
