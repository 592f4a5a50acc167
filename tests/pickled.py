"""Generator files as other projects write them, made without a line of theirs.

`Writer` is Python's own pickler, but for names: it writes those that a stub says it has, without
importing anything.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dgan_backend.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from dgan_backend.generators.stylegan3 import StyleGAN3
from tests.builders import tiny_stylegan3_config

DATA = Path(__file__).parent / "data" / "conformance"
BUFFERS = (
    "w_avg", "noise_const", "resample_filter", "transform", "freqs", "phases", "magnitude_ema",
    "up_filter", "down_filter",
)  # fmt: skip


class Writer(pickle._Pickler):  # type: ignore[name-defined,misc]
    """old: numpy's names as before numpy 2."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: io.BytesIO, protocol: int, old: bool = False) -> None:
        super().__init__(file, protocol)
        self._old = old

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__ or "builtins"
        if isinstance(obj, Name):
            module, name = obj.pair
        name = name or obj.__qualname__
        if self._old:
            module = module.replace("numpy._core", "numpy.core")
        if self.proto >= 4:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            module = "__builtin__" if self.proto < 3 and module == "builtins" else module
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)

    def save_type(self, obj: type) -> None:
        self.save_global(obj)


Writer.dispatch[type] = Writer.save_type
Writer.dispatch[types.FunctionType] = Writer.save_global


class Name:
    """A name that is written and means nothing here."""

    def __init__(self, module: str, name: str) -> None:
        self.pair = (module, name)

    def __call__(self) -> None:
        """What is called when it is loaded has to be callable when it is written."""

    def __reduce__(self) -> str:
        return self.pair[1]


class Call:
    """Is loaded by a call of a name with arguments. state: given to BUILD."""

    def __init__(self, module: str, name: str, *args: Any, state: Any = None) -> None:
        self.name, self.args, self.state = Name(module, name), args, state

    def __reduce__(self) -> tuple[Any, ...]:
        made = (self.name, self.args)
        return made if self.state is None else (*made, self.state)


class EasyDict(dict):
    __module__, __qualname__ = "dnnlib.util", "EasyDict"


class Network:
    """TensorFlow's: what BUILD gives it is its state."""

    __module__, __qualname__ = "dnnlib.tflib.network", "Network"

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state


def written(value: Any, protocol: int = 4, old: bool = False) -> bytes:
    file = io.BytesIO()
    Writer(file, protocol, old).dump(value)
    return file.getvalue()


def persistent(state: dict[str, Any], source: str = "", class_name: str = "Module") -> Call:
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name}
    return Call(
        "torch_utils.persistence", "_reconstruct_persistent_obj", EasyDict(meta, state=state)
    )


# NVIDIA, PyTorch


def recorded(
    tensors: dict[str, Tensor],
    attributes: dict[str, dict[str, Any]],
    source: str = "",
    nhwc: bool = False,
) -> Call:
    """A module and those in it. attributes: by the dotted name of a module."""

    def module(name: str) -> Call:
        prefix = f"{name}." if name else ""
        inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        own = {k: _laid_out(v, nhwc) for k, v in inside.items() if "." not in k}
        children = dict.fromkeys(k.split(".")[0] for k in inside if "." in k)
        state = {
            "training": False,
            "_parameters": OrderedDict(
                (k, torch.nn.Parameter(v)) for k, v in own.items() if k not in BUFFERS
            ),
            "_buffers": OrderedDict((k, v) for k, v in own.items() if k in BUFFERS),
            "_non_persistent_buffers_set": set(),
            "_forward_hooks": OrderedDict(),
            "_modules": OrderedDict((k, module(prefix + k)) for k in children),
            **attributes.get(name, {}),
            "_init_args": (),
            "_init_kwargs": EasyDict(),
        }
        return persistent(state, source)

    return module("")


def _laid_out(tensor: Tensor, nhwc: bool) -> Tensor:
    if nhwc and tensor.ndim == 4:
        return tensor.to(memory_format=torch.channels_last)
    return tensor


def ada_attributes(
    tensors: dict[str, Tensor], lr_multiplier: float, conv_clamp: float | None
) -> dict[str, dict[str, Any]]:
    """What StyleGAN2-ADA's modules have beside tensors, as far as it matters."""
    modules = {name.rpartition(".")[0] for name in tensors}
    found: dict[str, dict[str, Any]] = {"": {"z_dim": 1, "img_resolution": 1}}
    for name in modules:
        last = name.rpartition(".")[2]
        if last in ("conv0", "conv1"):
            found[name] = {"activation": "lrelu", "conv_clamp": conv_clamp, "up": 2}
        elif last.startswith("fc"):
            gain = np.float64(lr_multiplier / tensors[f"{name}.weight"].shape[1] ** 0.5)
            found[name] = {"weight_gain": gain, "bias_gain": lr_multiplier}
    return found


def ada_pickle(
    tensors: dict[str, Tensor],
    protocol: int = 4,
    *,
    lr_multiplier: float = 0.01,
    conv_clamp: float | None = None,
    old: bool = False,
    nhwc: bool = False,
    source: str = "import torch\n",
    **more: Any,
) -> bytes:
    """A snapshot: D and G of something else, G_ema of the tensors. more: into the top level."""
    attributes = ada_attributes(tensors, lr_multiplier, conv_clamp)
    other = recorded({"b4.conv.weight": torch.zeros(2, 2, 3, 3)}, {}, source)
    value = {
        "training_set_kwargs": EasyDict(path="x.zip", xflip=False, max_size=3),
        "G": other,
        "D": other,
        "G_ema": recorded(tensors, attributes, source, nhwc),
        "augment_pipe": None,
        **more,
    }
    return written(value, protocol, old)


def stylegan3_attributes(card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """card: of a conformance set, which tells what the modules recorded."""
    found: dict[str, dict[str, Any]] = {
        "synthesis": {"output_scale": card["output_scale"]},
        "synthesis.input": {k: v for k, v in card["input_layer"].items() if k != "size"},
    }
    for name, told in card["layers"].items():
        sizes = {k: np.array(v) for k, v in told.items() if k.endswith("_size")}
        found[f"synthesis.{name}"] = {**told, **sizes}
    for n in range(card["init_kwargs"]["mapping_kwargs"]["num_layers"]):
        found[f"mapping.fc{n}"] = {"bias_gain": 0.01}
    return found


# NVIDIA, TensorFlow


def tf_pickle(
    tensors: dict[str, Tensor], kwargs: dict[str, Any], protocol: int = 2, version: int = 4
) -> bytes:
    """(G, D, Gs); tensors by the names of our networks."""
    by_part: dict[str, list[tuple[str, np.ndarray]]] = {"": [], "mapping": [], "synthesis": []}
    for name, tensor in tensors.items():
        if not name.endswith("resample_filter"):
            part, _, theirs = _tf_name(name).rpartition(":")
            by_part[part].append((theirs, _tf_array(name, tensor).numpy()))
    by_part[""].append(("lod", np.float32(0).reshape(())))

    def network(part: str, components: dict[str, Network]) -> Network:
        return Network(
            {
                "version": version,
                "name": part or "Gs",
                "static_kwargs": EasyDict({} if part else kwargs),
                "components": EasyDict(components),
                "build_module_src": "import tensorflow",
                "build_func_name": "G_main",
                "variables": by_part[part],
            }
        )

    parts = {part: network(part, {}) for part in ("mapping", "synthesis")}
    other = Network({"version": version, "variables": []})
    return written((other, other, network("", parts)), protocol, old=True)


def _tf_name(name: str) -> str:
    """`component:variable`."""
    words = name.split(".")
    if name == "mapping.w_avg":
        return ":dlatent_avg"
    if words[0] == "mapping":
        layer = words[1].replace("fc", "Dense").replace("embed", "LabelEmbed")
        return f"mapping:{layer}/{words[2]}"
    r = int(words[1][1:])
    if words[2] == "const":
        return "synthesis:4x4/Const/const"
    if words[3] == "noise_const":
        k = r.bit_length() - 1
        return f"synthesis:noise{0 if r == 4 else 2 * k - 5 + (words[2] == 'conv1')}"
    layer = {"conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1"}.get(words[2])
    layer = layer or {"torgb": "ToRGB", "skip": "Skip"}[words[2]]
    return f"synthesis:{r}x{r}/{layer}/{'_'.join(words[3:]).replace('affine', 'mod')}"


def _tf_array(name: str, tensor: Tensor) -> Tensor:
    if name.endswith("affine.bias"):
        return tensor - 1
    if name.endswith("noise_const"):
        return tensor[None, None]
    if name.endswith("const"):
        return tensor[None]
    if tensor.ndim == 2:
        return tensor.T.contiguous()
    if tensor.ndim == 4:
        turned = tensor.flip(2, 3) if ".conv0." in name or ".skip." in name else tensor
        return turned.permute(2, 3, 1, 0).contiguous()
    return tensor


# torch.save


def torch_saved(value: Any, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def training_checkpoint(g_ema: dict[str, Tensor]) -> dict[str, Any]:
    """What rosinality's training writes: without the average latent, with much else."""
    return {
        "g": g_ema,
        "d": {"convs.0.0.weight": torch.zeros(2, 3, 1, 1)},
        "g_ema": OrderedDict(g_ema),
        "g_optim": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.002}]},
        "d_optim": {},
        "args": argparse.Namespace(size=64, path="lmdb", local_rank=0),
        "ada_aug_p": 0.0,
    }


# Networks to write


def conformance(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Card, weights, and what they give."""
    io_ = {k: torch.from_numpy(v) for k, v in np.load(DATA / f"{name}.io.npz").items()}
    card = json.loads((DATA / f"{name}.json").read_text())
    return card, load_file(DATA / f"{name}.safetensors"), io_


def small_stylegan3(**changes: object) -> bytes:
    """A pickle of a random StyleGAN3 of a few layers."""
    torch.manual_seed(0)
    config = tiny_stylegan3_config(**changes)
    layers: dict[str, dict[str, Any]] = {}
    for n, name in enumerate(config.layer_names):
        before, after = (config.bands[k].rate for k in (max(n - 1, 0), n))
        rate = max(before, after) * config.upsampling
        layers[name] = {
            "is_torgb": n == config.layers,
            "is_critically_sampled": n >= config.layers - config.critical,
            "in_sampling_rate": before,
            "out_sampling_rate": after,
            "tmp_sampling_rate": rate,
            "up_factor": rate // before,
            "up_taps": config.filter_size * rate // before,
            "conv_clamp": 256,
        }
    card = {
        "init_kwargs": {"mapping_kwargs": {"num_layers": config.mapping_layers}},
        "layers": layers,
        "input_layer": {"bandwidth": config.first_cutoff},
        "output_scale": config.output_scale,
    }
    tensors = dict(StyleGAN3(config).state_dict())
    return written({"G_ema": recorded(tensors, stylegan3_attributes(card))})


def small_tensors(resolution: int = 8, **changes: Any) -> dict[str, Tensor]:
    """Of a random StyleGAN2 with 4 channels."""
    torch.manual_seed(0)
    numbers = {"z_dim": 4, "w_dim": 4, "mapping_layers": 2, "channel_max": 4, **changes}
    return dict(StyleGAN2(StyleGAN2Config(resolution=resolution, **numbers)).state_dict())
