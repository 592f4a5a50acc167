"""The few operators that StyleGAN2 networks are made of (Karras et al., CVPR 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)


def leaky_relu(x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Leaky ReLU (slope 0.2) times sqrt(2) * gain, then clamped to +-clamp * gain."""
    x = F.leaky_relu(x, LRELU_SLOPE) * (LRELU_GAIN * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def fir_kernel(taps: Sequence[float]) -> Tensor:
    """[T, T] float32: the outer product of 1-D taps, divided by its sum."""
    row = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(row, row)
    return kernel / kernel.sum()


def fir_filter(x: Tensor, kernel: Tensor, pad: tuple[int, int, int, int], gain: float) -> Tensor:
    """Convolve each channel of x [N, C, H, W] with kernel [T, T], after padding (l, r, t, b).

    A convolution, so the kernel is flipped for `conv2d`, which correlates. One group a channel:
    on a CPU its backward pass is 19 times as fast as channels taken as pictures.
    """
    weight = (kernel.flip(0, 1) * gain).to(x.dtype).expand(x.shape[1], 1, -1, -1)
    left, right, top, bottom = pad
    if left == right and top == bottom:
        return F.conv2d(x, weight, padding=(top, left), groups=x.shape[1])
    return F.conv2d(F.pad(x, pad), weight, groups=x.shape[1])


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W]: zeros between samples, then the FIR with gain 4."""
    n, c, h, w = x.shape
    taps = kernel.shape[0]
    spread = x.new_zeros(n, c, h, 2, w, 2)
    spread[:, :, :, 0, :, 0] = x
    before, after = (taps + 1) // 2, (taps - 2) // 2
    pad = (before, after, before, after)
    return fir_filter(spread.reshape(n, c, 2 * h, 2 * w), kernel, pad, gain=4.0)


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    kernel: Tensor | None = None,
    demodulate: bool = True,
    padding: int | None = None,
) -> Tensor:
    """Convolution whose input channels are scaled by a style (StyleGAN2, eq. 1 and 3).

    x [N, I, H, W], weight [O, I, k, k], style [N, I]. With `kernel` (FIR, [4, 4]) the result is
    twice the size; without, x is padded by `padding` (None = k // 2). Scaling the activations
    instead of the weights keeps one dense product for the whole batch; demodulation is
    d = rsqrt(sum_i s_i^2 sum_k w_oik^2 + 1e-8).
    """
    x = x * style[:, :, None, None].to(x.dtype)
    w = weight.to(x.dtype)
    if kernel is None:
        y = F.conv2d(x, w, padding=weight.shape[-1] // 2 if padding is None else padding)
    else:
        y = F.conv_transpose2d(x, w.transpose(0, 1), stride=2)
        y = fir_filter(y, kernel, (1, 1, 1, 1), gain=4.0)
    if not demodulate:
        return y
    energy = style.square() @ weight.square().sum(dim=(2, 3)).T
    return y * torch.rsqrt(energy + 1e-8)[:, :, None, None].to(y.dtype)


class FullyConnected(nn.Module):
    """Linear layer with equalised learning rate: [N, in] -> [N, out]."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activate: bool = False,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return leaky_relu(y) if self.activate else y


class Conv(nn.Module):
    """Plain convolution with equalised learning rate and a leaky ReLU (discriminator, encoder)."""

    def __init__(self, in_channels: int, out_channels: int, size: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1.0 / math.sqrt(in_channels * size * size)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(
            x, self.weight * self.weight_gain, self.bias, padding=self.weight.shape[-1] // 2
        )
        return leaky_relu(y)
