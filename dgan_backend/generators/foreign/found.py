"""A generator on its way in: its tensors by the names of our networks, and what to know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from dgan_backend.errors import DganError

_SAMPLES, _BATCH = 8000, 250  # latents that a missing average is computed of


@dataclass(frozen=True)
class Found:
    """What a format's reader makes of a file.

    kind: the format, for people. tensors: by the names of the family's own network; float32,
    float16 or bfloat16. lr_multiplier: of the mapping network. conv_clamp: bound of activations,
    or None. notes: what was missing or assumed, one sentence each.
    """

    kind: str
    tensors: dict[str, Tensor]
    lr_multiplier: float = 0.01
    conv_clamp: float | None = None
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
    """Fold one class of a conditional generator into the first layer of its mapping network.

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
    if label is None or not 0 <= label < classes:
        raise DganError(
            f"it makes {classes} classes of pictures; import one of them: `dgan-backend generator "
            f"import FILE --out DIR --class N`, N from 0 to {classes - 1}."
        )
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
