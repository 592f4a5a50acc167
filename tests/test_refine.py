"""Coarse to fine: which pixels are read, and how little that changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.interpreter import Ensemble
from dgan_backend.interpreter.refine import (
    EXACT,
    Grid,
    Refinement,
    doubtful_cells,
    refinement_for,
)

SIZE = (64, 48)  # rows, columns


def _smooth_maps(pictures: int = 2) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [
        torch.randn(pictures, c, h, w, generator=random) / s
        for c, h, w, s in [(6, 4, 3, 1), (5, 8, 6, 2), (3, 16, 12, 6), (2, 64, 48, 30)]
    ]


def _ensemble(members: int = 5, classes: int = 6) -> Ensemble:
    """Members that are the same but for a little."""
    random = torch.Generator().manual_seed(1)

    def make(*shape: int) -> Tensor:
        alike = torch.randn(1, *shape, generator=random)
        return alike + 0.02 * torch.randn(members, *shape, generator=random)

    return Ensemble(make(12, 16), make(12), make(9, 12), make(9), make(classes, 9), make(classes))


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_coarse_to_fine_is_almost_the_exact_way(stride: int) -> None:
    maps, ensemble = _smooth_maps(), _ensemble()
    found = ensemble.predict_all(maps, SIZE, Refinement(stride))
    for exact, near in zip(ensemble.predict_all(maps, SIZE), found, strict=True):
        assert (exact.vote == near.vote).float().mean() > 0.99
        assert (exact.uncertainty - near.uncertainty).abs().mean() < 0.02
        assert torch.allclose(near.probabilities.sum(dim=0), torch.ones(SIZE), atol=1e-4)
        assert (exact.probabilities - near.probabilities).abs().mean() < 0.01
        assert (exact.probabilities != near.probabilities).any(dim=0).float().mean() > 0


def test_pixels_that_are_read_are_exact() -> None:
    """With no doubt allowed all pixels are."""
    maps, ensemble = _smooth_maps(), _ensemble()
    every = Refinement(4, doubt=-1.0)
    found = ensemble.predict_all(maps, SIZE, every)
    for exact, near in zip(ensemble.predict_all(maps, SIZE), found, strict=True):
        torch.testing.assert_close(near.probabilities, exact.probabilities, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(near.uncertainty, exact.uncertainty, atol=1e-5, rtol=1e-3)
        assert torch.equal(near.vote, exact.vote)


def test_a_batch_is_its_pictures() -> None:
    maps, ensemble = _smooth_maps(3), _ensemble()
    for how in (EXACT, Refinement(2)):
        together = ensemble.predict_all(maps, SIZE, how)
        for n, one in enumerate(together):
            alone = ensemble.predict([f[n : n + 1] for f in maps], SIZE, how)
            torch.testing.assert_close(one.probabilities, alone.probabilities)
            assert (one.vote == alone.vote).float().mean() > 0.999


@given(
    height=st.integers(1, 30), width=st.integers(1, 30), stride=st.integers(1, 5),
    pictures=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_grid_interpolates_its_own_points(
    height: int, width: int, stride: int, pictures: int
) -> None:
    if min(height, width) < stride:
        with pytest.raises(ValueError, match="stride"):
            Grid(pictures, (height, width), stride)
        return
    grid = Grid(pictures, (height, width), stride)
    plane = torch.arange(pictures)[:, None, None] * 7.0 + torch.arange(height)[:, None] * 3.0
    plane = plane + torch.arange(width)
    at_points = plane.flatten()[grid.index()].reshape(grid.shape)
    wide = grid.interpolated(at_points)
    assert wide.shape == plane.shape
    inside = (
        slice(None),
        slice(int(grid.rows[0]), int(grid.rows[-1]) + 1),
        slice(int(grid.columns[0]), int(grid.columns[-1]) + 1),
    )
    torch.testing.assert_close(wide[inside], plane[inside])  # linear functions are reproduced
    assert grid.nearest(at_points).flatten()[grid.index()].equal(at_points.flatten())
    cells = torch.ones(pictures, grid.shape[1] + 1, grid.shape[2] + 1, dtype=torch.bool)
    left = torch.ones(pictures * height * width, dtype=torch.bool)
    left[grid.index()] = False
    assert grid.between(cells).flatten().equal(left)


def _points(vote: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    labels = torch.tensor([vote])
    probabilities = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    return labels, probabilities, torch.zeros(labels.shape)


FOUR_BY_FOUR = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
CALM = Refinement(4, small=0)


def test_cells_between_classes_are_read() -> None:
    cells = doubtful_cells(*_points([[0, 0, 1, 1]] * 4), 1.0, CALM)
    assert cells[0].any(dim=0).tolist() == [False, False, True, False, False]
    assert cells[0, :, 2].all()
    assert not doubtful_cells(*_points(FOUR_BY_FOUR), 1.0, CALM).any()


def test_cells_around_an_uncertain_point_are_read() -> None:
    vote, probabilities, uncertainty = _points(FOUR_BY_FOUR)
    uncertainty[0, 1, 2] = 0.4
    cells = doubtful_cells(vote, probabilities, uncertainty, 1.0, CALM)
    assert cells[0].nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert not doubtful_cells(vote, probabilities, uncertainty, 2.0, CALM).any()


def test_cells_around_a_close_second_are_read() -> None:
    vote, probabilities, uncertainty = _points(FOUR_BY_FOUR)
    probabilities[0, :2, 3, 0] = torch.tensor([0.55, 0.45])
    cells = doubtful_cells(vote, probabilities, uncertainty, 1.0, CALM)
    assert cells[0].nonzero().tolist() == [[3, 0], [3, 1], [4, 0], [4, 1]]


def test_small_classes_are_read_to_their_ends() -> None:
    vote = [[0] * 6 for _ in range(6)]
    vote[2][2] = vote[2][3] = vote[3][2] = vote[3][3] = 1
    few, many = (
        doubtful_cells(*_points(vote), 1.0, Refinement(4, small=small)) for small in (5, 4)
    )
    assert few[0, 3, 3] and not many[0, 3, 3]  # in the middle of it


def test_the_stride_follows_the_resolution() -> None:
    assert [refinement_for(side).stride for side in (64, 128, 256, 1024)] == [2, 2, 4, 4]
