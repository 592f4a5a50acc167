"""Inversion: its losses, and what its terms do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dgan_backend.generators import load_generator
from dgan_backend.inversion.invert import InversionSettings, invert
from dgan_backend.inversion.losses import maps_loss, pixel_loss, rounded_pixel_losses
from dgan_backend.inversion.native import load_encoder
from tests.builders import tiny_generator_folder


def test_maps_are_compared_each_by_its_own_deviation() -> None:
    wanted = [torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[0.0, 20.0]]]])]
    found = [torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.0, 10.0]]]])]
    deviation = 2.0**0.5  # of 0 and 2; the second map is ten times as large
    expected = (0.5 / deviation + 5.0 / (10 * deviation)) / 2
    assert float(maps_loss(found, wanted)) == pytest.approx(expected, rel=1e-3)


def test_rounded_differences_are_the_plain_ones_but_for_small_ones() -> None:
    a, b = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    b[0], b[1] = 1.0, 0.01
    large, small = rounded_pixel_losses(a, b).tolist()
    assert large == pytest.approx((1 + 0.1**2) ** 0.5 - 0.1)
    assert small == pytest.approx(0.01**2 / (2 * 0.1), rel=0.01)
    assert float(pixel_loss(a[:1], b[:1])) == pytest.approx(1.0)


def test_the_perceptual_term_brings_the_encoders_maps_closer(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny", resolution=32)
    generator, (encoder, _) = load_generator(folder), load_encoder(folder)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    distances = []
    for weight in (0.0, 5.0):
        found = invert(generator, encoder, images, InversionSettings(steps=15, perceptual=weight))
        distances.append(float(maps_loss(encoder.maps(found.images), encoder.maps(images))))
    assert distances[1] < distances[0]


def test_pictures_do_not_influence_each_other(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny", resolution=32)
    generator, (encoder, _) = load_generator(folder), load_encoder(folder)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    settings = InversionSettings(steps=5, perceptual=1.0)
    together = invert(generator, encoder, images, settings)
    alone = invert(generator, encoder, images[1:2], settings)
    assert torch.allclose(together.w[1], alone.w[0], atol=1e-3)


def test_an_encoder_looks_at_pictures_at_its_own_resolution(tmp_path: Path) -> None:
    encoder, _ = load_encoder(tiny_generator_folder(tmp_path / "tiny", resolution=32))
    small = torch.rand(1, 3, 32, 32) * 2 - 1
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(encoder(small), encoder(large), atol=1e-5)
