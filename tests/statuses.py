"""A project with a history: cards of versions on disk, and what jobs left on a board."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from dgan_backend.loop.board import Board, Progress
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.outcome import NOTE
from dgan_backend.loop.overview import Jobs
from dgan_backend.loop.status import Status
from dgan_backend.partonomy import load_partonomy
from dgan_backend.predictor import Predictor
from dgan_backend.registry import Registry
from dgan_backend.settings import Settings
from dgan_backend.versions import CARD, SOURCES
from tests.labeling import CONFIG

UID = "17.1795491060"
CLASSES = list(load_partonomy("toonhead").classes)
EFFORT = {
    "corrections": 12,
    "seconds": 41.0,
    "scratch_seconds": 260.0,
    "scratch_from": 0,
    "minutes": 43.8,
}


def status(folder: Path, board: Board | None, jobs: Jobs | None = None) -> Status:
    """A status of the versions in `folder`; without `jobs`, as if a worker had nothing to do."""
    registry = Registry(folder)
    predictor = Predictor(Settings(), registry)
    jobs = jobs or Jobs(lambda job: ("queued", 0.0), lambda: 1)
    return Status(registry, predictor, list, board, jobs)


def connect(board: Board, uid: str = UID, **fields: Any) -> None:
    told = {"hostname": "http://ls:8080", "access_token": "secret-token", **fields}
    board.remember(Connection(uid, told.pop("schema", CONFIG), **told))


def add_version(folder: Path, number: int, uid: str = UID, **training: Any) -> str:
    """A version's card, with what a training writes into it; returns its name."""
    name = f"p{uid.partition('.')[0]}-toonhead-v{number:04d}"
    told = {"project": uid, "time": time.time(), "seconds": 40.0, "pictures": 16 + number}
    told |= {"corrections": [f"key{n}" for n in range(number)], "classes": CLASSES, **training}
    (folder / name).mkdir(parents=True)
    (folder / name / CARD).write_text(json.dumps({"training": told}))
    return name


def add_sources(folder: Path, version: str, *sources: dict[str, Any]) -> None:
    (folder / version / SOURCES).write_text(json.dumps(sources))


def compared(current: float, difference: float, wide: float = 0.02) -> dict[str, Any]:
    return {
        "pictures": 24,
        "candidate": current + difference,
        "current": current,
        "difference": difference,
        "low": difference - wide,
        "high": difference + wide,
    }


def busy_project(folder: Path, board: Board) -> None:
    """Everything that the page can show, of one project."""
    connect(board)
    board.note(UID, "title", "Toon heads <b>& co</b>")
    for number in range(1, 9):
        share = 0.5 * 0.75**number
        add_version(
            folder,
            number,
            time=time.time() - 3600 * (9 - number),
            new=[number],
            validation=compared(0.7 + 0.018 * number, 0.02) if number > 2 else None,
            corrected={
                "pictures": 1,
                "pixels": share / 3,
                "classes": {c: share * (1 + n % 4) / 2 for n, c in enumerate(CLASSES)},
            },
        )
    held = add_version(
        folder,
        9,
        time=time.time() - 300,
        validation=compared(0.86, -0.05),
        held_back="It is worse: on 24 pictures that neither had learned from, mean IoU 0.810 "
        "against 0.860: a difference of -0.050 (-0.070 to -0.030).",
        left_out=[
            {"task": 31, "key": "x", "reason": "Task 31 has no labeled pixel.", "again": False},
            {"task": 32, "key": "y", "reason": "Task 32: out of reach.", "again": True},
        ],
    )
    reason = "The generator cannot re-create it (error 0.412, limit 0.300): only the student "
    add_sources(
        folder,
        held,
        {"task": None},
        {"task": 33, "key": "z", "factor": 0.0, "reason": reason + "learns from it."},
        {"task": 34, "key": "w", "factor": 1.0, "reason": ""},
    )
    told = {"time": time.time() - 300, "version": held, "said": "It is worse.", "corrections": 9}
    told |= {"left_out": [], "removed_labels": {"hat": 3}, "effort": EFFORT}
    board.note(UID, NOTE, json.dumps(told))
    board.mark(UID, "train")
    board.mark(UID, "label")
    board.tell(UID, "label", Progress("pre-labeling", 40, 300, time.time() - 30))
    board.explain(UID, {n: f"Task {n}: its picture cannot be fetched." for n in range(40, 60)})
    board.complain(UID, "Label Studio at http://ls:8080 cannot be reached.")
    board.complain(UID, "Task 31 has no labeled pixel.", 31)
    board.complain(UID, "Task 31 has no labeled pixel.", 31)
