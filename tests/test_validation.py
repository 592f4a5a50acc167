"""Is a candidate better than the current version?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgan_backend.loop.validation import FEWEST, FOLDS, compare, fold_of, picture_miou
from dgan_backend.merging import IGNORE

ious = st.floats(0, 1, allow_nan=False)
pairs = st.lists(st.tuples(ious, ious), min_size=FEWEST, max_size=30)


def test_the_same_answers_are_no_difference() -> None:
    found = compare([0.5, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8])
    assert found is not None
    assert (found.pictures, found.difference, found.low, found.high) == (4, 0.0, 0.0, 0.0)
    assert found.candidate == found.current == pytest.approx(0.65)
    assert not found.worse


def test_a_constant_difference_has_no_spread() -> None:
    found = compare([0.5, 0.25, 0.75, 0.0], [0.75, 0.5, 1.0, 0.25])
    assert found is not None
    assert (found.difference, found.low, found.high) == (-0.25, -0.25, -0.25)
    assert found.worse


def test_the_interval_is_the_bootstraps() -> None:
    """Half of n differences 0, half 1: means are binomial, and 2.5 % lie beyond 1.96 sigma."""
    found = compare([0.0] * 50 + [1.0] * 50, [0.0] * 100)
    assert found is not None
    assert found.difference == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.012)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.012)


def test_differences_are_paired() -> None:
    """Pictures differ far more than the two versions do; the pairs tell them apart all the same."""
    current = np.linspace(0.1, 0.9, 10)
    found = compare(list(current - 0.01), list(current))
    assert found is not None and found.worse
    assert found.low == pytest.approx(-0.01) == found.high


def test_one_bad_picture_among_good_ones_is_no_proof() -> None:
    found = compare([0.8, 0.8, 0.8, 0.2], [0.8, 0.8, 0.8, 0.9])
    assert found is not None
    assert found.difference < 0 and not found.worse


def test_too_few_pictures_tell_nothing() -> None:
    assert compare([], []) is None
    assert compare([0.0] * (FEWEST - 1), [1.0] * (FEWEST - 1)) is None
    assert compare([0.0] * FEWEST, [1.0] * FEWEST) is not None


def test_pictures_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="5 pictures of the candidate, 4 of the other"):
        compare([0.5] * 5, [0.5] * 4)


def test_a_comparison_is_said_in_words_and_kept_as_numbers() -> None:
    found = compare([0.5] * 4, [0.25] * 4)
    assert found is not None
    assert found.said() == (
        "on 4 pictures that neither had learned from, mean IoU 0.500 against 0.250: a difference "
        "of +0.250 (+0.250 to +0.250)"
    )
    assert found.to_json() == {
        "pictures": 4,
        "candidate": 0.5,
        "current": 0.25,
        "difference": 0.25,
        "low": 0.25,
        "high": 0.25,
    }


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_the_interval_holds_together_and_turns_around(values: list[tuple[float, float]]) -> None:
    candidate, current = [a for a, _ in values], [b for _, b in values]
    found, turned = compare(candidate, current), compare(current, candidate)
    assert found is not None and turned is not None
    assert found == compare(candidate, current), "drawn alike every time"
    assert found.low <= found.high
    differences = np.array(candidate) - np.array(current)
    for value in (found.low, found.high, found.difference):
        assert differences.min() - 1e-12 <= value <= differences.max() + 1e-12
    assert found.difference == pytest.approx(found.candidate - found.current, abs=1e-12)
    assert turned.difference == -found.difference
    assert turned.low == pytest.approx(-found.high, abs=1e-12)
    assert not (found.worse and turned.worse)


# One picture


def test_miou_of_a_picture_is_over_the_classes_in_either_mask() -> None:
    true = np.array([[0, 0, 1, 1]], dtype=np.uint8)
    assert picture_miou(true, true, 5) == 1.0
    found = np.array([[0, 2, 1, 1]], dtype=np.uint8)
    assert picture_miou(true, found, 5) == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert picture_miou(true, 1 - true, 5) == 0.0


def test_ignored_pixels_do_not_count_whatever_is_found_there() -> None:
    true = np.array([[0, 1, IGNORE, IGNORE]], dtype=np.uint8)
    for found in ([0, 1, 0, 0], [0, 1, 3, 4]):
        assert picture_miou(true, np.array([found], dtype=np.uint8), 5) == 1.0
    assert picture_miou(np.full((2, 2), IGNORE, np.uint8), np.zeros((2, 2), np.uint8), 5) is None


# Folds


def test_a_tasks_fold_never_changes() -> None:
    """Kept versions rely on it: in another fold, twins would be judged on what they learned."""
    assert [fold_of(task) for task in range(1, 13)] == [1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0]
    large = range(10**9, 10**9 + 12)
    assert [fold_of(task) for task in large] == [1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1]


@settings(max_examples=200)
@given(st.integers(1, 2**63))
def test_every_task_has_a_fold(task: int) -> None:
    assert fold_of(task) in range(FOLDS)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**9), st.sampled_from([1, 2, 3, 5, 10, 16, 100]))
def test_folds_are_about_as_large_as_each_other(first: int, step: int) -> None:
    """Also where every second task was labeled, or every tenth."""
    folds = [fold_of(first + step * n) for n in range(200)]
    assert all(70 <= folds.count(fold) <= 130 for fold in range(FOLDS))
