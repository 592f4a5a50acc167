"""Drawn regions as Label Studio sends them in the context of an interactive /predict."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgan_backend.labelstudio import bitmask, brush


def drawn(kind: str, value: dict[str, Any], size: tuple[int, int], **more: object) -> dict:
    """size: height, width of the picture."""
    height, width = size
    return {
        "id": "drawn", "type": kind, "from_name": "tool", "to_name": "image",
        "original_width": width, "original_height": height, "image_rotation": 0, "value": value,
        **more,
    }  # fmt: skip


def click(row: int, column: int, size: tuple[int, int], label: str = "", **more: object) -> dict:
    """A click on the middle of a pixel, with a label or without."""
    height, width = size
    value = {"x": (column + 0.5) * 100 / width, "y": (row + 0.5) * 100 / height, "width": 0.5}
    if not label:
        return drawn("keypoint", value, size, **more)
    return drawn("keypointlabels", {**value, "keypointlabels": [label]}, size, **more)


def stroke(mask: np.ndarray, label: str = "", kind: str = "brush", **more: object) -> dict:
    """A mask [H, W] bool painted with the brush or the bitmask tool."""
    value: dict[str, Any]
    if kind == "brush":
        value = {"format": "rle", "rle": brush.encode(mask)}
    else:
        value = {"imageDataURL": bitmask.encode(mask)}
    named = f"{kind}labels" if label else kind
    return drawn(named, {**value, **({named: [label]} if label else {})}, mask.shape, **more)
