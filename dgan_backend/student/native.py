"""On disk: a backbone beside its generator, a student inside its version.

`backbone.json` and `backbone.safetensors`; `student.json` and `student.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dgan_backend.errors import DganError
from dgan_backend.generators.native import (
    file_hash,
    read_card,
    read_tensors,
    trained_for,
    write_json,
    write_tensors,
)
from dgan_backend.generators.references import generator_folder
from dgan_backend.student.deeplab import DeepLabConfig, deeplab
from dgan_backend.student.familiarity import Familiarity
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.student import Student
from dgan_backend.student.unet import Trunk, UNet, UNetConfig, resized

CARD, WEIGHTS = "backbone.json", "backbone.safetensors"
_FAMILIAR = "familiarity."
_BATCH = 8
_SIDE = 128
_ID_DIGITS = 12
_Network = TypeVar("_Network", bound=nn.Module)
STUDENT_CARD, STUDENT_WEIGHTS = "student.json", "student.safetensors"


@dataclass(frozen=True)
class Backbone:
    """What students begin with: a trained trunk, what is familiar to it, and how it was trained, in
    words and numbers; or nothing but a trunk's widths, where a generator has none.

    tensors: of the trunk; {} = students begin at random. side: px that it was shown pictures at.
    familiarity: None = not known, so that every picture is taken to be of the domain. id: of its
    file, "" before there is one. beside: id of the generator that it lies beside, where that is
    not the one that it was trained for.
    """

    config: UNetConfig = field(default_factory=UNetConfig)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    side: int = _SIDE
    familiarity: Familiarity | None = None
    training: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    beside: str = ""

    @property
    def trained(self) -> bool:
        return bool(self.tensors)

    @property
    def lacks(self) -> str:
        """What is worse without a trained one, in plain words; "" where nothing is."""
        if not self.trained:
            return (
                "The generator has no backbone: masks take more labels, and nothing says which "
                "pictures are foreign; `dgan-backend generator prepare` gives it one."
            )
        if self.beside:
            return (
                f"The backbone was trained for {self.training['generator']}, and the generator is "
                f"{self.beside} by now; `dgan-backend generator prepare` trains it anew."
            )
        if self.familiarity is None:
            return "The backbone was trained without pictures: nothing says which are foreign."
        return ""

    @cached_property
    def trunk(self) -> Trunk:
        trunk = _loaded(lambda: Trunk(self.config), self.tensors)
        return trunk.eval().requires_grad_(False)

    def factors(self, images: Tensor) -> list[float]:
        """r in [0, 1] of each of [N, 3, S, S]; 1 where familiarity was not measured."""
        if self.familiarity is None:
            return [1.0] * len(images)
        found: list[float] = []
        for batch in images.split(_BATCH):
            found += self.familiarity.factors(self.trunk, resized(batch, self.side))
        return found


def save_backbone(folder: Path, backbone: Backbone) -> None:
    """Write a backbone into its generator's folder, the trunk's weights in float16."""
    tensors = _halved(backbone.tensors)
    card: dict[str, Any] = {"architecture": backbone.config.to_json(), "side": backbone.side}
    if known := backbone.familiarity:
        tensors |= {_FAMILIAR + "mean": known.mean, _FAMILIAR + "whitening": known.whitening}
        card["familiar_distances"] = {"median": known.median, "limit": known.limit}
    write_tensors(folder / WEIGHTS, tensors, dtype=None)
    write_json(folder / CARD, {**card, "training": backbone.training})


def load_backbone(generator: str | Path, device: str = "cpu") -> Backbone:
    """The backbone of a generator, as people name one; an untrained one where it has none.

    Raises DganError that names the file at fault.
    """
    folder = generator_folder(generator)
    if not (folder / CARD).is_file():
        return Backbone()
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        config = UNetConfig.from_json(card["architecture"])
        stored = {k: v.to(device) for k, v in read_tensors(folder / WEIGHTS).items()}
        tensors = {k: v.float() for k, v in stored.items() if not k.startswith(_FAMILIAR)}
        _loaded(lambda: Trunk(config), tensors)
        side, familiarity = int(card["side"]), None
        if known := card.get("familiar_distances"):
            mean, whitening = stored[_FAMILIAR + "mean"], stored[_FAMILIAR + "whitening"]
            familiarity = Familiarity(mean, whitening, known["median"], known["limit"])
    except (ValueError, TypeError, KeyError) as error:
        raise DganError(f"{folder / CARD} is no backbone card ({error}).") from error
    except RuntimeError as error:
        raise DganError(f"{folder / WEIGHTS} does not fit {CARD} ({error}).") from error
    about = card.get("training", {})
    fits = trained_for(folder, str(about.get("generator", "")))
    beside = "" if fits else read_card(folder).id
    return Backbone(config, tensors, side, familiarity, about, backbone_id(generator), beside)


def backbone_id(generator: str | Path) -> str:
    """Of a generator's backbone, by its weights; "" where there is none."""
    path = generator_folder(generator) / WEIGHTS
    return file_hash(path)[:_ID_DIGITS] if path.is_file() else ""


def save_student(folder: Path, student: Student) -> None:
    """Write a student into its version's folder, weights in float16."""
    tensors = {
        f"{number}.{name}": value
        for number, network in enumerate(student.networks)
        for name, value in network.state_dict().items()
    }
    write_tensors(folder / STUDENT_WEIGHTS, _halved(tensors), dtype=None)
    card = {
        "architecture": student.networks[0].architecture(),
        "networks": len(student.networks),
        "classes": student.num_classes,
        "mirror": student.mirror,
        "swap": list(student.swap),
        "correction": list(student.correction),
    }
    write_json(folder / STUDENT_CARD, card)


def load_student(folder: Path, device: str = "cpu") -> Student | None:
    """The student of a version; None where it has none. Raises DganError that names the file."""
    if not (folder / STUDENT_CARD).is_file():
        return None
    stored = read_tensors(folder / STUDENT_WEIGHTS)
    try:
        card = json.loads((folder / STUDENT_CARD).read_text(encoding="utf-8"))
        networks = [
            _network(stored, f"{number}.", card["architecture"], card["classes"]).to(device)
            for number in range(card["networks"])
        ]
        swap, correction = tuple(card.get("swap", ())), tuple(card.get("correction", ()))
        return Student(networks, bool(card["mirror"]), swap, correction)
    except (ValueError, TypeError, KeyError) as error:
        raise DganError(f"{folder / STUDENT_CARD} is no student card ({error}).") from error
    except RuntimeError as error:
        raise DganError(
            f"{folder / STUDENT_WEIGHTS} does not fit {STUDENT_CARD} ({error})."
        ) from error


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float16; the statistics of batch norms, which may be small, as they are."""
    return {
        name: t.half() if t.is_floating_point() and ".running_" not in name else t
        for name, t in tensors.items()
    }


def built(architecture: dict[str, Any], classes: int) -> SegmentationNetwork:
    """A network of what `SegmentationNetwork.architecture` told."""
    if "backbone" in architecture:
        return deeplab(DeepLabConfig.from_json(architecture), classes)
    return UNet(UNetConfig.from_json(architecture), classes)


def _network(
    stored: dict[str, Tensor], prefix: str, architecture: dict[str, Any], classes: int
) -> SegmentationNetwork:
    own = {
        k.removeprefix(prefix): v.float() if v.is_floating_point() else v
        for k, v in stored.items()
        if k.startswith(prefix)
    }
    network = _loaded(lambda: built(architecture, classes), own)
    return network.eval().requires_grad_(False)


def _loaded(make: Callable[[], _Network], tensors: dict[str, Tensor]) -> _Network:
    """A network with these tensors; draws no random numbers, which a fit beside it may be at."""
    with torch.device("meta"):
        network = make()
    network.load_state_dict(tensors, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
