"""Reading features, drawing pixels, fitting and running the ensemble."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dgan_backend.errors import DganError
from dgan_backend.interpreter import Ensemble, FitSettings, fit_ensemble, reader
from dgan_backend.interpreter.features import gather
from dgan_backend.interpreter.fit import _Scale, _TrainedMembers
from dgan_backend.interpreter.sampling import PixelPool

QUICK = FitSettings(members=4, pixels=600, steps=150, batch=64)


def _maps(seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    sizes = [(6, 4), (5, 8), (3, 8), (2, 16)]
    return [torch.randn(1, c, s, s, generator=random) for c, s in sizes]


def _hypercolumn(maps: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """The vector of every pixel, made the expensive way: [H * W, D]."""
    parts = [F.interpolate(f, size, mode="bilinear", align_corners=False) for f in maps]
    return torch.cat(parts, dim=1)[0].flatten(1).T


def _random_ensemble(members: int, d: int, classes: int) -> Ensemble:
    random = torch.Generator().manual_seed(1)

    def make(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * 0.5

    return Ensemble(
        make(members, 12, d), make(members, 12), make(members, 7, 12), make(members, 7),
        make(members, classes, 7), make(members, classes),
    )  # fmt: skip


def test_gathered_features_are_the_hypercolumn() -> None:
    maps, (h, w) = _maps(), (24, 40)
    index = torch.tensor([0, 39, 40, 517, 959])
    points = torch.stack([(index % w + 0.5) / w, (index // w + 0.5) / h], dim=1)
    assert torch.allclose(gather(maps, points), _hypercolumn(maps, (h, w))[index], atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (5, 7)], ids=str)
def test_native_resolution_first_layer_is_exact(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_CHUNK_VALUES", 12 * 5 * size[1] * 3)  # 3 rows a chunk
    maps = _maps()
    ensemble = _random_ensemble(5, 16, 6)
    found = ensemble.predict(maps, size)
    logits = ensemble.logits(_hypercolumn(maps, size))
    probabilities = logits.softmax(dim=1)
    mean = probabilities.mean(dim=0).reshape(6, *size)
    assert torch.allclose(found.probabilities, mean, atol=1e-5)
    assert found.uncertainty.shape == size
    assert (found.vote.flatten() == logits.argmax(1).mode(dim=0)[0]).float().mean() > 0.99


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (64, 64)], ids=str)
def test_maps_may_have_any_size(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd ones, such that are not square, and finer ones than the grid."""
    monkeypatch.setattr(reader, "_CHUNK_VALUES", 12 * 5 * size[1] * 3)  # 3 rows a chunk
    shapes = [(6, 1, 1), (5, 13, 13), (3, 36, 20), (2, 84, 84)]
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, *shape, generator=random) for shape in shapes]
    column = _hypercolumn(maps, size)
    ensemble = _random_ensemble(5, 16, 6)
    mean = ensemble.logits(column).softmax(dim=1).mean(dim=0).reshape(6, *size)
    assert torch.allclose(ensemble.predict(maps, size).probabilities, mean, atol=1e-4)
    index = torch.arange(0, size[0] * size[1], 7)
    points = torch.stack(
        [(index % size[1] + 0.5) / size[1], (index // size[1] + 0.5) / size[0]], dim=1
    )
    assert torch.allclose(gather(maps, points), column[index], atol=1e-4)


def test_maps_of_another_generator_are_refused() -> None:
    with pytest.raises(ValueError, match="16 channels, the interpreter reads 17"):
        _random_ensemble(2, 17, 3).predict(_maps(), (8, 8))


def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    network = _TrainedMembers(9, 5, FitSettings(members=3, hidden=(8, 6)), torch.device("cpu"))
    scale = _Scale(torch.randn(9), torch.rand(9) + 0.5)
    x = torch.randn(3, 64, 9)
    for _ in range(20):
        network(x)  # moves the running statistics away from 0 and 1
    network.eval()
    raw = x[0] * scale.deviation + scale.mean
    with torch.no_grad():
        wanted = network(x[:1].expand(3, -1, -1)).transpose(1, 2)
    found = network.folded(scale, torch.zeros(5)).logits(raw)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_every_region_is_drawn_and_classes_are_balanced() -> None:
    mask = np.zeros((2, 40, 40), dtype=np.uint8)
    mask[0, 2, 2] = mask[0, 30, 30] = 1  # two regions of one pixel each
    mask[1, :20] = 2
    mask[1, 35:] = 255
    draw = PixelPool(mask, 3).draw(300, np.random.RandomState(0))
    places = set(zip(draw.picture.tolist(), draw.index.tolist(), strict=True))
    assert (0, 2 * 40 + 2) in places
    assert (0, 30 * 40 + 30) in places
    counts = np.bincount(draw.label, minlength=3)
    assert counts.max() - counts.min() <= 3
    flat = mask.reshape(2, -1)
    assert (flat[draw.picture, draw.index] == draw.label).all()


def test_pictures_of_less_weight_are_drawn_less_often() -> None:
    masks = np.zeros((3, 40, 40), dtype=np.uint8)
    masks[1] = 1
    masks[2, :20] = 255  # half as many pixels
    weights = (1.0, 0.25, 0.5)
    draw = PixelPool(masks, 2, weights).draw(4000, np.random.RandomState(0))
    counts = np.bincount(draw.picture[draw.label == 0], minlength=3)
    assert counts[0] == pytest.approx(4 * counts[2], rel=0.15)  # 1 : 0.5 * 0.5
    # 0: 1600 pixels of weight 1 and 800 of .5; 1: none but those of weight .25
    assert np.bincount(draw.label) == pytest.approx([2000 * 2000 / 2400, 500], abs=3)
    flat = masks.reshape(3, -1)
    assert (flat[draw.picture, draw.index] == draw.label).all()
    every = np.unique(draw.index[draw.picture == 2])
    assert every.min() >= 800 and every.max() > 1550


def test_members_draw_their_own_pixels() -> None:
    pool = PixelPool(np.arange(1600, dtype=np.uint8).reshape(1, 40, 40) % 2, 2)
    random = np.random.RandomState(0)
    first, second = pool.draw(50, random), pool.draw(50, random)
    assert not np.array_equal(first.index, second.index)


def test_nothing_labeled_is_said() -> None:
    with pytest.raises(DganError, match="No pixel is labeled"):
        fit_ensemble(lambda n: _maps(n), np.full((1, 8, 8), 255, np.uint8), 3, QUICK)


def test_a_label_outside_the_partonomy_names_its_mask() -> None:
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[2, 1, 1] = 7
    with pytest.raises(DganError, match="mask 2 holds label 7"):
        fit_ensemble(lambda n: _maps(n), masks, 3, QUICK)


def _learnable(count: int, classes: int, size: int = 32) -> tuple[list, np.ndarray]:
    """Pictures whose label is a function of their maps."""
    pictures = [_maps(seed) for seed in range(count)]
    columns = torch.stack([_hypercolumn(maps, (size, size)) for maps in pictures])
    direction = torch.randn(classes, 16, generator=torch.Generator().manual_seed(9))
    labels = (columns @ direction.T).argmax(-1).reshape(count, size, size)
    return pictures, labels.numpy().astype(np.uint8)


def test_fit_learns_what_the_features_tell() -> None:
    pictures, masks = _learnable(6, 4)
    ensemble = fit_ensemble(lambda n: pictures[n], masks[:5], 4, QUICK)
    found = ensemble.predict(pictures[5], (32, 32)).vote.numpy()
    assert (found == masks[5]).mean() > 0.75


def test_all_pixels_can_be_learned_from() -> None:
    masks = np.stack([np.arange(16).reshape(4, 4) % 3, np.full((4, 4), 255)]).astype(np.uint8)
    draw = PixelPool(masks, 3).draw_all(1, np.random.RandomState(0))
    assert draw.picture.tolist() == [0] * 16 and draw.index.tolist() == list(range(16))
    assert draw.label.tolist() == masks[0].flatten().tolist()


@pytest.mark.parametrize("directions", [0, 64])
def test_a_strong_channel_that_hardly_varies_does_no_harm(directions: int) -> None:
    """Float16 holds no 1e5, and of 3e4 + 1 it forgets the 1."""
    pictures, masks = _learnable(6, 4)
    constant = torch.full((1, 1, 16, 16), 1e5)
    maps = [[*f, constant + 0.1 * f[-1][:, :1]] for f in pictures]
    settings = replace(QUICK, directions=directions)
    ensemble = fit_ensemble(lambda n: maps[n], masks[:5], 4, settings)
    found = ensemble.predict(maps[5], (32, 32)).vote.numpy()
    assert (found == masks[5]).mean() > 0.75


@pytest.mark.parametrize("directions", [0, 64])
def test_a_fit_of_no_numbers_is_said(directions: int) -> None:
    maps = [f * torch.nan for f in _maps()]
    settings = replace(QUICK, directions=directions)
    with pytest.raises(DganError, match="not finite"):
        fit_ensemble(lambda n: maps, np.zeros((1, 16, 16), np.uint8), 2, settings)


def test_fit_is_repeatable_and_leaves_the_random_state_alone() -> None:
    pictures, masks = _learnable(2, 3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a = fit_ensemble(lambda n: pictures[n], masks, 3, QUICK)
    assert torch.equal(before, torch.get_rng_state())
    b = fit_ensemble(lambda n: pictures[n], masks, 3, QUICK)
    assert torch.equal(a.w1, b.w1)


def test_one_picture_absent_classes_and_ignored_pixels_work() -> None:
    pictures, masks = _learnable(1, 3)
    masks[0, :10] = 255
    masks[masks == 1] = 255  # class 1 is never labeled, class 3 does not exist in it
    ensemble = fit_ensemble(lambda n: pictures[n], masks, 4, QUICK)
    vote = ensemble.predict(pictures[0], (32, 32)).vote
    assert set(np.unique(vote.numpy())) <= {0, 2}


def test_rare_classes_are_not_predicted_more_often_than_they_are() -> None:
    """Balanced draws alone would call a tenth of everything the rare class (prior correction)."""
    random = np.random.RandomState(0)
    pictures = [[torch.randn(1, 4, 32, 32)] for _ in range(3)]  # features tell nothing
    masks = (random.rand(3, 32, 32) < 0.05).astype(np.uint8)
    fitted = fit_ensemble(lambda n: pictures[n], masks, 2, replace(QUICK, prior=1.0))
    plain = fit_ensemble(lambda n: pictures[n], masks, 2, replace(QUICK, prior=0.0))
    rare = fitted.predict(pictures[0], (32, 32)).probabilities[1].mean()
    balanced = plain.predict(pictures[0], (32, 32)).probabilities[1].mean()
    assert rare < 0.2 < 0.35 < balanced
