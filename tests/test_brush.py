"""The run-length code of brush masks is read as label-studio-sdk reads it, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from label_studio_sdk.converter.brush import decode_rle, encode_rle

from dgan_backend.labelstudio import brush

MASKS = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
STROKES = npst.arrays(np.uint8, st.integers(1, 60).map(lambda pixels: 4 * pixels))
SIZES = st.lists(st.integers(1, 16), min_size=4, max_size=4)


def of_sdk(code: list[int], height: int, width: int) -> np.ndarray:
    return decode_rle(bytes(code)).reshape(height, width, 4)[:, :, 3] > 127


def packed(chunks: list[tuple[bool, list[int], int]], sizes: list[int]) -> list[int]:
    """A code of these chunks, the words of each (of a repeated one the same) and which of the four
    sizes its count has."""
    words = sum(len(values) for _, values, _ in chunks)
    bits = f"{words:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for repeats, values, which in chunks:
        bits += f"{int(repeats)}{which:02b}{len(values) - 1:0{sizes[which]}b}"
        bits += "".join(f"{value:08b}" for value in (values[:1] if repeats else values))
    return [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]


@st.composite
def codes(draw: Callable) -> list[int]:
    """Of whole pixels, with any sizes and any chunks; some need more numbers than any mask does."""
    sizes, chunks, words = draw(SIZES), [], 0
    until = 4 * draw(st.integers(4, 20))
    while words < until:
        which = draw(st.integers(0, 3))
        count = draw(st.integers(1, min(until - words, 2 ** sizes[which])))
        repeats = draw(st.booleans())
        value = st.integers(0, 255)
        values = [draw(value)] * count if repeats else [draw(value) for _ in range(count)]
        chunks.append((repeats, values, which))
        words += count
    return packed(chunks, sizes)


@given(mask=MASKS)
def test_what_is_written_is_read(mask: np.ndarray) -> None:
    code = brush.encode(mask)
    np.testing.assert_array_equal(brush.decode(code, *mask.shape), mask)
    np.testing.assert_array_equal(of_sdk(code, *mask.shape), mask)


@given(words=STROKES)
def test_soft_strokes_are_read_as_the_sdk_reads_them(words: np.ndarray) -> None:
    code, pixels = encode_rle(words), len(words) // 4
    np.testing.assert_array_equal(brush.decode(code, 1, pixels), of_sdk(code, 1, pixels))


@settings(deadline=None, max_examples=100)
@given(code=codes())
def test_all_codes_are_read_as_the_sdk_reads_them(code: list[int]) -> None:
    pixels = int.from_bytes(bytes(code[:4]), "big") // 4
    try:
        read = brush.decode(code, 1, pixels)
    except ValueError as error:
        assert len(code) > brush.longest(1, pixels) and "need up to" in str(error)
    else:
        np.testing.assert_array_equal(read, of_sdk(code, 1, pixels))


@settings(deadline=None, max_examples=100)
@given(code=codes(), where=st.integers(5, 60), other=st.binary(max_size=6))
def test_what_is_damaged_is_read_as_the_sdk_does_or_refused(
    code: list[int], where: int, other: bytes
) -> None:
    pixels = int.from_bytes(bytes(code[:4]), "big") // 4
    damaged = [*code[:where], *other, *code[where + len(other) :]]
    try:
        read = brush.decode(damaged, 1, pixels)
    except ValueError:
        return
    np.testing.assert_array_equal(read, of_sdk(damaged, 1, pixels))


@given(pixels=st.integers(1, 30), width=st.sampled_from([1, 3]))
def test_the_longest_code_is_that_of_words_that_all_differ(pixels: int, width: int) -> None:
    """The worst that the encoder can be given."""
    words = np.arange(4 * pixels * width, dtype=np.uint8) * np.uint8(97)
    code = encode_rle(words)
    assert len(code) == brush.longest(pixels, width)
    np.testing.assert_array_equal(brush.decode(code, pixels, width), of_sdk(code, pixels, width))


@given(words=STROKES)
def test_no_code_of_the_encoder_is_longer(words: np.ndarray) -> None:
    assert len(encode_rle(words)) <= brush.longest(1, len(words) // 4)


def test_long_literals_are_read() -> None:
    values = [int(value) for value in np.random.RandomState(0).randint(0, 256, 70_000)]
    code = packed([(False, values[:65_536], 3), (False, values[65_536:], 3)], [3, 4, 8, 16])
    np.testing.assert_array_equal(brush.decode(code, 175, 100), of_sdk(code, 175, 100))


@pytest.mark.parametrize(
    ("junk", "said"),
    [(2, "numbers too many behind its last"), (2**20, r"64 x 64 pixels need up to 28,679")],
)
def test_what_stands_behind_the_last_pixel_is_refused(junk: int, said: str) -> None:
    code = brush.encode(np.zeros((64, 64), dtype=bool))
    assert len(code) < 20
    tracemalloc.start()
    with pytest.raises(ValueError, match=said):
        brush.decode(code + [0] * junk, 64, 64)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000 + 8 * junk


def test_reading_takes_little_more_than_the_mask_and_its_code() -> None:
    words = np.random.RandomState(0).randint(0, 256, 4 * 100 * 100).astype(np.uint8)
    code = encode_rle(words)
    tracemalloc.start()
    brush.decode(code, 100, 100)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * (len(code) + 100 * 100)
