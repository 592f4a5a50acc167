"""Alias-free resampling: filters with known answers, and where samples lie."""

from __future__ import annotations

import math

import pytest
import torch

from dgan_backend.generators.resampling import downsample_by, low_pass, upsample_by
from dgan_backend.generators.stylegan3 import Band, SynthesisLayer
from tests.builders import tiny_stylegan3_config


@pytest.mark.parametrize("radial", [False, True])
def test_a_low_pass_passes_what_is_low(radial: bool) -> None:
    """The frequency response along an axis, in cycles at 64 samples a unit."""
    kernel = low_pass(24, cutoff=8.0, half_width=5.0, rate=64, radial=radial).double()
    row = kernel.sum(dim=0) if radial else kernel
    x = (torch.arange(24, dtype=torch.float64) - 11.5) / 64

    def response(frequency: float) -> float:
        return float((row * torch.cos(2 * math.pi * frequency * x)).sum())

    assert response(0.0) == pytest.approx(1.0, abs=1e-6)
    assert response(3.0) > 0.97
    assert response(8.0) == pytest.approx(0.5, abs=0.06)
    assert all(abs(response(f)) < 0.03 for f in (13.5, 18.0, 25.0, 31.0))


def test_a_radial_low_pass_looks_the_same_from_everywhere() -> None:
    kernel = low_pass(12, cutoff=8.0, half_width=8.0, rate=64, radial=True)
    assert torch.equal(kernel, kernel.T)
    assert torch.allclose(kernel, kernel.flip(0, 1))
    assert torch.linalg.matrix_rank(kernel.double(), rtol=1e-3) > 1  # it is no outer product


def test_upsampling_is_zeros_between_samples_then_the_filter() -> None:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    kernel = torch.tensor([1.0, 2.0, 5.0, 3.0])  # not symmetric: it would show a flip
    spread = torch.zeros(2, 3, 10, 10)
    spread[:, :, ::2, ::2] = x
    framed = torch.nn.functional.pad(spread, (2, 1, 2, 1))
    plane = torch.outer(kernel, kernel).flip(0, 1) * 4
    wanted = torch.nn.functional.conv2d(framed.flatten(0, 1)[:, None], plane[None, None])
    found = upsample_by(x, kernel, 2, (2, 1))
    assert torch.allclose(found, wanted.reshape(2, 3, *wanted.shape[2:]), atol=1e-4)
    cut = upsample_by(x, kernel, 2, (-1, -2))
    assert torch.allclose(cut, found[:, :, 3:-3, 3:-3], atol=1e-4)


def test_downsampling_keeps_every_other_sample_of_the_filtered() -> None:
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    kernel = torch.tensor([1.0, 2.0, 5.0, 3.0])
    plane = torch.outer(kernel, kernel)
    wanted = torch.nn.functional.conv2d(x.flatten(0, 1)[:, None], plane.flip(0, 1)[None, None])
    wanted = wanted.reshape(2, 3, 6, 6)[:, :, ::2, ::2]
    assert torch.allclose(downsample_by(x, kernel, 2), wanted, atol=1e-4)
    assert torch.allclose(downsample_by(x, plane, 2), wanted, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3], ids=["R", "T"])
def test_a_layer_keeps_every_place_of_the_picture_where_it_is(kernel: int) -> None:
    """A slow wave, sampled where a layer's input lies, comes out as sampled where its output
    lies: at (j + 0.5 - size / 2) / rate, whatever size and rate become."""
    config = tiny_stylegan3_config(64, conv_kernel=kernel, layers=14, conv_clamp=None)
    for index in range(config.layers):
        before, after = config.bands[max(index - 1, 0)], config.bands[index]
        layer = SynthesisLayer(config, index)
        wave = torch.sin(math.pi * _places(before) + 0.4)
        plane = (wave[None, :] - 2 * wave[:, None]).expand(1, before.channels, -1, -1)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:, :, kernel // 2, kernel // 2] = 1.0
            layer.bias.fill_(20.0)  # so that the leaky ReLU is a plain gain
            found = layer(plane, torch.zeros(1, config.w_dim))[0, 0]
        middle = slice(after.margin, after.size - after.margin)
        picture, at = found[middle, middle], _places(after)[middle]
        assert at[0] == -0.5 + 0.5 / after.rate, "the picture's edge lies half a sample further"
        assert at[-1] == 0.5 - 0.5 / after.rate
        for along in (0, 1):
            phase = _phase(picture.mean(dim=along), at)
            assert abs(phase - 0.4) / math.pi * after.rate < 0.02, "in samples"


def _places(band: Band) -> torch.Tensor:
    """Where samples lie, in picture sides from the middle."""
    return (torch.arange(band.size) + 0.5 - band.size / 2) / band.rate


def _phase(values: torch.Tensor, at: torch.Tensor) -> float:
    """p of the best-fitting a sin(pi x + p) + c, in (-pi/2, pi/2)."""
    columns = [torch.sin(math.pi * at), torch.cos(math.pi * at), torch.ones_like(at)]
    sine, cosine, _ = torch.linalg.lstsq(torch.stack(columns, dim=1), values[:, None]).solution
    return math.atan(float(cosine / sine))
