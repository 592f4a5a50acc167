"""What a training job notes of what it came to."""

from __future__ import annotations

from typing import Any

from dgan_backend.labelstudio.corrections import Correction
from dgan_backend.labelstudio.project import open_project
from dgan_backend.loop.gathering import LeftOut
from dgan_backend.loop.outcome import outcome, read_outcome
from dgan_backend.loop.training import Trained
from tests.labeling import CONFIG


def correction(task: int, *labels: str, **fields: Any) -> Correction:
    regions = [{"type": "brushlabels", "value": {"brushlabels": [label]}} for label in labels]
    return Correction(task, {}, ({"id": task, "result": regions, **fields},))


def test_a_training_is_noted_with_removed_labels_and_effort() -> None:
    corrections = [
        correction(1, "hair", "hat", "hat"),
        correction(2, "hat", "scarf", lead_time=30.0, parent_prediction=7),
        correction(3, "hair"),
    ]
    left = LeftOut(3, "key", "Task 3: broken.")
    trained = Trained("p7-toonhead-v0002", True, "It was promoted.", (left,))
    told = read_outcome(outcome(open_project("7.1", CONFIG), corrections, trained))
    assert told.pop("time") > 0
    assert told.pop("effort")["corrections"] == 1
    assert told == {
        "version": "p7-toonhead-v0002",
        "said": "It was promoted.",
        "corrections": 3,
        "left_out": [{"task": 3, "key": "key", "reason": "Task 3: broken.", "again": False}],
        "removed_labels": {"hat": 2, "scarf": 1},
    }


def test_before_the_first_training_there_is_none() -> None:
    assert read_outcome("") == {}
