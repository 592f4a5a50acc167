"""A project of toon heads and a real, tiny version that serves it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.partonomy import Partonomy, load_partonomy
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from tests.builders import tiny_segmenter

TOONHEAD = load_partonomy("toonhead")
CONFIG = labeling_config(TOONHEAD)
OTHER_CONFIG = CONFIG.replace('value="iris"', 'value="wing"')  # fits no shipped partonomy
VERSION = "toonhead-tiny"


class TinyRegistry(Registry):
    """A registry in which a tiny version of random weights serves all projects of toon heads."""

    def current(
        self, partonomy: Partonomy, project: int | None = None, uid: str = ""
    ) -> str | None:
        return VERSION if partonomy == TOONHEAD else None


def tiny_registry(folder: Path) -> TinyRegistry:
    """Fits the version, saves it, and will load it from disk like any other."""
    tiny_segmenter(folder).save(folder / VERSION)
    return TinyRegistry(folder)


def data_uri(height: int, width: int) -> str:
    """A picture of noise."""
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def task(number: int, image: object, **data: object) -> dict[str, Any]:
    return {"id": number, "data": {"image": image, **data}, "annotations": [], "predictions": []}


def seed_task(number: int, segmenter: Segmenter, seed: int) -> dict[str, Any]:
    """A task of a sampled picture; its URL leads nowhere, as nothing has to fetch it."""
    latent = segmenter.latent(seed).to_json()
    return task(number, "/data/upload/1/never-fetched.png", latent=latent)
