"""Small real parts for tests: random weights, seconds to build, nothing faked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dgan_backend.fitting import FitPlan
from dgan_backend.generators.families import build
from dgan_backend.generators.native import save_generator
from dgan_backend.generators.network import Architecture, Network
from dgan_backend.generators.stylegan1 import StyleGAN1Config
from dgan_backend.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from dgan_backend.generators.stylegan3 import StyleGAN3Config
from dgan_backend.interpreter import FitSettings
from dgan_backend.inversion.encoder import Encoder, EncoderConfig
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import InDomainErrors, save_encoder
from dgan_backend.partonomy import Partonomy, load_partonomy
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.native import Backbone, save_backbone
from dgan_backend.student.student import StudentSettings
from dgan_backend.student.unet import Trunk, UNetConfig

QUICK_FIT = FitSettings(members=3, pixels=512, steps=30, batch=64)
QUICK_INVERSION = InversionSettings(steps=3)
QUICK_STUDENT = StudentSettings(2, UNetSettings(pictures=8))
QUICK = FitPlan(taught=4, interpreter=QUICK_FIT, inversion=QUICK_INVERSION, student=QUICK_STUDENT)
TINY_UNET = UNetConfig((4, 6, 8, 8, 8, 8))


def tiny_config(resolution: int = 16, **changes: object) -> StyleGAN2Config:
    numbers = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_max": 8, **changes}
    return StyleGAN2Config(resolution=resolution, **numbers)  # type: ignore[arg-type]


def tiny_stylegan1_config(resolution: int = 16, **changes: object) -> StyleGAN1Config:
    numbers = {"z_dim": 8, "w_dim": 8, "channel_max": 8, "truncation_cutoff": 3, **changes}
    return StyleGAN1Config(resolution=resolution, **numbers)  # type: ignore[arg-type]


def tiny_stylegan3_config(resolution: int = 16, **changes: object) -> StyleGAN3Config:
    numbers = {"z_dim": 8, "w_dim": 8, "channel_max": 8, "layers": 6, **changes}
    return StyleGAN3Config(resolution=resolution, **numbers)  # type: ignore[arg-type]


def tiny_network(config: Architecture) -> Network:
    """Random weights; also where a new network has zeros, so that every one of them speaks."""
    network = build(config)
    for tensor in [*network.parameters(), *network.buffers()]:
        if not tensor.any():
            torch.nn.init.normal_(tensor, std=0.2)
    return network.eval()


def tiny_generator_folder(
    folder: Path,
    resolution: int = 16,
    name: str = "tiny",
    config: Architecture | None = None,
) -> Path:
    """A native folder with a random generator and a random encoder.

    config: None = a StyleGAN2 of that resolution.
    """
    torch.manual_seed(0)
    network = tiny_network(config) if config else StyleGAN2(tiny_config(resolution))
    config = network.config
    save_generator(folder, name, network)
    channels = (8,) * (config.resolution.bit_length() - 2)
    encoder = Encoder(EncoderConfig(config.resolution, config.num_ws, config.w_dim, channels))
    save_encoder(folder, encoder, InDomainErrors(median=0.5, limit=2.0))
    return folder


def turning(folder: Path, turns: bool = True) -> Path:
    """A generator whose card says that its pictures have no up."""
    card = json.loads((folder / "card.json").read_text())
    card["training"]["turns"] = turns
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def add_tiny_backbone(folder: Path) -> None:
    """A random backbone beside a generator, so that students can be fitted."""
    torch.manual_seed(1)
    save_backbone(folder, Backbone(TINY_UNET, Trunk(TINY_UNET).state_dict(), side=32))


def labeled_pictures(
    count: int = 2, height: int = 16, width: int = 16, classes: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures [N, H, W, 3] and masks [N, H, W] of blocks, all `classes` present."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, size=(count, height, width, 3)).astype(np.uint8)
    blocks = np.arange(height * width).reshape(height, width) * classes // (height * width)
    return images, np.repeat(blocks[None].astype(np.uint8), count, axis=0)


def tiny_segmenter(folder: Path, partonomy: Partonomy | str = "toonhead") -> Segmenter:
    """A real segmenter on a random 16 px generator kept in `folder`, fitted on noise."""
    tree = partonomy if isinstance(partonomy, Partonomy) else load_partonomy(partonomy)
    generator = tiny_generator_folder(folder / "tiny")
    images, masks = labeled_pictures(classes=tree.num_classes)
    return Segmenter.fit(
        generator,
        images,
        masks,
        tree,
        version=f"{tree.name}-tiny",
        plan=replace(QUICK, outside="interpreter"),
    )


def tiny_models(folder: Path, version: str) -> Path:
    """A MODEL_DIR in which a tiny version of that name lies; its generator lies there, too."""
    segmenter = tiny_segmenter(folder)
    segmenter.card = replace(segmenter.card, name=version)
    segmenter.save(folder / version)
    return folder
