"""Line charts as SVG: a few series over one axis, with how far each value is to be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dgan_backend.markup import Html, tag

COLORS = ("#c0392b", "#2471a3", "#7d8b99", "#b7791f", "#1e8449", "#7d3c98", "#16a085")
_WIDTH, _HEIGHT = 640.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 16.0, 12.0, 44.0
_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_TICKS = 7  # at most, about
Place = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """y: in [0, 1]. low, high: of its interval; None = there is none."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    title: str
    points: Sequence[Point]
    flat: bool = False  # one value, for all x


def chart(series: Sequence[Series], across: str, up: str, logarithmic: bool = False) -> Html | None:
    """across, up: what the axes say; values are shown in percent. None where there is nothing."""
    lines = [s for s in series if s.points]
    places = sorted({p.x for s in lines if not s.flat for p in s.points})
    if not places:
        return None
    low, high, step = _scale([v for s in lines for p in s.points for v in _values(p)])
    first, last = _moved(places[0], logarithmic), _moved(places[-1], logarithmic)

    def x(value: float) -> float:
        share = 0.5 if last == first else (_moved(value, logarithmic) - first) / (last - first)
        return round(_LEFT + 16 + share * (_WIDTH - _LEFT - _RIGHT - 32), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    ticks = [low + step * n for n in range(round((high - low) / step) + 1)]
    few = places if len(places) <= _TICKS else places[:: math.ceil(len(places) / _TICKS)]
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    drawn = tag(
        "svg",
        [_rule(y(tick), tick) for tick in ticks],
        [_named(x(value), value) for value in few],
        tag("text", across, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 6, class_="axis"),
        tag("text", up, x=12, y=middle, class_="axis", transform=f"rotate(-90 12 {middle:g})"),
        [_line(s, COLORS[n % len(COLORS)], x, y) for n, s in enumerate(lines)],
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        class_="chart",
        role="img",
        aria_label=f"{up} over {across}",
    )
    return tag("figure", drawn, _legend(lines))


def _moved(value: float, logarithmic: bool) -> float:
    return math.log(value) if logarithmic else value


def _values(point: Point) -> list[float]:
    return [v for v in (point.y, point.low, point.high) if v is not None]


def _scale(values: Sequence[float]) -> tuple[float, float, float]:
    """(low, high, step) of the axis, at round numbers."""
    lowest, highest = min(values), max(values)
    step = next((s for s in _STEPS if s * _TICKS >= highest - lowest + s), _STEPS[-1])
    low = math.floor(lowest / step + 1e-9) * step
    high = max(math.ceil(highest / step - 1e-9) * step, low + step)
    return round(low, 4), round(high, 4), step


def _rule(y: float, value: float) -> list[Html]:
    return [
        tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="rule"),
        tag("text", f"{100 * value:.4g}", x=_LEFT - 6, y=y + 4, class_="tick end"),
    ]


def _named(x: float, value: float) -> Html:
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return tag("text", text, x=x, y=_HEIGHT - _BOTTOM + 16, class_="tick middle")


def _line(series: Series, color: str, x: Place, y: Place) -> list[Html]:
    if series.flat:
        at = y(series.points[0].y)
        return [
            tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, stroke=color,
                stroke_dasharray="5 4")
        ]  # fmt: skip
    drawn = [
        tag(
            "polyline",
            points=" ".join(f"{x(p.x)},{y(p.y)}" for p in series.points),
            fill="none",
            stroke=color,
            stroke_width=2,
        )
    ]
    for point in series.points:
        at = x(point.x)
        if point.low is not None and point.high is not None:
            drawn.append(tag("line", x1=at, x2=at, y1=y(point.low), y2=y(point.high), stroke=color))
        said = f"{series.title}: {100 * point.y:.1f} at {point.x:g}"
        drawn.append(tag("circle", tag("title", said), cx=at, cy=y(point.y), r=3, fill=color))
    return drawn


def _legend(series: Sequence[Series]) -> Html:
    return tag(
        "figcaption",
        [
            tag("span", tag("i", style=f"background:{COLORS[n % len(COLORS)]}"), s.title)
            for n, s in enumerate(series)
        ],
    )
