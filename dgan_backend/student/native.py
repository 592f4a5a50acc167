"""A trunk beside its generator: `backbone.safetensors` and `backbone.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.native import generator_folder, read_tensors, write_json, write_tensors
from dgan_backend.student.unet import Trunk, UNetConfig

CARD, WEIGHTS = "backbone.json", "backbone.safetensors"


@dataclass(frozen=True)
class Backbone:
    """A trained trunk, and in plain words and numbers how it was trained."""

    config: UNetConfig
    tensors: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)


def save_backbone(folder: Path, backbone: Backbone) -> None:
    """Write a backbone into its generator's folder, weights in float16."""
    write_tensors(folder / WEIGHTS, backbone.tensors)
    card = {"architecture": backbone.config.to_json(), "training": backbone.training}
    write_json(folder / CARD, card)


def load_backbone(generator: str | Path, device: str = "cpu") -> Backbone | None:
    """The backbone of a shipped generator or a native folder; None where it has none.

    Raises DganError that names the file at fault.
    """
    folder = generator_folder(generator)
    if not (folder / CARD).is_file():
        return None
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        config = UNetConfig.from_json(card["architecture"])
        tensors = {k: v.float().to(device) for k, v in read_tensors(folder / WEIGHTS).items()}
        Trunk(config).load_state_dict(tensors)
    except (ValueError, TypeError, KeyError) as error:
        raise DganError(f"{folder / CARD} is no backbone card ({error}).") from error
    except RuntimeError as error:
        raise DganError(f"{folder / WEIGHTS} does not fit {CARD} ({error}).") from error
    return Backbone(config, tensors, card.get("training", {}))
