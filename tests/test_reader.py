"""The first layer at chosen pixels, beside upsampling, concatenating and multiplying."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.interpreter import reader
from dgan_backend.interpreter.reader import FirstLayer, PixelReader, ProjectedMaps

OUTPUTS = 7


def _features(shapes: list[tuple[int, int, int]], pictures: int = 1) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(pictures, *shape, generator=random) for shape in shapes]


def _layer(features: list[Tensor], directions: int = 0) -> FirstLayer:
    random = torch.Generator().manual_seed(1)
    bases = tuple(
        torch.randn(directions, sum(f.shape[1] for f in group), generator=random)
        for _, group in groupby(features, key=lambda f: f.shape[2:])
        if directions
    )
    width = len(bases) * directions or sum(f.shape[1] for f in features)
    weight = torch.randn(OUTPUTS, width, generator=random) / width**0.5
    return FirstLayer(weight, torch.randn(OUTPUTS, generator=random), bases)


def _plainly(layer: FirstLayer, features: list[Tensor], size: tuple[int, int]) -> Tensor:
    """[N * H * W, O], the expensive way."""
    wide = [F.interpolate(f, size, mode="bilinear", align_corners=False) for f in features]
    columns = torch.cat(wide, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    if layer.bases:
        widths = [basis.shape[1] for basis in layer.bases]
        parts = zip(columns.split(widths, dim=1), layer.bases, strict=True)
        columns = torch.cat([part @ basis.T for part, basis in parts], dim=1)
    return columns @ layer.weight.T + layer.bias


def _read(layer: FirstLayer, features: list[Tensor], size: tuple[int, int], at: Tensor) -> Tensor:
    return torch.cat(list(PixelReader(layer, features, size).read(at)))


PYRAMID = [(9, 4, 4), (6, 8, 8), (5, 8, 8), (4, 16, 16), (3, 32, 32), (2, 64, 64), (3, 64, 64)]
ODD = [(6, 1, 1), (5, 13, 13), (3, 36, 20), (2, 84, 84)]


@pytest.mark.parametrize("directions", [0, 3], ids=["all features", "directions"])
@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize(
    ("shapes", "size"),
    [(PYRAMID, (64, 64)), (PYRAMID, (128, 128)), (PYRAMID, (40, 24)), (ODD, (24, 40)),
     (ODD, (84, 84)), ([(4, 8, 8)], (8, 8))],
    ids=["pyramid", "larger grid", "other grid", "odd", "odd, as the last", "one map"],
)  # fmt: skip
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_chosen_pixels_are_those_of_the_plain_way(
    shapes: list[tuple[int, int, int]],
    size: tuple[int, int],
    pictures: int,
    directions: int,
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "_CHUNK_VALUES", OUTPUTS * 50)
    monkeypatch.setattr(reader, "_TILE_VALUES", OUTPUTS * 170)
    features = [f.contiguous(memory_format=layout) for f in _features(shapes, pictures)]
    layer = _layer(features, directions)
    wanted = _plainly(layer, features, size)
    every = torch.arange(len(wanted))
    for at in (every, every[::5], every[3:4]):
        found = _read(layer, features, size, at)
        torch.testing.assert_close(found, wanted[at], atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_maps_on_any_grid(data: st.DataObject) -> None:
    side = st.integers(1, 20)
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 4), side, side), min_size=1, max_size=6))
    size = data.draw(st.tuples(side, side))
    pictures = data.draw(st.integers(1, 2))
    features = _features(shapes, pictures)
    layer = _layer(features, data.draw(st.sampled_from([0, 2])))
    wanted = _plainly(layer, features, size)
    chosen = data.draw(st.sets(st.integers(0, len(wanted) - 1), min_size=1))
    at = torch.tensor(sorted(chosen))
    found = _read(layer, features, size, at)
    torch.testing.assert_close(found, wanted[at], atol=1e-4, rtol=1e-4)


def test_maps_whose_sizes_divide_another_share_a_table() -> None:
    features = _features(PYRAMID)
    read = PixelReader(_layer(features), features, (64, 64))
    assert [table.shape for table in read._tables] == [(33, 33)]
    odd = PixelReader(_layer(_features(ODD)), _features(ODD), (160, 160))
    assert sorted(table.shape for table in odd._tables) == [(27, 27), (36, 20)]


def test_large_products_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_TABLE_VALUES", OUTPUTS * 8 * 8)
    features = _features(PYRAMID)
    layer = _layer(features)
    read = PixelReader(layer, features, (64, 64))
    assert all(len(table.values) <= 64 for table in read._tables)
    found = torch.cat(list(read.read(torch.arange(64 * 64))))
    torch.testing.assert_close(found, _plainly(layer, features, (64, 64)), atol=1e-4, rtol=1e-4)


def test_projected_maps_are_projected_pixels() -> None:
    features, size = _features(PYRAMID), (48, 64)
    layer = _layer(features, 3)
    at = torch.tensor([0, 5, 63, 64, 2000, 48 * 64 - 1])
    found = ProjectedMaps(layer.bases, features, size).at(at) @ layer.weight.T + layer.bias
    torch.testing.assert_close(found, _plainly(layer, features, size)[at], atol=1e-4, rtol=1e-4)


def test_maps_of_other_widths_or_sizes_are_refused() -> None:
    features = _features(PYRAMID)
    with pytest.raises(ValueError, match="32 channels, the interpreter reads 9"):
        PixelReader(_layer(features[:1]), features, (64, 64))
    regrouped = [*features[:2], F.interpolate(features[2], (9, 9)), *features[3:]]
    with pytest.raises(ValueError, match="other sizes"):
        PixelReader(_layer(features, 2), regrouped, (64, 64))
