"""Checkpoints of rosinality's stylegan2-pytorch, and of encoders that carry such a decoder."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.found import Found
from dgan_backend.generators.foreign.stored import Budget, StoredTensor

_DECODER = "decoder."
_MOST_TENSORS = 1000
_MARK = "style.1.weight"  # its mapping network's first layer; style.0 has no weights
_GAIN = 4.0  # of upsampling, which its filters hold


def states(value: Any) -> dict[str, StoredTensor] | None:
    """The generator's state dict in what torch.save saved; None when the file is of another kind.

    `g_ema` of a checkpoint, `state_dict` with the prefix `decoder.` of pSp, e4e, ReStyle and
    HyperStyle, or a bare state dict.
    """
    if not isinstance(value, dict):
        return None
    encoders = value.get("state_dict")
    if isinstance(encoders, dict):
        own = {k: v for k, v in encoders.items() if isinstance(k, str) and k.startswith(_DECODER)}
        found = {k.removeprefix(_DECODER): v for k, v in own.items()}
    else:
        state = value.get("g_ema", value)
        found = state if isinstance(state, dict) else {}
    if _MARK not in found or len(found) > _MOST_TENSORS:
        return None
    return {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, StoredTensor)}


def stylegan2(value: dict[Any, Any], state: dict[str, StoredTensor], budget: Budget) -> Found:
    """value: all that was saved, for its `latent_avg`; state: what `states` found in it."""
    tensors: dict[str, Tensor] = {}
    for name, stored in state.items():
        tensor = stored.read(budget)
        tensors[_renamed(name)] = _reshaped(name, tensor)
    notes = ["The learning rate multiplier of its mapping network is not in it; 0.01 was assumed."]
    average = value.get("latent_avg")
    if isinstance(average, StoredTensor):
        tensors["mapping.w_avg"], told = _averaged(average.read(budget))
        notes += told
    return Found("rosinality StyleGAN2 in PyTorch", tensors, notes=tuple(notes))


def _averaged(w: Tensor) -> tuple[Tensor, list[str]]:
    """[w_dim], or [rows, w_dim] as encoders have it."""
    if w.ndim < 2:
        return w, []
    rows = w.float().reshape(-1, w.shape[-1])
    if torch.allclose(rows, rows[:1], atol=1e-6):
        return rows[0].clone(), []
    return rows.mean(dim=0), ["Its average latent has different rows; their mean was taken."]


def _renamed(name: str) -> str:
    for pattern, make in _NAMES:
        if match := re.fullmatch(pattern, name):
            return make(match)
    raise DganError(f"its tensor {name[:80]} is unknown in rosinality's StyleGAN2.")


def _layer(number: int, rest: str) -> str:
    """Convolution 0 is at 8 px, with upsampling; 1 at 8 px; 2 at 16 px ..."""
    return f"synthesis.b{2 ** (number // 2 + 3)}.conv{number % 2}.{_CONV[rest]}"


def _noise(number: int) -> str:
    return _layer(number - 1, "noise") if number else f"synthesis.b4.conv1.{_CONV['noise']}"


_CONV = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "conv.blur.kernel": "resample_filter",
    "activate.bias": "bias",
    "noise.weight": "noise_strength",
    "noise": "noise_const",
}
_RGB = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "upsample.kernel": "resample_filter",
    "bias": "bias",
}
_PARTS = "|".join(map(re.escape, _CONV))
_RGB_PARTS = "|".join(map(re.escape, _RGB))
_NAMES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"style\.([1-9]\d?)\.(weight|bias)", lambda m: f"mapping.fc{int(m[1]) - 1}.{m[2]}"),
    (r"input\.input", lambda m: "synthesis.b4.const"),
    (rf"conv1\.({_PARTS})", lambda m: f"synthesis.b4.conv1.{_CONV[m[1]]}"),
    (rf"convs\.(\d{{1,2}})\.({_PARTS})", lambda m: _layer(int(m[1]), m[2])),
    (rf"to_rgb1\.({_RGB_PARTS})", lambda m: f"synthesis.b4.torgb.{_RGB[m[1]]}"),
    (
        rf"to_rgbs\.(\d{{1,2}})\.({_RGB_PARTS})",
        lambda m: f"synthesis.b{2 ** (int(m[1]) + 3)}.torgb.{_RGB[m[2]]}",
    ),
    (r"noises\.noise_(\d{1,2})", lambda m: _noise(int(m[1]))),
)


def _reshaped(name: str, tensor: Tensor) -> Tensor:
    """Without the axes of size 1 that only its code has."""
    last = name.rpartition(".")[2]
    if last == "kernel":
        return tensor / _GAIN
    if name.endswith("noise.weight"):
        return tensor.reshape([]) if tensor.numel() == 1 else tensor
    if last.startswith("noise_"):
        return tensor[0, 0] if tensor.ndim == 4 else tensor
    if last == "input" or name.endswith(".conv.weight"):
        return tensor[0] if tensor.ndim else tensor
    return tensor.flatten() if last == "bias" else tensor
