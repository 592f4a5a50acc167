"""Minutes saved: what correcting a pre-label takes, against drawing the same from nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from dgan_backend.labelstudio.corrections import Correction
from dgan_backend.metrics import SECONDS_A_PART

FEWEST = 3  # annotations drawn from nothing; fewer say little of what that takes

Annotation = Mapping[str, Any]


def effort(corrections: Iterable[Correction]) -> dict[str, Any] | None:
    """Of annotations with a `lead_time`, which Label Studio's editor measures; None before there
    is one that began with a prediction.

    corrections: how many did. seconds, scratch_seconds: the median of one, corrected and drawn
    from nothing; medians, since a tab that was left open overnight counts as work. scratch_from:
    how many annotations the latter was measured on; 0 = taken to be SECONDS_A_PART a region.
    minutes: all that was saved; negative where correcting takes longer.
    """
    every = [a for c in corrections for a in c.annotations if _seconds(a) > 0]
    begun = [a for a in every if a.get("parent_prediction") is not None]
    bare = [_seconds(a) for a in every if a.get("parent_prediction") is None]
    if not begun:
        return None
    measured = len(bare) >= FEWEST
    scratch = median(bare if measured else [SECONDS_A_PART * len(a["result"]) for a in begun])
    seconds = median(_seconds(a) for a in begun)
    return {
        "corrections": len(begun),
        "seconds": round(seconds, 1),
        "scratch_seconds": round(scratch, 1),
        "scratch_from": len(bare) if measured else 0,
        "minutes": round(len(begun) * (scratch - seconds) / 60, 1),
    }


def _seconds(annotation: Annotation) -> float:
    value = annotation.get("lead_time")
    return float(value) if isinstance(value, (int, float)) else 0.0
