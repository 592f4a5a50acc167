"""A generator on its way in: its tensors by the names of our networks, and what to know of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.network import Architecture, Network

_SAMPLES, _BATCH = 8000, 250  # latents that a missing average is computed of
_MOST_LAYERS, _WIDEST = 64, 8192  # of a mapping network
_MOST_RATE = 100
LARGEST = 2048  # px
_AVERAGE = "mapping.w_avg"
AVERAGED = "Its average latent is missing; it was computed of 8,000 samples."
Loaded = TypeVar("Loaded", bound=Network)


@dataclass(frozen=True)
class Found:
    """What a format's reader makes of a file.

    kind: the format, for people. tensors: by the names of the family's own network; float32,
    float16 or bfloat16. lr_multiplier: of the mapping network. conv_clamp: bound of activations,
    or None. numbers: others that shapes do not show, by their names in the family's config.
    notes: what was missing or assumed, one sentence each.
    """

    kind: str
    tensors: dict[str, Tensor]
    family: str = "stylegan2"
    lr_multiplier: float = 0.01
    conv_clamp: float | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    notes: tuple[str, ...] = field(default=())

    def noted(self, tensors: dict[str, Tensor], note: str = "") -> Found:
        """With other tensors, and one more note."""
        notes = (*self.notes, note) if note else self.notes
        return replace(self, tensors=tensors, notes=notes)


def check_finite(found: Found) -> None:
    """Raises DganError that names the first tensor with NaN or infinity."""
    for name, tensor in found.tensors.items():
        if not tensor.is_floating_point():
            raise DganError(f"its tensor {name[:80]} is of {tensor.dtype}, not of real numbers.")
        if not torch.isfinite(tensor).all():
            raise DganError(f"its tensor {name[:80]} has NaN or infinity in it; it is damaged.")


def of_class(found: Found, label: int | None) -> Found:
    """Fold one class of a conditional generator into the first layer of its mapping network;
    label: None = all stay.

    That layer reads [z, e], each normalised to a mean square of 1, with the gain 1 / sqrt(z + e):
    of a fixed e there remains a bias. Its gain becomes 1 / sqrt(z), which the weight makes up for.
    """
    tensors = dict(found.tensors)
    weight = tensors.pop("mapping.embed.weight", None)
    bias = tensors.pop("mapping.embed.bias", None)
    if weight is None or bias is None:
        if label is not None:
            raise DganError("it is not conditional, so there is no class to choose.")
        return found
    classes = weight.shape[-1] if weight.ndim == 2 else 0
    if label is None:
        note = f"It makes {classes} classes of pictures, of which each seed has one; see --class."
        return found.noted(found.tensors, note)
    if not 0 <= label < classes:
        raise DganError(f"it has no class {label}, but {classes}, which begin at 0.")
    first, own = tensors.get("mapping.fc0.weight"), tensors.get("mapping.fc0.bias")
    width = bias.numel()
    if (
        first is None
        or own is None
        or first.ndim != 2
        or own.shape != first.shape[:1]
        or (weight.shape, bias.shape) != ((width, classes), (width,))
        or (z := first.shape[1] - width) < 1
    ):
        raise DganError("its first mapping layer does not fit its classes; it is damaged.")
    e = weight[:, label].double() / classes**0.5 + bias.double()
    e = e * torch.rsqrt(e.square().mean() + 1e-8)
    gain = first.shape[1] ** -0.5
    tensors["mapping.fc0.weight"] = (first[:, :z].double() * (z**0.5 * gain)).float()
    tensors["mapping.fc0.bias"] = (own.double() + first[:, z:].double() @ e * gain).float()
    return found.noted(tensors, f"It makes {classes} classes of pictures; this is {label} alone.")


def mapping_numbers(found: Found, layer: str) -> dict[str, Any]:
    """Numbers of the config that the mapping network's shapes show. layer: such as
    `mapping.fc`, which its numbered layers are called."""
    tensors, pattern = found.tensors, re.compile(re.escape(layer) + r"(\d{1,3})\.weight")
    layers = sorted(int(match.group(1)) for match in map(pattern.match, tensors) if match)
    if not layers or layers != list(range(len(layers))) or len(layers) > _MOST_LAYERS:
        raise DganError("its mapping network has not all layers.")
    first, last = (tensors[f"{layer}{n}.weight"] for n in (0, layers[-1]))
    embed = tensors.get("mapping.embed.weight")
    c_dim, taken = (0, 0) if embed is None or embed.ndim != 2 else (embed.shape[1], len(embed))
    if first.ndim != 2 or last.ndim != 2 or first.shape[1] <= taken:
        raise DganError("the layers of its mapping network do not fit each other.")
    if max(*first.shape, *last.shape) > _WIDEST:
        raise DganError(f"its latents are wider than {_WIDEST} numbers.")
    if not 0 < found.lr_multiplier <= _MOST_RATE:
        raise DganError(f"its mapping network learns at {found.lr_multiplier:g} times the rate.")
    return {
        "z_dim": first.shape[1] - taken,
        "c_dim": c_dim,
        "w_dim": last.shape[0],
        "mapping_layers": len(layers),
        "mapping_features": first.shape[0] if len(layers) > 1 else None,
        "mapping_lr_multiplier": found.lr_multiplier,
    }


def loaded(network: Callable[[Any], Loaded], config: Any, found: Found, wanted: int) -> Loaded:
    """A network with its tensors, average latent included.

    wanted: numbers that it has at least, so that no memory is taken for what no file holds.
    """
    if wanted + mapping_size(config) > sum(tensor.numel() for tensor in found.tensors.values()):
        raise DganError("its tensors do not fit each other; it is damaged.")
    made = network(config)
    made.load_tensors(found.tensors)
    return made.eval().requires_grad_(False)


def mapping_size(config: Architecture) -> int:
    return sum(i * o for i, o in pairwise(config.mapping_widths))


def with_average(found: Found, config: Architecture) -> tuple[Found, bool]:
    """With a `mapping.w_avg` in any case, and whether it has to be computed."""
    if _AVERAGE in found.tensors:
        return found, False
    if config.c_dim:
        raise DganError("its average latent is missing, and it is conditional; give --class.")
    empty = {_AVERAGE: torch.zeros(config.w_dim)}
    return found.noted({**found.tensors, **empty}, AVERAGED), True


def in_color(found: Found, layer: str) -> Found:
    """Gray pictures become RGB, by saying their channel three times. layer: ending of the name of
    the layers that make pictures, such as `.torgb`."""
    names = [k for k in found.tensors if k.endswith((f"{layer}.weight", f"{layer}.bias"))]
    channels = {len(t) if (t := found.tensors[name]).ndim else 0 for name in names}
    if channels == {3}:
        return found
    if channels != {1}:
        have = " and ".join(map(str, sorted(channels))) or "no"
        raise DganError(f"its pictures have {have} channels; only RGB and gray ones can be used.")
    tensors = dict(found.tensors)
    for name in names:
        tensors[name] = tensors[name].repeat(3, *[1] * (tensors[name].ndim - 1))
    return found.noted(tensors, "Its pictures are gray.")


@torch.inference_mode()
def mean_latent(style: Callable[[Tensor], Tensor], z_dim: int) -> Tensor:
    """The mean of w [N, w_dim] = style(z [N, z_dim]) over 8,000 samples of a fixed seed."""
    drawn = np.random.RandomState(0)
    total = torch.zeros(1, dtype=torch.float64)
    for _ in range(_SAMPLES // _BATCH):
        z = torch.from_numpy(drawn.randn(_BATCH, z_dim).astype(np.float32))
        total = total + style(z).double().sum(dim=0)
    return (total / _SAMPLES).float()
