"""The StyleGAN1 port that DatasetGAN reads: a state dict saved by torch."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.found import (
    AVERAGED,
    LARGEST,
    Found,
    check_finite,
    in_color,
    loaded,
    mapping_numbers,
    mean_latent,
)
from dgan_backend.generators.foreign.stored import Budget, StoredTensor
from dgan_backend.generators.stylegan1 import StyleGAN1, StyleGAN1Config

AVERAGE = "truncation.avg_latent"
_MARK = "g_mapping.dense0.weight"
_BLOCK = re.compile(r"g_synthesis\.blocks\.(\d{1,5})x\1\.epi1\.")
_OWN = ("g_mapping.", "g_synthesis.", "truncation.")
_MOST_TENSORS = 1000


def port_state(value: Any) -> dict[str, StoredTensor] | None:
    """The state dict; None when the file is of another format."""
    if not isinstance(value, dict) or _MARK not in value or len(value) > _MOST_TENSORS:
        return None
    named = {k: v for k, v in value.items() if isinstance(k, str) and k.startswith(_OWN)}
    return {k: v for k, v in named.items() if isinstance(v, StoredTensor)}


def recorded_stylegan1(state: dict[str, StoredTensor], budget: Budget) -> Found:
    notes = (
        "The learning rate multiplier of its mapping network is not in it; 0.01 was assumed.",
        "It has no noise; that was drawn from a fixed seed.",
    )
    tensors = {name: stored.read(budget) for name, stored in state.items()}
    return Found("StyleGAN1 in PyTorch, as DatasetGAN has it", tensors, "stylegan1", notes=notes)


def stylegan1(found: Found, label: int | None = None) -> tuple[StyleGAN1, Found]:
    """As `stylegan2`: an RGB network with its weights, and what is to be known of it."""
    if label is not None:
        raise DganError("it is not conditional, so there is no class to choose.")
    check_finite(found)
    found = in_color(found, "g_synthesis.torgb")
    config = _config(found)
    average = found.tensors.get(AVERAGE)
    rows = torch.zeros(config.w_dim) if average is None else average
    found = found.noted(
        {**found.tensors, AVERAGE: _rows(rows, config)}, AVERAGED if average is None else ""
    )
    network = loaded(StyleGAN1, config, found, _weights(config))
    if average is None:
        network.truncation.avg_latent.copy_(mean_latent(network.g_mapping, config.z_dim))
    return network, found


def _rows(average: Tensor, config: StyleGAN1Config) -> Tensor:
    """[num_ws, w_dim], of one row for all or of the first so many, as the port reads them."""
    if average.ndim == 1:
        return average.repeat(config.num_ws, 1)
    return average[: config.num_ws]


def _config(found: Found) -> StyleGAN1Config:
    tensors = found.tensors
    blocks = sorted({int(m.group(1)) for m in map(_BLOCK.match, tensors) if m})
    if len(blocks) < 2 or blocks != [2**k for k in range(2, len(blocks) + 2)]:
        raise DganError(f"its blocks are {blocks[:12]} px, not all powers of two from 4 on.")
    if blocks[-1] > LARGEST:
        raise DganError(f"its pictures have {blocks[-1]} px; up to {LARGEST} can be used.")
    channels = [_channels(tensors, r) for r in blocks]
    narrow = [c * r for c, r in zip(channels, blocks, strict=True) if c < channels[0]]
    config = StyleGAN1Config(
        resolution=blocks[-1],
        **mapping_numbers(found, "g_mapping.dense"),
        channel_base=narrow[0] if narrow else channels[0] * blocks[-1],
        channel_max=channels[0],
    )
    if config.block_channels != channels:
        raise DganError(f"its blocks have {channels} channels, which no StyleGAN1 has.")
    return config


def _channels(tensors: dict[str, Tensor], resolution: int) -> int:
    conv = "conv" if resolution == 4 else "conv1"
    name = f"g_synthesis.blocks.{resolution}x{resolution}.{conv}.weight"
    if name not in tensors or tensors[name].ndim != 4:
        raise DganError(f"its tensor {name} is missing or no convolution.")
    return int(tensors[name].shape[0])


def _weights(config: StyleGAN1Config) -> int:
    """Numbers in the weights of the second convolutions and of the styles."""
    return sum(9 * c * c + 4 * c * config.w_dim for c in config.block_channels)
