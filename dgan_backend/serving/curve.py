"""The validation curve of a project's versions, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dgan_backend.markup import Html, tag

_WIDTH, _HEIGHT = 720.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 16.0, 14.0, 30.0
_WIDEST = 90.0  # pixels between two versions
_TICKS = 5

Version = Mapping[str, Any]


def curve(versions: Sequence[Version]) -> Html | None:
    """mIoU of each version that was compared, the interval of the comparison, and what the
    version before it reached on the same pictures; None when none was compared."""
    compared = [v for v in versions if v["validation"]]
    if not compared:
        return None
    low, high, step = scale([value for v in compared for value in _values(v["validation"])])
    across = (_WIDTH - _LEFT - _RIGHT) / max(1, len(compared))
    across = min(_WIDEST, across)

    def x(n: int) -> float:
        return round(_LEFT + across * (n + 0.5), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    ticks = [low + step * n for n in range(round((high - low) / step) + 1)]
    shown = " ".join(
        f"{x(n)},{y(v['validation']['candidate'])}"
        for n, v in enumerate(compared)
        if not v["held_back"]
    )
    every = max(1, math.ceil(len(compared) * 34 / (_WIDTH - _LEFT - _RIGHT)))
    return tag(
        "svg",
        [_rule(y(tick), tick) for tick in ticks],
        tag("polyline", points=shown, class_="line"),
        [_mark(v, x(n), y, n % every == 0) for n, v in enumerate(compared)],
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        class_="curve",
        role="img",
        aria_label="Mean IoU of each version on pictures that it had not learned from",
    )


def scale(values: Sequence[float]) -> tuple[float, float, float]:
    """(low, high, step) of an axis for values in [0, 1], at round numbers."""
    lowest, highest = max(0.0, min(values)), min(1.0, max(values))
    steps = (0.01, 0.02, 0.05, 0.1, 0.2)
    step = next((s for s in steps if s * _TICKS >= highest - lowest + s), 0.2)
    low = math.floor(lowest / step + 1e-9) * step
    high = max(math.ceil(highest / step - 1e-9) * step, low + 2 * step)
    return round(low, 4), round(high, 4), step


def _values(told: Mapping[str, float]) -> tuple[float, ...]:
    low, high = interval(told)
    return told["candidate"], told["current"], low, high


def interval(told: Mapping[str, float]) -> tuple[float, float]:
    """Of the candidate, as the difference to the current version has it."""
    return told["current"] + told["low"], told["current"] + told["high"]


def _rule(y: float, value: float) -> list[Html]:
    return [
        tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="rule"),
        tag("text", f"{value:.2f}", x=_LEFT - 8, y=y + 4, class_="tick y"),
    ]


def _mark(version: Version, x: float, y: Any, named: bool) -> Html:
    told = version["validation"]
    low, high = (y(value) for value in interval(told))
    before = y(told["current"])
    name = f"v{version['number']}"
    said = (
        f"{version['name']}: mean IoU {told['candidate']:.3f}, the version before it "
        f"{told['current']:.3f}; a difference of {told['difference']:+.3f} "
        f"({told['low']:+.3f} to {told['high']:+.3f}) on {told['pictures']} pictures"
    )
    held = version["held_back"]
    return tag(
        "g",
        tag("title", f"{said}. {'Held back. ' if held else ''}"),
        tag("rect", x=x - 16, y=_TOP, width=32, height=_HEIGHT - _TOP - _BOTTOM, class_="hit"),
        tag("line", x1=x, x2=x, y1=low, y2=high, class_="interval"),
        tag("line", x1=x - 8, x2=x + 8, y1=before, y2=before, class_="before"),
        tag("circle", cx=x, cy=y(told["candidate"]), r=4.5, class_="held" if held else "point"),
        tag("text", name, x=x, y=_HEIGHT - 10, class_="tick") if named else None,
    )
