"""BrushLabels masks: Label Studio's run-length code (thi.ng rle-pack over RGBA bytes).

A head of 53 bits: 32 for the number of words (4 a pixel), 5 for their size less 1, and four times 4
for the sizes, less 1, that a count may have. Then chunks: a bit that says whether one word is
repeated, 2 bits for which size the count has, the count less 1, and the word, or the words.

Masks are written by label-studio-sdk, whose import takes half a second, so it happens at the first
use. They are read here: the SDK's own way takes hundreds of bytes of memory for a byte of the code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MOST_BYTES = 32 * 2**20  # of a code, whatever the size of its mask
_HEAD = 53  # bits
_LONGEST = 14  # bits that a word takes at most: a chunk of its own, whose count has 3


def encode(mask: npt.NDArray[np.bool_]) -> list[int]:
    """[H, W] bool -> bytes as ints; inside is opaque (alpha 255: 1 would be invisible)."""
    from label_studio_sdk.converter import brush

    code: list[int] = brush.mask2rle(mask.astype(np.uint8) * 255)
    return code


def decode(code: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Bytes as ints -> [H, W] bool, alpha over 127 (strokes have soft edges).

    Raises ValueError when the code is broken, holds a mask of another size or is longer than one
    of this size needs.
    """
    if not isinstance(code, (list, tuple, bytes)):  # of a number, `bytes` makes that many zeros
        raise ValueError("its RLE is not a list of numbers from 0 to 255")
    if len(code) > MOST_BYTES:
        raise ValueError(f"its RLE has over {MOST_BYTES // 2**20} million numbers")
    if len(code) > (most := longest(height, width)):
        raise ValueError(
            f"its RLE has {len(code):,} numbers; {width} x {height} pixels need up to {most:,}"
        )
    try:
        data = bytes(code)
    except (TypeError, ValueError) as error:
        raise ValueError("its RLE is not a list of numbers from 0 to 255") from error
    words = int.from_bytes(data[:4], "big")
    if len(data) < 8 or words != height * width * 4:
        raise ValueError(f"its RLE holds {words / 4:g} pixels, not {width} x {height}")
    if data[4] >> 3 != 7:
        raise ValueError("its RLE is not made of 8-bit words")
    return _inside(data, words).reshape(height, width)


def longest(height: int, width: int) -> int:
    """Bytes of the longest code that a mask may need, each of its words in a chunk of its own; the
    last byte is filled up, by label-studio-sdk with a whole one."""
    return (_HEAD + _LONGEST * 4 * height * width) // 8 + 1


def _inside(data: bytes, words: int) -> npt.NDArray[np.bool_]:
    """[words / 4] bool: every fourth word, which is a pixel's alpha, over 127."""
    inside = np.zeros(words // 4, dtype=bool)
    sizes = [(int.from_bytes(data[4:8], "big") >> shift & 15) + 1 for shift in (23, 19, 15, 11)]
    at, end, word = _HEAD, len(data) * 8, 0  # at, end: bits
    padded = data + bytes(8)
    while word < words:
        bits = int.from_bytes(padded[at >> 3 : (at >> 3) + 8], "big") << (at & 7)  # 57 or more
        repeats, size = bits >> 63 & 1, sizes[bits >> 61 & 3]
        count = (bits >> 61 - size & (1 << size) - 1) + 1
        values, stop = at + 3 + size, word + count
        at = values + (8 if repeats else 8 * count)
        if at > end or (stop > words and not repeats):
            raise ValueError("its RLE is cut short or broken")
        pixels = inside[word // 4 : stop // 4]  # whose alpha is among these words
        if repeats or count == 1:  # may go beyond the last word, as in label-studio-sdk
            pixels[:] = bits >> 53 - size & 255 > 127
        else:
            pixels[:] = _words(data, values, count)[3 - word % 4 :: 4] > 127
        word = stop
    if end - at > 15:  # what fills up the last byte, and one more as label-studio-sdk has it
        raise ValueError(f"its RLE has {(end - at) // 8:,} numbers too many behind its last pixel")
    return inside


def _words(data: bytes, at: int, count: int) -> npt.NDArray[np.uint8]:
    """[count] uint8: so many words of 8 bits, from bit `at` on, which are there."""
    whole, shift = np.frombuffer(data, dtype=np.uint8, offset=at >> 3), at & 7
    if not shift:
        return whole[:count]
    left, right = np.uint8(shift), np.uint8(8 - shift)
    return whole[:count] << left | whole[1 : count + 1] >> right
