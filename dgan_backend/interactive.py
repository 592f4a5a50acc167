"""The part that a person points at, from a segmentation that is there already.

The rule. A drawn region without a label of the project means the class under it: under a click
that pixel's, under a stroke or a box the one with the most pixels, background not counted. With a
label it means that class; for an inner node that is everything below it, too. It gets the
connected pieces (8 neighbours) of the class that it touches. Where it touches none and a label was
chosen, it gets the nearest piece within RADIUS; else nothing. A region that says `not this` takes
the pieces that it touches out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.prompts import Prompt
from dgan_backend.labelstudio.regions import mask_regions
from dgan_backend.partonomy import Partonomy
from dgan_backend.records import Segmentation

RADIUS = 0.05  # of the picture's longer side
LabelMap = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def regions_at(
    segmentation: Segmentation, prompts: Sequence[Prompt], binding: Binding, min_area: int = 0
) -> list[dict[str, Any]]:
    """Regions of the parts that the prompts point at, as `to_regions` writes and scores them; one
    for each class (polygons: for each outline).

    The masks of the prompts have the shape of the segmentation's labels, and `binding` is that of
    the version that made it. Classes without a label count as their nearest ancestor with one.
    """
    labels = binding.folded()[segmentation.labels]
    whole = binding.config.kind == "polygon"  # a polygon covers its parts, as `to_regions` has it
    parts = parts_at(labels, prompts, binding.partonomy, whole)
    return [
        region
        for index in binding.partonomy.class_order()
        if index in parts
        for region in mask_regions(
            parts[index],
            index,
            segmentation.uncertainty,
            binding,
            max_uncertainty=segmentation.bound,
            min_area=min_area,
        )
    ]


def parts_at(
    labels: LabelMap, prompts: Iterable[Prompt], partonomy: Partonomy, whole: bool = False
) -> dict[int, Mask]:
    """Class index -> [H, W] bool, not empty: what the prompts point at in labels [H, W] uint8.

    whole: a class has everything below it also where nobody chose its label
    """
    prompts = list(prompts)
    refused = [prompt for prompt in prompts if not prompt.positive]
    found: dict[int, Mask] = {}
    for prompt in prompts:
        index = prompt.chosen if prompt.chosen is not None else _class_under(labels, prompt.mask)
        if not index or not prompt.positive:
            continue
        members = labels == index
        if whole or prompt.chosen is not None:
            members |= partonomy.descends[:, index][labels]
        part = _pieces_at(members, prompt, refused)
        if part.any():
            found[index] = part | found.get(index, False)
    return found


def _class_under(labels: LabelMap, mask: Mask) -> int:
    """The class with the most pixels in the mask, background only where there is no other."""
    counts = np.bincount(labels[mask], minlength=2)
    counts[0] = 0
    return int(counts.argmax())  # 0 when all are 0


def _pieces_at(members: Mask, prompt: Prompt, refused: Sequence[Prompt]) -> Mask:
    """The connected pieces of `members` [H, W] that a prompt means; empty when there are none."""
    count, found = cv2.connectedComponents(members.astype(np.uint8), connectivity=8)
    numbers = np.asarray(found, dtype=np.int32)
    keep = np.zeros(count, dtype=bool)
    keep[numbers[prompt.mask]] = True
    if not keep[1:].any() and prompt.chosen is not None:
        keep[_nearest(numbers, prompt.mask)] = True
    for other in refused:
        keep[numbers[other.mask]] = False
    keep[0] = False
    kept: Mask = keep[numbers]
    return kept


def _nearest(numbers: npt.NDArray[np.int32], mask: Mask) -> int:
    """The number of the piece nearest to the mask, 0 when none is within RADIUS."""
    radius = RADIUS * max(mask.shape)
    near = tuple(
        slice(max(0, int(hit[0] - radius)), int(hit[-1] + radius) + 2)
        for hit in (np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0)))
    )
    distances = cv2.distanceTransform(
        (~mask[near]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    distances[numbers[near] == 0] = np.inf
    nearest = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(numbers[near][nearest]) if distances[nearest] <= radius else 0
