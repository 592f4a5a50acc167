"""What a person drew with a smart tool to ask for a part.

Label Studio sends it as the context of an interactive /predict: `{"result": [regions]}`, all that
was drawn with one tool since the last answer was taken. A region's label, where it has one, stands
in it or in another result of the same id (`<KeyPoint>` beside `<Labels>`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.errors import DganError
from dgan_backend.labelstudio import polygon
from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.regions import MASK_KINDS, read_mask
from dgan_backend.records import MAX_PIXELS

Mask = npt.NDArray[np.bool_]
Drawn = Mapping[str, Any]
MOST_REGIONS = 32  # that point at something; people draw one or a few
MOST_PIXELS = 4 * MAX_PIXELS  # of all their masks together, a byte each


@dataclass(frozen=True)
class Prompt:
    """One drawn region.

    mask:     [H, W] bool, the pixels pointed at, H and W of the picture; one for a click
    chosen:   the class that the person chose for it, None when they leave it to the backend
    positive: False says: not this
    """

    mask: Mask
    chosen: int | None = None
    positive: bool = True


def drawn_on(context: object, binding: Binding) -> tuple[int, int]:
    """Height and width of the picture that a context was drawn on, before any mask is read; raises
    DganError as `read_prompts`, but for what is wrong with a mask.
    """
    pointing = _pointing(_drawn(context), binding)
    if len(pointing) > MOST_REGIONS:
        raise DganError(
            f"The context has {len(pointing)} drawn regions, of which {MOST_REGIONS} are read at "
            "most; point with fewer at once."
        )
    sizes = {_size(region) for region in pointing}
    if len(sizes) > 1:
        raise DganError("The regions in the context were drawn on pictures of different sizes.")
    ((width, height),) = sizes
    if len(pointing) > max(1, MOST_PIXELS // (width * height)):
        raise DganError(
            f"The context has {len(pointing)} drawn regions, of which "
            f"{MOST_PIXELS // (width * height)} are read at most on {width} x {height} pixels; "
            "point with fewer at once."
        )
    return height, width


def read_prompts(context: object, binding: Binding) -> list[Prompt]:
    """The prompts of a context, from 1 to MOST_REGIONS, all of one size; raises DganError that says
    what is wrong with it.

    Labels of controls that are none of the project's parts (`<Label value="click">`) choose
    nothing.
    """
    height, width = drawn_on(context, binding)
    drawn = _drawn(context)
    return [
        _prompt(region, _labels(region, drawn), binding, height, width)
        for region in _pointing(drawn, binding)
    ]


def _pointing(drawn: Sequence[Drawn], binding: Binding) -> list[Drawn]:
    """The drawn regions that say where on the project's picture, one or more."""
    found = [
        region
        for region in drawn
        if _kind(region) in _READERS and region.get("to_name") == binding.config.image
    ]
    if not found:
        missing = "" if binding.config.smart else ' after adding smart="true" to its control'
        raise DganError(
            f"Nothing in the context points at a place of {binding.config.image!r}; use one of "
            f"the smart tools {', '.join(_READERS)}{missing}."
        )
    return found


def _drawn(context: object) -> list[Drawn]:
    result = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(result, list) or not result:
        raise DganError('The context must be an object like {"result": [drawn regions]}.')
    for region in result:
        if not isinstance(region, Mapping) or not isinstance(region.get("value"), Mapping):
            raise DganError(f"A drawn region must be an object with a value, not {region!r:.80}.")
    return result


def _kind(region: Drawn) -> str:
    return str(region.get("type", "")).removesuffix("labels")


def _labels(region: Drawn, drawn: Sequence[Drawn]) -> list[str]:
    """The labels of all results that belong to a region."""

    def named(one: Drawn) -> Iterator[object]:
        for key in dict.fromkeys((str(one.get("type")), "labels")):
            values = one["value"].get(key)
            yield from values if isinstance(values, list) else ()

    number = region.get("id")
    same = [one for one in drawn if one is region or (number and one.get("id") == number)]
    return [label for one in same for label in named(one) if isinstance(label, str)]


def _prompt(region: Drawn, labels: list[str], binding: Binding, height: int, width: int) -> Prompt:
    mask = _READERS[_kind(region)](region, height, width)
    if not mask.any():
        raise _bad(region, "it holds no pixel of the picture")
    return Prompt(mask, _chosen(labels, binding), region.get("is_positive") is not False)


def _chosen(labels: list[str], binding: Binding) -> int | None:
    """The class of the labels, the deepest of several; None without any."""
    names = {name for label in binding.config.labels for name in (label.value, label.alias)}
    unknown = [label for label in labels if label in names and label not in binding.class_of]
    if unknown:
        raise DganError(
            f"The version that serves this project does not know the label {unknown[0]!r} yet; "
            "label pictures with it and train the project again."
        )
    indices = [binding.class_of[label] for label in labels if label in binding.class_of]
    depth = binding.partonomy.depth
    return max(indices, key=lambda i: depth(binding.partonomy.classes[i]), default=None)


def _size(region: Drawn) -> tuple[int, int]:
    """Width and height of the picture that a region was drawn on, in pixels."""
    size = region.get("original_width"), region.get("original_height")
    for side in size:
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise _bad(region, f"its original_width and original_height are {size[0]}, {size[1]}")
    width, height = size
    assert isinstance(width, int) and isinstance(height, int)
    if width * height > MAX_PIXELS:
        raise _bad(region, f"{width} x {height} pixels are too many")
    if region.get("image_rotation"):
        raise _bad(region, "it was drawn on the picture turned; turn the picture back first")
    return width, height


def _keypoint(region: Drawn, height: int, width: int) -> Mask:
    x, y = _percents(region, "x", "y")
    if not (0 <= x <= 100 and 0 <= y <= 100):
        raise _bad(region, f"x {x:g} % and y {y:g} % are outside of the picture")
    mask = np.zeros((height, width), dtype=bool)
    mask[min(int(y * height / 100), height - 1), min(int(x * width / 100), width - 1)] = True
    return mask


def _rectangle(region: Drawn, height: int, width: int) -> Mask:
    """Turned clockwise about its upper left corner, as Label Studio does."""
    x, y, w, h = _percents(region, "x", "y", "width", "height")
    sides = np.array([[0, 0], [w, 0], [w, h], [0, h]]) * [width / 100, height / 100]
    turn = np.radians(_percents(region, "rotation")[0] if "rotation" in region["value"] else 0)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corner = np.array([x * width / 100, y * height / 100])
    return polygon.rasterize(sides @ matrix + corner, height, width)


def _percents(region: Drawn, *keys: str) -> list[float]:
    values = [region["value"].get(key) for key in keys]
    for key, value in zip(keys, values, strict=True):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not abs(value) < 1e4:  # false for NaN, too
            raise _bad(region, f"its {key} is {value!r:.40}")
    return [float(value) for value in values]


def _bad(region: Drawn, what: str) -> DganError:
    return DganError(
        f"The drawn region {region.get('id')!r} ({region.get('type')}) cannot be read: {what}."
    )


def _mask(region: Drawn, height: int, width: int) -> Mask:
    return read_mask(region, _kind(region), height, width)


_READERS = {"keypoint": _keypoint, "rectangle": _rectangle} | dict.fromkeys(MASK_KINDS, _mask)
