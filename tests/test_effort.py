"""Minutes saved: known answers."""

from __future__ import annotations

from typing import Any

import pytest

from dgan_backend.labelstudio.corrections import Correction
from dgan_backend.loop.effort import SECONDS_A_PART, effort


def correction(*annotations: dict[str, Any]) -> Correction:
    return Correction(1, {}, annotations)


def annotation(seconds: object, parent: int | None = 7, regions: int = 6) -> dict[str, Any]:
    return {"lead_time": seconds, "parent_prediction": parent, "result": [{}] * regions}


def test_before_anybody_corrected_a_prelabel_nothing_is_known() -> None:
    assert effort([]) is None
    assert effort([correction(annotation(90.0, parent=None))]) is None
    unmeasured = [annotation(value) for value in (None, 0, "90", True * 0.0)]
    assert effort([correction(*unmeasured)]) is None


def test_drawing_is_estimated_by_the_regions_until_it_was_measured() -> None:
    begun = [annotation(60.0, regions=6), annotation(30.0, regions=9), annotation(40.0)]
    few = [annotation(500.0, parent=None), annotation(700.0, parent=None)]
    assert effort([correction(*begun), correction(*few)]) == {
        "corrections": 3,
        "seconds": 40.0,
        "scratch_seconds": 6 * SECONDS_A_PART,
        "scratch_from": 0,
        "minutes": pytest.approx(3 * (120 - 40) / 60),
    }


def test_three_drawn_from_nothing_are_the_measure() -> None:
    bare = [annotation(seconds, parent=None) for seconds in (100.0, 300.0, 1e6)]
    found = effort([correction(annotation(60.0)), correction(*bare)])
    assert found is not None
    assert (found["scratch_seconds"], found["scratch_from"]) == (300.0, 3)
    assert found["minutes"] == 4.0


def test_a_tab_left_open_overnight_does_not_count_as_work() -> None:
    found = effort([correction(annotation(30.0), annotation(40.0), annotation(40_000.0))])
    assert found is not None and found["seconds"] == 40.0


def test_where_correcting_takes_longer_that_is_said() -> None:
    found = effort([correction(annotation(600.0, regions=3))])
    assert found is not None and found["minutes"] == -9.0
