"""What pre-labels save a person, reckoned from how right they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dgan_backend.merging import IGNORE
from dgan_backend.metrics import SECONDS_A_PART

RIGHT = 0.8  # IoU from which a part is taken as it is; below, it is drawn anew


def saved(
    true: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8], right: float = RIGHT
) -> dict[str, Any]:
    """Of T pictures [T, H, W], 255 = ignored: parts that a person would have to draw, how many of
    them are right already, and the minutes that saves for 100 pictures.

    A part that is there in neither map costs nothing, one that is wrong as much as one that is
    missing, one too many as much as one that is missing.
    """
    drawn = taken = extra = 0
    for t, p in zip(true, found, strict=True):
        said = t != IGNORE
        for k in np.union1d(np.unique(t[said]), np.unique(p[said])):
            if k == 0:
                continue
            mine, theirs = (p == k) & said, (t == k) & said
            if not theirs.any():
                extra += 1
                continue
            drawn += 1
            taken += bool((mine & theirs).sum() / (mine | theirs).sum() >= right)
    seconds = SECONDS_A_PART * (taken - extra)
    return {
        "parts": drawn,
        "right": taken,
        "extra": extra,
        "minutes_a_hundred": round(100 * seconds / 60 / max(1, len(true)), 1),
    }
