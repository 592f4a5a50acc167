"""What NVIDIA's pickles of StyleGAN3-T and -R are as a StyleGAN3."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

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
from dgan_backend.generators.foreign.nvidia import LICENCE, Recorded
from dgan_backend.generators.foreign.stored import Budget
from dgan_backend.generators.stylegan3 import StyleGAN3, StyleGAN3Config

MARK = "synthesis.input.freqs"
_LAYER = re.compile(r"synthesis\.L(\d{1,2})_(\d{1,5})_(\d{1,5})\.weight")
_MOST_TAPS = 32  # for each step of a resampling


def recorded_stylegan3(network: Recorded, budget: Budget) -> Found:
    """The tensors of a pickle, and the numbers that shapes do not show."""
    tensors = {name: tensor.read(budget) for name, tensor in network.tensors.items()}
    names = [f"synthesis.{name}" for _, name in sorted(_layers(tensors).items())]
    first, *_, last = names
    clamp = network.attribute(first, "conv_clamp")
    rate = max(network.number(first, f"{side}_sampling_rate") for side in ("in", "out"))
    numbers = {
        "critical": sum(network.flag(n, "is_critically_sampled") for n in names[:-1]),
        "first_cutoff": network.number("synthesis.input", "bandwidth"),
        "upsampling": _whole(network.number(first, "tmp_sampling_rate") / rate),
        "filter_size": _whole(
            network.number(first, "up_taps") / network.number(first, "up_factor")
        ),
        "output_scale": network.number("synthesis", "output_scale"),
    }
    if not network.flag(last, "is_torgb"):
        raise DganError("its last layer is not the one that makes pictures.")
    return Found(
        kind="NVIDIA StyleGAN3",
        tensors=tensors,
        family="stylegan3",
        lr_multiplier=network.number("mapping.fc0", "bias_gain"),
        conv_clamp=None if clamp is None else network.number(first, "conv_clamp"),
        numbers=numbers,
        licence=LICENCE,
    )


def stylegan3(found: Found, label: int | None = None) -> tuple[StyleGAN3, Found]:
    """As `stylegan2`: an RGB network with its weights, and what is to be known of it."""
    check_finite(found)
    found = _in_color(of_class(found, label))
    config = _config(found)
    found, unknown = with_average(found, config)
    network = loaded(StyleGAN3, config, found, _weights(config))
    if unknown:
        network.mapping.w_avg.copy_(mean_latent(network.mapping.style, config.z_dim))
    return network, found


def _layers(tensors: dict[str, Tensor]) -> dict[int, str]:
    """Names by number, toRGB the last; raises DganError unless they are all there."""
    found = {int(m.group(1)): m.group(0) for m in map(_LAYER.match, tensors) if m}
    if len(found) < 3 or sorted(found) != list(range(len(found))):
        raise DganError("it has not all layers of a StyleGAN3.")
    return {n: name.removeprefix("synthesis.").removesuffix(".weight") for n, name in found.items()}


def _in_color(found: Found) -> Found:
    """Gray pictures become RGB; the layer's name has the number of channels."""
    layers = _layers(found.tensors)
    last = layers[len(layers) - 1]
    found = in_color(found, f".{last}")
    named = last.rpartition("_")[0] + "_3"
    return found.noted({k.replace(f".{last}.", f".{named}."): v for k, v in found.tensors.items()})


def _config(found: Found) -> StyleGAN3Config:
    tensors, numbers = found.tensors, found.numbers
    layers = [name for _, name in sorted(_layers(tensors).items())]
    weight = tensors[f"synthesis.{layers[0]}.weight"]
    down = tensors.get(f"synthesis.{layers[0]}.down_filter")
    resolution = int(layers[-1].split("_")[1])
    if resolution > LARGEST or numbers["filter_size"] > _MOST_TAPS or numbers["upsampling"] > 8:
        raise DganError("its layers are larger than those of any StyleGAN3.")
    if not 0 < numbers["first_cutoff"] < resolution / 2:
        raise DganError(f"its first cutoff is {numbers['first_cutoff']:g}, which makes no sense.")
    config = StyleGAN3Config(
        resolution=resolution,
        **mapping_numbers(found, "mapping.fc"),
        channel_base=2**30,
        channel_max=int(layers[0].split("_")[2]),
        layers=len(layers) - 1,
        conv_kernel=weight.shape[-1] if weight.ndim == 4 else 0,
        radial_filters=down is not None and down.ndim == 2,
        conv_clamp=found.conv_clamp,
        **numbers,
    )
    config = _with_channels(config, [int(name.split("_")[2]) for name in layers[:-1]])
    if (wanted := config.layer_names) != layers:
        n = next(n for n, name in enumerate(layers) if name != wanted[n])
        raise DganError(f"its layer {layers[n]} should be {wanted[n]}; its numbers are unusual.")
    return config


def _with_channels(config: StyleGAN3Config, channels: list[int]) -> StyleGAN3Config:
    """The channel_base that these channels follow from: a power of two where one does."""
    if min(channels) < 1:
        raise DganError("a layer of it has no channels.")
    low, high = 1.0, math.inf
    for band, found in zip(config.bands, channels, strict=False):
        low = max(low, (found - 0.5) * 2 * band.cutoff)
        if found < config.channel_max:
            high = min(high, (found + 0.5) * 2 * band.cutoff)
    power = 2 ** (math.floor(math.log2(low)) + 1)
    return replace(config, channel_base=power if power < high else round((low + high) / 2))


def _weights(config: StyleGAN3Config) -> int:
    """Numbers in all weights and filters but the few of toRGB."""
    widths = [config.bands[0].channels, *(band.channels for band in config.bands[:-1])]
    kernel = config.conv_kernel**2
    return widths[0] ** 2 + sum(
        kernel * i * o + config.w_dim * i + _filters(config, n)
        for n, (i, o) in enumerate(pairwise(widths))
    )


def _filters(config: StyleGAN3Config, layer: int) -> int:
    """Taps of a layer's two filters."""
    before, after = (config.bands[n].rate for n in (max(layer - 1, 0), layer))
    rate = max(before, after) * config.upsampling
    up, down = (config.filter_size * rate // side for side in (before, after))
    radial = config.radial_filters and layer < config.layers - config.critical
    return up + (down**2 if radial else down)


def _whole(number: float) -> int:
    if number != round(number) or not 1 <= number <= 64:
        raise DganError(f"it resamples by {number:g}, which is no small whole number.")
    return round(number)
