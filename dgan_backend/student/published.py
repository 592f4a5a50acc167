"""Weights that others publish for DeepLab-V3 and its ResNets, from a file that the user has.

torchvision's files fit: a ResNet's of ImageNet (`conv1.weight` ...), and a whole
`deeplabv3_resnet*` of COCO (`backbone.conv1.weight` ... `classifier.4.bias`). Nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.checkpoints import read_state
from dgan_backend.generators.native import read_tensors
from dgan_backend.student.deeplab import DeepLab

_BACKBONE = "backbone."
_UNREAD = ("aux_classifier.", f"{_BACKBONE}fc.")  # a second head, and ImageNet's
_COUNTER = "num_batches_tracked"  # of batch norms; older files lack it, and nothing here reads it
_HEAD = "classifier.4."


def load_published(network: DeepLab, path: Path) -> str:
    """Put the weights of a file into a network; returns what was in it, in words.

    path: .pth as torch saves a state dict, or .safetensors. The head is taken over where it says
    as many classes, and else stays as it is. Raises DganError that names the file, and the first
    tensor that is missing, unknown or of another shape.
    """
    try:
        found = read_tensors(path) if path.suffix == ".safetensors" else read_state(path)
    except DganError as error:
        raise DganError(f"{path} cannot be used: {error}") from error
    whole = any(name.startswith(_BACKBONE) for name in found)
    named = found if whole else {_BACKBONE + name: value for name, value in found.items()}
    given = {k: v for k, v in named.items() if not (k.startswith(_UNREAD) or k.endswith(_COUNTER))}
    wanted = _wanted(network, whole)
    if whole and _another_head(given, wanted):
        given, wanted = _without(given, _HEAD), _without(wanted, _HEAD)
    _check(given, wanted, path, network.config.backbone)
    with torch.no_grad():
        for name, own in wanted.items():
            own.copy_(given[name])
    if not whole:
        return f"{network.config.backbone}, {len(given)} tensors"
    head = "with" if any(name.startswith(_HEAD) for name in given) else "without"
    return f"DeepLab-V3 on {network.config.backbone}, {len(given)} tensors, {head} its head"


def _wanted(network: DeepLab, whole: bool) -> dict[str, Tensor]:
    prefix = "" if whole else _BACKBONE
    return {
        name: value
        for name, value in network.state_dict().items()
        if name.startswith(prefix) and not name.endswith(_COUNTER)
    }


def _another_head(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    found = given.get(f"{_HEAD}weight")
    return found is not None and found.shape[0] != wanted[f"{_HEAD}weight"].shape[0]


def _without(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def _check(given: dict[str, Tensor], wanted: dict[str, Tensor], path: Path, backbone: str) -> None:
    advice = f"the file is of another network than {backbone}; choose another --backbone or file."
    if missing := sorted(set(wanted) - set(given)):
        raise DganError(f"{path} lacks {missing[0]} ({len(missing)} tensors in all): {advice}")
    if unknown := sorted(set(given) - set(wanted)):
        raise DganError(f"{path} has {unknown[0]}, which is unknown ({len(unknown)}): {advice}")
    for name, own in wanted.items():
        if given[name].shape != own.shape:
            raise DganError(
                f"{path}: {name} is {tuple(given[name].shape)}, not {tuple(own.shape)}: {advice}"
            )
