"""What a file found is as a StyleGAN2: shapes tell nearly every number of it."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.found import (
    LARGEST,
    Found,
    check_finite,
    in_color,
    loaded,
    mapping_numbers,
    mean_latent,
    of_class,
    with_average,
)
from dgan_backend.generators.operators import fir_kernel
from dgan_backend.generators.stylegan2 import StyleGAN2, StyleGAN2Config

_FILTER = "resample_filter"
_TAPS = 4


def stylegan2(found: Found, label: int | None = None) -> tuple[StyleGAN2, Found]:
    """An RGB network with its weights, and what is to be known of it.

    label: the one class that a conditional one is to make. Raises DganError, in a sentence without
    the file's name, when the tensors are those of no StyleGAN2, or not all finite.
    """
    check_finite(found)
    taps = _taps(found.tensors)
    tensors = {k: v for k, v in found.tensors.items() if not k.endswith(_FILTER)}
    found = in_color(of_class(found.noted(tensors), label), ".torgb")
    config = _config(found, taps)
    found, unknown = with_average(_with_noise(found, config), config)
    network = loaded(StyleGAN2, config, found, _weights(config))
    if unknown:
        network.mapping.w_avg.copy_(mean_latent(network.mapping.style, config.z_dim))
    return network, found


def _weights(config: StyleGAN2Config) -> int:
    """Numbers in all weights but the few of toRGB and of residual branches."""
    channels = config.block_channels
    convs = [*zip(channels, channels, strict=True), *pairwise(channels)]
    return sum(9 * i * o + config.w_dim * i for i, o in convs)


def _config(found: Found, taps: tuple[float, ...]) -> StyleGAN2Config:
    tensors = found.tensors
    blocks = _blocks(tensors)
    if len(blocks) < 2 or blocks != [2**k for k in range(2, len(blocks) + 2)]:
        raise DganError(f"its blocks are {blocks[:12]} px, not all powers of two from 4 on.")
    if blocks[-1] > LARGEST:
        raise DganError(f"its pictures have {blocks[-1]} px; up to {LARGEST} can be used.")
    return StyleGAN2Config(
        resolution=blocks[-1],
        **mapping_numbers(found, "mapping.fc"),
        channels=tuple(_shape(tensors, f"synthesis.b{r}.conv1", 4)[0] for r in blocks),
        architecture=_architecture(tensors),
        conv_clamp=found.conv_clamp,
        resample_filter=taps,
    )


def _architecture(tensors: dict[str, Tensor]) -> str:
    if "synthesis.b8.skip.weight" in tensors:
        return "resnet"
    return "skip" if "synthesis.b4.torgb.weight" in tensors else "orig"


def _blocks(tensors: dict[str, Tensor]) -> list[int]:
    found = map(re.compile(r"synthesis\.b(\d{1,5})\.").match, tensors)
    return sorted({int(match.group(1)) for match in found if match})


def _shape(tensors: dict[str, Tensor], layer: str, dimensions: int) -> torch.Size:
    weight = tensors.get(f"{layer}.weight")
    if weight is None or weight.ndim != dimensions:
        raise DganError(f"its tensor {layer}.weight is missing or has no {dimensions} dimensions.")
    return weight.shape


def _taps(tensors: dict[str, Tensor]) -> tuple[float, ...]:
    """The 1-D taps of which all filters [4, 4] are made, as small whole numbers where they are.

    Those of `conv1`, which upsample nothing, are not used, and may be others.
    """
    named = {k: v for k, v in tensors.items() if k.endswith(_FILTER) and ".conv1." not in k}
    filters = [value.float() for value in named.values()]
    if not filters:
        return StyleGAN2Config.resample_filter
    if any(f.shape != (_TAPS, _TAPS) for f in filters):
        raise DganError(f"its resampling filters have not {_TAPS} x {_TAPS} taps, as they must.")
    row = filters[0].sum(dim=0)
    row = row / row[row != 0].abs().min() if row.any() else row
    if torch.allclose(row, row.round(), atol=1e-3):
        row = row.round()
    taps = tuple(float(tap) for tap in row)
    kernel = fir_kernel(taps)
    if not all(torch.allclose(f, kernel, atol=1e-4) for f in filters):
        raise DganError("its resampling filters are not all the same outer product of taps.")
    return taps


def _with_noise(found: Found, config: StyleGAN2Config) -> Found:
    """Noise that is missing is drawn; a layer that does without gets a strength of 0."""
    tensors, missing = dict(found.tensors), 0
    for resolution in config.block_resolutions:
        for conv in ("conv1",) if resolution == 4 else ("conv0", "conv1"):
            layer = f"synthesis.b{resolution}.{conv}"
            strength = tensors.setdefault(f"{layer}.noise_strength", torch.zeros([]))
            if f"{layer}.noise_const" in tensors:
                continue
            missing += bool(strength.any())
            drawn = np.random.RandomState(2 * resolution + (conv == "conv1"))
            noise = drawn.randn(resolution, resolution).astype(np.float32)
            tensors[f"{layer}.noise_const"] = torch.from_numpy(noise)
    note = f"The noise of {missing} layers is missing; it was drawn from a fixed seed."
    return found.noted(tensors, note if missing else "")
