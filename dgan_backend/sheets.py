"""Pictures for people: samples with their parts and uncertainty side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import Partonomy
from dgan_backend.pictures import Picture, contact_sheet
from dgan_backend.records import Segmentation

_CELL = 128  # pixels that each map is shown at
_WIDTH = 15  # maps in a row
_PICTURES = 8  # in a row of those without maps


def colored(labels: np.ndarray, partonomy: Partonomy) -> Picture:
    """[H, W] class indices -> [H, W, 3] uint8 in the partonomy's colours; 255 becomes white."""
    known = labels != IGNORE
    return np.where(known[:, :, None], partonomy.palette[labels * known], 255).astype(np.uint8)


def overlaid(segmentation: Segmentation, partonomy: Partonomy, opacity: float = 0.6) -> Picture:
    """The picture with its parts over it; background left clear."""
    colors = colored(segmentation.labels, partonomy).astype(np.float32)
    mixed = segmentation.image * (1 - opacity) + colors * opacity
    inside = (segmentation.labels > 0)[:, :, None]
    return np.where(inside, mixed, segmentation.image).astype(np.uint8)


def heat(uncertainty: np.ndarray, bound: float) -> Picture:
    """[H, W] nats -> [H, W, 3] uint8: black at 0 over red and yellow to white at `bound`."""
    level = np.clip(uncertainty / bound, 0, 1) * 3
    return (np.clip(np.stack([level, level - 1, level - 2], axis=2), 0, 1) * 255).astype(np.uint8)


def segmentation_sheet(
    segmentations: Sequence[Segmentation],
    partonomy: Partonomy,
    true: Sequence[np.ndarray] | None = None,
    whose: str = "true parts",
) -> Picture:
    """Picture, label map and uncertainty of each side by side, with a legend below.

    true: masks [H, W] of the same pictures, 255 = ignored, shown before the label maps. whose:
    what they are.
    """
    groups = []
    for n, s in enumerate(segmentations):
        masks = [s.labels] if true is None else [true[n], s.labels]
        maps = [colored(mask, partonomy) for mask in masks]
        groups.append([_fitted(m) for m in (s.image, *maps, heat(s.uncertainty, s.bound))])
    beside = _WIDTH // len(groups[0])
    rows = [list(chain(*groups[i : i + beside])) for i in range(0, len(groups), beside)]
    sheet = contact_sheet(rows)
    shown = "picture, parts" if true is None else f"picture, {whose}, parts found"
    scale = f"uncertainty (black 0 to white {segmentations[0].bound:.2f} nats)"
    legend = _legend(partonomy, f"left to right: {shown}, {scale}", sheet.shape[1])
    return np.concatenate([sheet, legend])


def labeled_sheet(pairs: Sequence[tuple[Picture, np.ndarray]], partonomy: Partonomy) -> Picture:
    """Pictures, each beside its label map [H, W] of class indices, with a legend below."""
    cells = [_fitted(m) for image, labels in pairs for m in (image, colored(labels, partonomy))]
    sheet = contact_sheet([cells[i : i + _PICTURES] for i in range(0, len(cells), _PICTURES)])
    return np.concatenate(
        [sheet, _legend(partonomy, "left to right: picture, parts", sheet.shape[1])]
    )


def picture_sheet(pictures: Sequence[Picture]) -> Picture:
    """Pictures side by side, of whose parts nothing is known."""
    cells = [_fitted(picture) for picture in pictures]
    return contact_sheet([cells[i : i + _PICTURES] for i in range(0, len(cells), _PICTURES)])


def _fitted(picture: Picture) -> Picture:
    """Into a square cell: whole pixels when enlarged, averaged when reduced."""
    image = Image.fromarray(picture)
    larger = max(picture.shape[:2]) > _CELL
    image.thumbnail((_CELL, _CELL), Image.Resampling.BOX)
    if not larger:
        factor = _CELL // max(picture.shape[:2])
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    cell = Image.new("RGB", (_CELL, _CELL), "white")
    cell.paste(image, ((_CELL - image.width) // 2, (_CELL - image.height) // 2))
    return np.asarray(cell)


def _legend(partonomy: Partonomy, note: str, width: int) -> Picture:
    entry, line = 120, 22
    texts = [(name, tuple(c)) for name, c in zip(partonomy.classes, partonomy.palette, strict=True)]
    columns = max(1, width // entry)
    rows = math.ceil(len(texts) / columns)
    image = Image.new("RGB", (width, line * (rows + 1) + 6), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for i, (name, color) in enumerate(texts):
        x, y = (i % columns) * entry + 4, (i // columns) * line + 4
        draw.rectangle((x, y, x + 14, y + 14), fill=tuple(int(v) for v in color), outline="gray")
        draw.text((x + 20, y), name, fill="black", font=font)
    draw.text((4, rows * line + 4), note, fill="black", font=font)
    return np.asarray(image)
