"""Durations, jobs and weights in words, for pages and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of kinds of work.
NAMES = {"train": "Training", "label": "Pre-labeling", "check": "Check", "make": "Sampling"}


def in_words(seconds: float) -> str:
    """`40 s`, `3 min`, `2 h`, `5 days`"""
    for name, size, upto in (("s", 1, 100), ("min", 60, 100 * 60), ("h", 3600, 48 * 3600)):
        if seconds < upto:
            return f"{max(0, seconds) / size:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def said_of(job: Mapping[str, Any]) -> str:
    """`running: pre-labeling, 40 of 300, about 2 min left`"""
    if job["state"] == "failed":
        seconds = job.get("retry_seconds")
        return f"failed, tried again in {in_words(seconds) if seconds else 'a moment'}"
    said = str(job["state"])
    if "what" in job:
        said += f": {job['what']}, {job['done']} of {job['total']}"
        if job.get("seconds_left") is not None:
            said += f", about {in_words(job['seconds_left'])} left"
    return said


def name_of(work: str) -> str:
    return NAMES.get(work, work.capitalize())


def counted(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`"""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
