"""Shapes as LabelMe writes them -> masks.

A pixel belongs to a shape when its centre is inside, as in Label Studio (LabelMe's own export also
paints the pixels that an outline touches). polygon, rectangle, circle and mask have an area; a
point, line or linestrip has none and gives no region.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from dgan_backend.labelstudio.polygon import rasterize
from dgan_backend.migration.collection import Mask, Points, Region

WITHOUT_AREA = ("point", "points", "line", "linestrip")
_FARTHEST = 1e6  # pixels; nobody draws so far from a picture
_MOST = 20_000  # points of one shape
_MAX_PIXELS = 100_000_000  # of a mask


def region_of(shape: Mapping[str, Any], label: str, height: int, width: int) -> Region | None:
    """The region of one shape, None when it has no area that is known of.

    Raises ValueError that says what is wrong with it.
    """
    kind = kind_of(shape)
    if kind in WITHOUT_AREA or kind not in _KINDS:
        return None
    points = _points(shape.get("points"))
    if kind == "mask":
        return Region(label, _pasted(shape.get("mask"), points, height, width))
    if kind == "circle":
        return Region(label, _disk(points, height, width))
    ring = _ring(points, kind)
    return Region(label, rasterize(ring, height, width), ring)


_KINDS = ("polygon", "rectangle", "circle", "mask")


def kind_of(shape: Mapping[str, Any]) -> str:
    """Its type; old files have none, as there were only polygons."""
    return str(shape.get("shape_type") or "polygon")


def _points(value: object) -> Points:
    if not isinstance(value, list) or not all(_is_pair(point) for point in value):
        raise ValueError("its points are not pairs of numbers")
    if len(value) > _MOST:
        raise ValueError(f"it has {len(value)} points, over {_MOST}")
    try:
        points = np.array(value, dtype=np.float64).reshape(-1, 2)
    except OverflowError as error:
        raise ValueError("its points are too far away") from error
    if not np.isfinite(points).all():
        raise ValueError("its points are not finite")
    if np.abs(points).max(initial=0.0) > _FARTHEST:
        raise ValueError(f"it has a point over {_FARTHEST:g} pixels away from the picture")
    return points


def _is_pair(point: object) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in point)
    )


def _ring(points: Points, kind: str) -> Points:
    if kind == "rectangle" and len(points) == 2:  # two corners that face each other
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    if len(points) < 3:
        raise ValueError(f"a {kind} needs more than {len(points)} points")
    return points


def _disk(points: Points, height: int, width: int) -> Mask:
    """Of a centre and a point on the rim."""
    if len(points) != 2:
        raise ValueError(f"a circle has two points, not {len(points)}")
    (x, y), rim = points[0], points[1]
    radius = np.hypot(*(rim - points[0]))
    across = (np.arange(width) + 0.5 - x) ** 2
    down = (np.arange(height) + 0.5 - y) ** 2
    inside: Mask = down[:, None] + across[None] <= radius**2
    return inside


def _pasted(code: object, points: Points, height: int, width: int) -> Mask:
    """A PNG that lies with its upper left corner at the first point."""
    if not isinstance(code, str) or len(points) != 2:
        raise ValueError("a mask has two points and a PNG in base64")
    try:
        data = base64.b64decode(code, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                raise ValueError(f"its PNG of {opened.width} x {opened.height} is too large")
            own = np.asarray(opened.convert("L")) > 0
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError("its PNG is cut short or broken") from error
    left, top = (int(value) for value in points.min(axis=0).round())
    whole = np.zeros((height, width), dtype=bool)
    rows, columns = slice(max(top, 0), top + own.shape[0]), slice(max(left, 0), left + own.shape[1])
    if rows.stop > 0 and columns.stop > 0:
        shown = whole[rows, columns]
        cut = own[max(-top, 0) :, max(-left, 0) :]
        shown[...] = cut[: shown.shape[0], : shown.shape[1]]
    return whole
