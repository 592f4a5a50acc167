"""NVIDIA's pickles: StyleGAN2-ADA in PyTorch, and the StyleGAN2 of the StyleGAN3 repository.

An object of theirs carries its source code, which is never looked at, and its state: attributes,
and tensors by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.generators.foreign.allowed import PERSISTENT, nvidia
from dgan_backend.generators.foreign.found import Found
from dgan_backend.generators.foreign.pickles import Pickle
from dgan_backend.generators.foreign.stored import Budget, Record, StoredTensor
from dgan_backend.generators.foreign.torch_files import one_storage
from dgan_backend.generators.foreign.values import shown

LICENCE = "Nvidia Source Code License (non-commercial: research or evaluation only)"
_DEEPEST, _MOST_MODULES, _MOST_TENSORS = 12, 1000, 5000
_MOST_NAMES = 1000  # of tensors or modules in one module


@dataclass
class Recorded:
    """A network as its pickle has it. modules: state by dotted name, "" the whole. tensors: by the
    names of its state dict, not read yet."""

    modules: dict[str, dict[Any, Any]] = field(default_factory=dict)
    tensors: dict[str, StoredTensor] = field(default_factory=dict)

    def attribute(self, module: str, name: str) -> Any:
        """A plain attribute; raises DganError when the module or the attribute is missing."""
        try:
            return self.modules[module][name]
        except KeyError:
            raise DganError(f"its {module or 'network'} tells no {name}.") from None

    def number(self, module: str, name: str) -> float:
        value = self.attribute(module, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DganError(f"its {module}.{name} is {shown(value)}, not a number.")
        if not math.isfinite(value):
            raise DganError(f"its {module}.{name} is {value}, which is not finite.")
        return float(value)

    def flag(self, module: str, name: str) -> bool:
        value = self.attribute(module, name)
        if not isinstance(value, bool):
            raise DganError(f"its {module}.{name} is {shown(value)}, not true or false.")
        return value


def read(data: memoryview) -> Any:
    """The value of a pickle, TensorFlow's or PyTorch's."""
    return Pickle(data, nvidia(one_storage)).read()[0]


def recorded(value: Any) -> Recorded | None:
    """The network `G_ema` of a pickle's value; None when the value is of another format."""
    record = value.get("G_ema") if isinstance(value, dict) else value
    if not isinstance(record, Record) or record.kind != PERSISTENT:
        return None
    network = Recorded()
    _walk(network, "", record, _DEEPEST)
    return network


def _walk(network: Recorded, name: str, record: Any, depth: int) -> None:
    state = _state(record)
    if depth == 0 or len(network.modules) > _MOST_MODULES:
        raise DganError("it has modules within modules without end; it is damaged or a trap.")
    network.modules[name] = state
    prefix = f"{name}." if name else ""
    passing = state.get("_non_persistent_buffers_set")
    listed = passing[:_MOST_NAMES] if isinstance(passing, list) else []
    left_out = {key for key in listed if isinstance(key, str)}
    for place in ("_parameters", "_buffers"):
        for key, tensor in _named(state, place):
            if isinstance(tensor, StoredTensor) and key not in left_out:
                network.tensors[prefix + key] = tensor
    if len(network.tensors) > _MOST_TENSORS:
        raise DganError("it has far more tensors than any generator; it is damaged or a trap.")
    for key, module in _named(state, "_modules"):
        if module is not None:
            _walk(network, prefix + key, module, depth - 1)


def _state(record: Any) -> dict[Any, Any]:
    if isinstance(record, Record) and record.kind == PERSISTENT and len(record.args) == 1:
        meta = record.args[0]
        state = meta.get("state") if isinstance(meta, dict) else None
        if isinstance(state, dict) and meta.get("type") == "class":
            return state
    raise DganError("it is damaged: a module of its network has no state.")


def _named(state: dict[Any, Any], place: str) -> list[tuple[str, Any]]:
    items = state.get(place, {})
    if not isinstance(items, dict) or len(items) > _MOST_NAMES:
        raise DganError(f"it is damaged: {place} of a module is no table of a few names.")
    if not all(isinstance(key, str) for key in items):
        raise DganError(f"it is damaged: {place} of a module has a name that is none.")
    return list(items.items())


def stylegan2(network: Recorded, budget: Budget) -> Found:
    """A StyleGAN2; raises DganError when its layers are none that we have."""
    if "synthesis.b4.const" not in network.tensors:
        raise DganError(
            "its network G_ema is no StyleGAN2 generator (it has no synthesis.b4.const)."
        )
    clamp = _clamp(network)
    return Found(
        kind="NVIDIA StyleGAN2 in PyTorch",
        tensors={name: tensor.read(budget) for name, tensor in network.tensors.items()},
        lr_multiplier=network.number("mapping.fc0", "bias_gain"),
        conv_clamp=clamp,
        licence=LICENCE,
    )


def _clamp(network: Recorded) -> float | None:
    """The bound of activations, the same in all layers; None where there is none."""
    layers = [name for name in network.modules if name.endswith((".conv0", ".conv1"))]
    for name in layers:
        if (activation := network.attribute(name, "activation")) != "lrelu":
            raise DganError(f"its {name[:50]} has the activation {shown(activation)}, not 'lrelu'.")
    clamps = {
        None
        if network.attribute(name, "conv_clamp") is None
        else network.number(name, "conv_clamp")
        for name in layers
    }
    if len(clamps) != 1:
        raise DganError("its layers have different values of conv_clamp; they must have one.")
    clamp = clamps.pop()
    if clamp is not None and clamp <= 0:
        raise DganError(f"its conv_clamp is {clamp}, which is not above 0.")
    return clamp
