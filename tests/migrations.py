"""Folders of labels as other tools leave them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Json = dict[str, Any]
Points = Sequence[Sequence[float]]


def picture(height: int = 12, width: int = 16, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8 of noise."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def box(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    """The corners of rows top .. bottom - 1, columns left .. right - 1."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def shape(label: object, points: object, kind: str = "polygon", **more: object) -> Json:
    told = {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
    return {**told, **more}


def labelme_file(
    path: Path,
    shapes: Sequence[object],
    pixels: np.ndarray | None = None,
    *,
    embedded: bool = False,
    **more: object,
) -> Path:
    """A JSON file with its picture in it, or as PNG beside it."""
    pixels = picture() if pixels is None else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".png")
    if not embedded:
        beside.write_bytes(encoded(pixels))
    about: Json = {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": beside.name,
        "imageData": base64_of(encoded(pixels)) if embedded else None,
        "imageHeight": pixels.shape[0],
        "imageWidth": pixels.shape[1],
        **more,
    }
    path.write_text(json.dumps(about))
    return path


def datasetgan_folder(
    folder: Path,
    masks: Mapping[int, np.ndarray],
    pictures: Mapping[int, np.ndarray] | None = None,
    latents: int | None = None,
) -> Path:
    """image_mask{i}.npy and image_{i}.jpg by number, and latents beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, mask in masks.items():
        np.save(folder / f"image_mask{number}.npy", mask)
    shown = pictures or {n: picture(*mask.shape, seed=n) for n, mask in masks.items()}
    for number, pixels in shown.items():
        (folder / f"image_{number}.jpg").write_bytes(encoded(pixels, "JPEG", quality=95))
    if latents is not None:
        save_latents(folder / "latent_stylegan1.npy", latents)
    return folder


def save_latents(file: Path, rows: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.random.RandomState(0).randn(rows, 512))
    return file


def masks_folder(folder: Path, masks: Mapping[str, np.ndarray], classes: str = "") -> Path:
    """Pictures with grey PNG masks by stem, and classes.txt."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, (stem, mask) in enumerate(masks.items()):
        pixels = picture(*mask.shape, seed=number)
        (folder / "images" / f"{stem}.png").write_bytes(encoded(pixels))
        (folder / "masks" / f"{stem}.png").write_bytes(encoded(mask))
    if classes:
        (folder / "classes.txt").write_text(classes)
    return folder
