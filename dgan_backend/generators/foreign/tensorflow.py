"""StyleGAN2 and StyleGAN2-ADA of the TensorFlow time: a pickle of (G, D, Gs)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.allowed import NETWORK
from dgan_backend.generators.foreign.found import Found
from dgan_backend.generators.foreign.nvidia import LICENCE
from dgan_backend.generators.foreign.stored import Budget, Record, StoredArray
from dgan_backend.generators.foreign.values import shown
from dgan_backend.generators.operators import fir_kernel

_OLDEST = 4  # version of the networks' format, from StyleGAN2 on
_MOST, _MOST_PARTS = 2000, 16  # variables, components
_MOST_TAPS = 16
# What computes otherwise than here when it is anything else.
_KNOWN: dict[str, tuple[Any, ...]] = {
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "normalize_latents": (True,),
    "fused_modconv": (True, False),
    "architecture": ("skip", "resnet", "orig"),
}


def network(value: Any) -> dict[Any, Any] | None:
    """The state of Gs, the averaged generator; None when the value is of another format."""
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        return None
    last = value[2]
    return _state(last) if isinstance(last, Record) and last.kind == NETWORK else None


def _state(record: Any) -> dict[Any, Any]:
    if isinstance(record, Record) and record.kind == NETWORK and isinstance(record.state, dict):
        return record.state
    raise DganError("it is damaged: a network of it has no state.")


def stylegan2(state: dict[Any, Any], budget: Budget) -> Found:
    """state: what `network` found. Raises DganError for StyleGAN1 and for unknown variables."""
    variables = _variables(state)
    version = state.get("version")
    old = any("ToRGB_lod" in name or "/StyleMod/" in name for name in variables)
    if old or not isinstance(version, int) or version < _OLDEST:
        raise DganError(
            "it is StyleGAN1, or StyleGAN2 in its configurations A to D, of the TensorFlow time, "
            "which this version cannot read."
        )
    numbers = _kwargs(state)
    for key, known in _KNOWN.items():
        if key in numbers and numbers[key] not in known:
            raise DganError(
                f"it was made with {key} = {shown(numbers[key])}, which is unknown here."
            )
    tensors = {}
    for name, array in variables.items():
        if (ours := _renamed(name)) is not None:
            tensors[ours] = _turned(name, torch.from_numpy(array.read(budget)))
    taps = numbers.get("resample_kernel", (1, 3, 3, 1))
    if not isinstance(taps, (list, tuple)) or len(taps) > _MOST_TAPS:
        raise DganError("its resample_kernel is no short list of numbers.")
    kernel = fir_kernel([_number("resample_kernel", tap) for tap in taps])
    tensors["synthesis.b4.resample_filter"] = kernel
    clamp = numbers.get("conv_clamp")
    return Found(
        kind="NVIDIA StyleGAN2 in TensorFlow",
        tensors=tensors,
        lr_multiplier=_number("mapping_lrmul", numbers.get("mapping_lrmul", 0.01)),
        conv_clamp=None if clamp is None else _number("conv_clamp", clamp),
        licence=LICENCE,
    )


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e9:
        raise DganError(f"its {key} is no number that makes sense.")
    return float(value)


def _components(state: dict[Any, Any]) -> dict[str, dict[Any, Any]]:
    found = state.get("components", {})
    if not isinstance(found, dict) or len(found) > _MOST_PARTS:
        raise DganError("it is damaged: its components are no table of a few networks.")
    return {str(name): _state(record) for name, record in found.items()}


def _kwargs(state: dict[Any, Any]) -> dict[str, Any]:
    """Numbers of the network and of its parts, which do not contradict each other."""
    found: dict[str, Any] = {}
    for part in (*_components(state).values(), state):
        kwargs = part.get("static_kwargs", {})
        if isinstance(kwargs, dict):
            found |= {k: v for k, v in kwargs.items() if isinstance(k, str) and v is not None}
    return found


def _variables(state: dict[Any, Any], prefix: str = "", depth: int = 3) -> dict[str, StoredArray]:
    """Arrays by component/name."""
    listed = state.get("variables", [])
    if not isinstance(listed, (list, tuple)) or len(listed) > _MOST or depth == 0:
        raise DganError("it is damaged: its variables are no list of a network's.")
    found: dict[str, StoredArray] = {}
    for item in listed:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DganError("it is damaged: a variable of it is no pair of name and numbers.")
        name, array = item
        if isinstance(name, str) and isinstance(array, StoredArray):
            found[prefix + name] = array
    for name, part in _components(state).items():
        found |= _variables(part, f"{prefix}{name}/", depth - 1)
    return found


_CONV = {
    "weight": "weight",
    "bias": "bias",
    "mod_weight": "affine.weight",
    "mod_bias": "affine.bias",
    "noise_strength": "noise_strength",
}
_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb", "Skip": "skip"}


def _renamed(name: str) -> str | None:
    """Our name of a variable; None for what no picture follows from."""
    if name == "lod":
        return None
    if name == "dlatent_avg":
        return "mapping.w_avg"
    if match := re.fullmatch(r"mapping/Dense(\d{1,2})/(weight|bias)", name):
        return f"mapping.fc{int(match[1])}.{match[2]}"
    if match := re.fullmatch(r"mapping/LabelEmbed/(weight|bias)", name):
        return f"mapping.embed.{match[1]}"
    if name.startswith("mapping/LabelConcat"):
        raise DganError(
            "it is a conditional network from before StyleGAN2-ADA, which works its classes in "
            "differently; it cannot be read."
        )
    if name == "synthesis/4x4/Const/const":
        return "synthesis.b4.const"
    if match := re.fullmatch(r"synthesis/noise(\d{1,2})", name):
        number = int(match[1])
        resolution, conv = 2 ** ((number + 5) // 2), 1 if number % 2 == 0 else 0
        return f"synthesis.b{resolution}.conv{conv}.noise_const"
    if match := re.fullmatch(r"synthesis/(\d{1,4})x\1/(\w+)/(\w+)", name):
        resolution, layer, part = match.groups()
        if layer in _LAYERS and part in _CONV:
            return f"synthesis.b{resolution}.{_LAYERS[layer]}.{_CONV[part]}"
    raise DganError(f"its variable {name[:80]} is unknown in StyleGAN2.")


def _turned(name: str, tensor: Tensor) -> Tensor:
    """From TensorFlow's axes to PyTorch's.

    Dense [in, out] and conv [kh, kw, in, out] weights; what upsamples is mirrored, since it is
    a convolution there and a correlation here; styles have their 1 added at run time there.
    """
    last = name.rpartition("/")[2]
    if last == "mod_bias":
        return tensor + 1
    if last.endswith("weight") and tensor.ndim == 2:
        return tensor.T.contiguous()
    if last == "weight" and tensor.ndim == 4:
        turned = tensor.permute(3, 2, 0, 1)
        mirrored = "/Conv0_up/" in name or "/Skip/" in name
        return (turned.flip(2, 3) if mirrored else turned).contiguous()
    if last.startswith("noise") and tensor.ndim == 4:
        return tensor[0, 0]
    return tensor[0] if last == "const" and tensor.ndim == 4 else tensor
