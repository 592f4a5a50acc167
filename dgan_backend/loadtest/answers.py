"""Answers, how long they took, and how often what took how long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Span = tuple[float, float]


@dataclass(frozen=True)
class Answer:
    """at: when it was asked for, seconds since 1970. good: a status of 200 to 299."""

    at: float
    route: str
    seconds: float
    good: bool


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank; Hyndman
    and Fan 1996, definition 1). values: not empty."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def figures(answers: Iterable[Answer]) -> dict[str, Any]:
    """How many, how many of them failed, and p50, p95, p99 and the longest in ms; None of none."""
    found = list(answers)
    seconds = [answer.seconds for answer in found]
    told: dict[str, Any] = {"count": len(found), "failed": sum(not a.good for a in found)}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        told[f"{name}_ms"] = round(1e3 * quantile(seconds, share), 1) if seconds else None
    return told


def within(answers: Iterable[Answer], spans: Sequence[Span]) -> list[Answer]:
    """Those that were asked for within one of the spans of time."""
    return [a for a in answers if any(began <= a.at <= ended for began, ended in spans)]
