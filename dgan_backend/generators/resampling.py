"""Alias-free resampling: low-pass filters by Kaiser windows, and their use (StyleGAN3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def low_pass(
    taps: int, cutoff: float, half_width: float, rate: float, radial: bool = False
) -> Tensor:
    """Windowed ideal low-pass of unit sum: [taps], or [taps, taps] when radial; float32.

    cutoff, half_width (of the transition band) and rate (samples a unit) have the same unit. The
    ideal response is 2 f sinc(2 f x), or f J1(2 pi f r) / r when radially symmetric (Karras et
    al., NeurIPS 2021, appendix C); the Kaiser window has the attenuation that so many taps reach
    over so wide a transition. taps: an even number, so that no tap lies at r = 0.
    """
    beta = _kaiser_beta(2.285 * (taps - 1) * math.pi * 4 * half_width / rate + 7.95)
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    x = (torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2) / rate
    if radial:
        r = torch.hypot(x[:, None], x[None])
        kernel = torch.special.bessel_j1(2 * math.pi * cutoff * r) / r
        kernel = kernel * torch.outer(window, window)
    else:
        kernel = torch.sinc(2 * cutoff * x) * window
    return (kernel / kernel.sum()).float()


def _kaiser_beta(attenuation: float) -> float:
    """The window's shape for an attenuation in dB (Kaiser 1974)."""
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def upsample_by(x: Tensor, kernel: Tensor, factor: int, pad: tuple[int, int]) -> Tensor:
    """[N, C, H, W] -> `factor` times the samples, filtered by kernel [T] along both axes.

    factor - 1 zeros follow each sample; the result is framed by pad (before, after), which may be
    negative, and loses the T - 1 samples that the filter reaches over. Signals keep their
    amplitude. A transposed convolution does all of it at once, and skips the zeros.
    """
    channels, taps = x.shape[1], len(kernel)
    weight = (kernel * factor).to(x.dtype)
    before, after = pad[0] - (taps - 1), pad[1] + factor - taps
    down = weight[None, None, :, None].expand(channels, 1, -1, 1)
    across = weight[None, None, None].expand(channels, 1, 1, -1)
    x = F.conv_transpose2d(x, down, stride=(factor, 1), groups=channels)
    x = F.pad(x, (0, 0, before, after))
    x = F.conv_transpose2d(x, across, stride=(1, factor), groups=channels)
    return F.pad(x, (before, after))


def downsample_by(x: Tensor, kernel: Tensor, factor: int) -> Tensor:
    """[N, C, H, W] filtered by kernel [T] along both axes, or [T, T], every `factor`-th kept."""
    channels = x.shape[1]
    weight = kernel.flip(list(range(kernel.ndim))).to(x.dtype)
    if kernel.ndim == 2:
        return F.conv2d(x, weight.expand(channels, 1, -1, -1), stride=factor, groups=channels)
    down = weight[None, None, :, None].expand(channels, 1, -1, 1)
    across = weight[None, None, None].expand(channels, 1, 1, -1)
    x = F.conv2d(x, down, stride=(factor, 1), groups=channels)
    return F.conv2d(x, across, stride=(1, factor), groups=channels)
