"""Label maps to Label Studio regions and back, at the picture's natural size.

Written: one region for each present class (polygons: for each outline), parents before their
parts. A brush or bitmask region of an inner node holds that class's own pixels, without those of
its parts, so regions never overlap and reading them back gives the same label map; a polygon
covers its parts, which come later. Background is never written, also when the config has a label
for it: pixels without a region are background, and a region over the whole picture would have to
be corrected along with every part.

Read: any mix of the three kinds. Where regions overlap a descendant wins over its ancestor, else
the later region.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.labelstudio import bitmask, brush, polygon
from dgan_backend.labelstudio.binding import Binding
from dgan_backend.records import MAX_PIXELS, Segmentation

SPECKS = 20_000  # polygons leave out islands below this fraction of the picture

LabelMap = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Region = dict[str, Any]


def to_regions(
    labels: LabelMap,
    uncertainty: npt.NDArray[np.float32] | None,
    binding: Binding,
    max_uncertainty: float = 1.0,
    tolerance: float = 0.75,
    min_area: int = 0,
) -> list[Region]:
    """Regions of a label map, labeled as the project's config spells them.

    labels:          [H, W] uint8, class index, H and W of the picture as the browser shows it
    uncertainty:     [H, W] float32 in [0, max_uncertainty]; a region's score is
                     1 - its mean uncertainty / max_uncertainty (no scores without the map)
    tolerance, min_area: for polygons only, see `polygon.rings`
    Classes without a label in the config are written as their nearest ancestor that has one.
    """
    labels = binding.folded()[labels]
    if binding.config.kind == "polygon":
        return _outlined(labels, uncertainty, binding, max_uncertainty, tolerance, min_area)
    regions = []
    for index in binding.partonomy.class_order():
        mask = labels == index
        if mask.any():
            regions += mask_regions(mask, index, uncertainty, binding, max_uncertainty)
    return regions


def regions_of(found: Segmentation, binding: Binding) -> list[Region]:
    """Regions of what a version found in a picture; outlines without the smallest islands."""
    return to_regions(
        found.labels,
        found.uncertainty,
        binding,
        max_uncertainty=found.bound,
        min_area=found.labels.size // SPECKS,
    )


def mask_regions(
    mask: Mask,
    index: int,
    uncertainty: npt.NDArray[np.float32] | None,
    binding: Binding,
    max_uncertainty: float = 1.0,
    tolerance: float = 0.75,
    min_area: int = 0,
) -> list[Region]:
    """Regions of one class, which has a label: a mask [H, W] bool that is not empty gives one
    brush or bitmask region, or a polygon for each outline. Arguments as `to_regions` has them.
    """
    if binding.config.kind == "polygon":
        labels = mask * np.uint8(index)
        return _outlined(labels, uncertainty, binding, max_uncertainty, tolerance, min_area)
    value = _mask_value(binding.config.kind, mask)
    region = _region(binding, index, value, mask.shape)
    return [{**region, **_score(uncertainty, mask, max_uncertainty)}]


def polygon_region(
    points: polygon.Points, index: int, shape: tuple[int, ...], binding: Binding
) -> Region:
    """One polygon of a class that has a label: [P, 2] float64, x and y in pixels of a picture
    [H, W, ...]; in a project of polygons."""
    return _region(binding, index, _percent(points, shape), shape)


def _outlined(
    labels: LabelMap,
    uncertainty: npt.NDArray[np.float32] | None,
    binding: Binding,
    max_uncertainty: float,
    tolerance: float,
    min_area: int,
) -> list[Region]:
    regions = []
    for ring in polygon.rings(labels, binding.partonomy, tolerance, min_area):
        region = _region(binding, ring.index, _percent(ring.points, labels.shape), labels.shape)
        here = None if uncertainty is None else uncertainty[ring.box]
        regions.append({**region, **_score(here, ring.own, max_uncertainty)})
    return regions


def _score(
    uncertainty: npt.NDArray[np.float32] | None, own: Mask, max_uncertainty: float
) -> Region:
    if uncertainty is None:
        return {}
    sure = 1.0 - float(uncertainty[own].mean()) / max_uncertainty
    return {"score": round(min(1.0, max(0.0, sure)), 4)}


def to_label_map(
    regions: Iterable[Mapping[str, Any]], binding: Binding, height: int, width: int, fill: int = 0
) -> LabelMap:
    """Read an annotation's regions into a label map [H, W] uint8; `fill` marks bare pixels.

    Regions of other tags (choices, boxes ...) and of other pictures are passed over. Raises
    DganError that names the region and its label when its size, label or mask cannot be used.
    """
    if height * width > MAX_PIXELS:
        raise DganError(
            f"A picture of {width} x {height} pixels is too large; use one of up to "
            f"{MAX_PIXELS / 1e6:g} million."
        )
    labels = np.zeros((height, width), dtype=np.uint8)
    painted = np.zeros((height, width), dtype=bool)
    for region in regions:
        if not isinstance(region, Mapping):
            raise DganError(f"A region must be an object, not {region!r:.80}; delete it.")
        kind = str(region.get("type", "")).removesuffix("labels")
        if kind not in _READERS or region.get("to_name") != binding.config.image:
            continue
        index = _class(region, kind, binding)
        mask = read_mask(region, kind, height, width)
        kept = painted & binding.partonomy.descends[:, index][labels]
        labels[mask & ~kept] = index
        painted |= mask
    labels[~painted] = fill
    return labels


def _region(binding: Binding, index: int, value: dict[str, Any], shape: tuple[int, ...]) -> Region:
    config = binding.config
    kind = f"{config.kind}labels"
    return {
        "id": uuid.uuid4().hex[:10],
        "type": kind,
        "from_name": config.from_name,
        "to_name": config.image,
        "original_width": shape[1],
        "original_height": shape[0],
        "image_rotation": 0,
        "value": {**value, kind: [binding.label_of[index]]},
    }


def fits(result: Sequence[Mapping[str, Any]], binding: Binding) -> bool:
    """Whether Label Studio would show these regions with labels that its config has: a label may
    have been renamed, or its control, since they were written."""
    config, spelled = binding.config, set(binding.spelled)
    return all(
        region.get("from_name") == config.from_name
        and region.get("to_name") == config.image
        and spelled.issuperset(region.get("value", {}).get(f"{config.kind}labels") or [None])
        for region in result
    )


def _mask_value(kind: str, mask: Mask) -> dict[str, Any]:
    if kind == "brush":
        return {"format": "rle", "rle": brush.encode(mask)}
    return {"imageDataURL": bitmask.encode(mask)}


def _percent(points: polygon.Points, shape: tuple[int, ...]) -> dict[str, Any]:
    """Points in percent of the picture; four decimals are far below a pixel's half."""
    scaled = points * 100.0 / np.array([shape[1], shape[0]], dtype=np.float64)
    return {"points": scaled.round(4).tolist(), "closed": True}


def _class(region: Mapping[str, Any], kind: str, binding: Binding) -> int:
    """The class of a region; of several labels (choice="multiple") the deepest."""
    value = region.get("value")
    labels = value.get(f"{kind}labels") if isinstance(value, Mapping) else None
    if not isinstance(labels, list) or not labels:
        raise DganError(f"Region {region.get('id')!r} has no label; give it one or delete it.")
    unknown = [x for x in labels if not isinstance(x, str) or x not in binding.class_of]
    if unknown:
        raise DganError(
            f"Region {region.get('id')!r} has the label {unknown[0]!r}, which is not in the "
            f"labeling config ({', '.join(binding.class_of)}); relabel the region, or add the "
            "label again."
        )
    partonomy = binding.partonomy
    indices = [binding.class_of[label] for label in labels]
    return max(indices, key=lambda index: partonomy.depth(partonomy.classes[index]))


def read_mask(region: Mapping[str, Any], kind: str, height: int, width: int) -> Mask:
    """The mask [H, W] bool of a region of one of MASK_KINDS, whose value is an object; raises
    DganError that names the region and its label when its size or its mask cannot be used.
    """
    size = (region.get("original_width"), region.get("original_height"))
    try:
        if size != (width, height):
            raise ValueError(
                f"it was drawn on {size[0]} x {size[1]} pixels, not {width} x {height}"
            )
        if region.get("image_rotation"):
            raise ValueError("it was drawn on the picture turned; turn the picture back first")
        return _READERS[kind](region["value"], height, width)
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken masks raise whatever they stumble over
        raise DganError(
            f"Region {region.get('id')!r} ({_named(region, kind)}) cannot be read: {_say(error)}. "
            "Open its task in Label Studio, delete the region and draw it again."
        ) from error


def _named(region: Mapping[str, Any], kind: str) -> str:
    """The labels of a region, whatever stands there."""
    value = region.get("value")
    labels = value.get(f"{kind}labels") if isinstance(value, Mapping) else None
    return ", ".join(map(str, labels)) if isinstance(labels, list) and labels else "no label"


def _say(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return str(error) if isinstance(error, ValueError) else "its mask is broken"


def _read_brush(value: Mapping[str, Any], height: int, width: int) -> Mask:
    return brush.decode(value["rle"], height, width)


def _read_bitmask(value: Mapping[str, Any], height: int, width: int) -> Mask:
    return bitmask.decode(value["imageDataURL"], height, width)


def _read_polygon(value: Mapping[str, Any], height: int, width: int) -> Mask:
    try:
        points = np.array(value["points"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("its points are not pairs of numbers") from error
    except OverflowError as error:
        raise ValueError("its points are not finite") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError("it needs three points or more")
    if not np.isfinite(points).all():
        raise ValueError("its points are not finite")
    return polygon.rasterize(points * [width / 100.0, height / 100.0], height, width)


_READERS = {"brush": _read_brush, "bitmask": _read_bitmask, "polygon": _read_polygon}
MASK_KINDS = tuple(_READERS)
