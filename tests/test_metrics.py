"""Measures have known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgan_backend import metrics


def test_confusion_has_true_rows_and_predicted_columns():
    counts = metrics.confusion(np.array([[[0, 0, 1]]]), np.array([[[0, 1, 1]]]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_iou_of_a_known_case_leaves_out_a_class_in_neither():
    counts = metrics.confusion(np.array([[[0, 0, 1]]]), np.array([[[0, 1, 1]]]), 3)
    iou = metrics.class_iou(counts)
    assert iou[:2].tolist() == [0.5, 0.5]
    assert np.isnan(iou[2])
    assert metrics.mean_iou(counts) == 0.5
    assert metrics.wrong_share(counts) == pytest.approx(1 / 3)


def test_pixels_of_which_nothing_is_known_count_nowhere():
    true = np.array([[[0, 0, 1, 255]]], dtype=np.uint8)
    counts = metrics.confusion(true, np.array([[[0, 1, 1, 1]]], dtype=np.uint8), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_where_knowledge_ends_is_no_boundary():
    true = np.zeros((1, 12, 12), dtype=np.uint8)
    true[0, :, 6:] = 1
    framed = true.copy()
    framed[0, :3] = 255
    found = metrics.boundary_counts(framed, true, 2)
    assert found.f() == 1.0
    assert found.true.tolist() == found.predicted.tolist() == [9, 9]
    other = true.copy()
    other[0, :3] = 1  # wrong where nothing is known
    assert metrics.boundary_counts(framed, other, 2).predicted.tolist() == [9, 9]


def test_a_class_that_is_only_predicted_counts_as_nothing_right():
    counts = metrics.confusion(np.array([[[0, 0]]]), np.array([[[0, 2]]]), 3)
    assert metrics.mean_iou(counts) == pytest.approx((0.5 + 0.0) / 2)


def test_large_classes_are_chosen_by_their_true_area():
    true = np.zeros((1, 100, 100), dtype=np.uint8)
    true[0, :50] = 1
    true[0, 99, 90:] = 2  # 0.1 %
    predicted = np.where(true == 2, 0, true)
    counts = metrics.confusion(true, predicted, 3)
    assert metrics.mean_iou(counts) < 0.7
    assert metrics.large_mean_iou(counts) > 0.99


labels = hnp.arrays(np.uint8, (2, 6, 5), elements=st.integers(0, 3))


@given(labels, labels)
def test_iou_is_symmetric_and_within_bounds(a, b):
    counts = metrics.confusion(a, b, 4)
    assert metrics.mean_iou(counts) == pytest.approx(metrics.mean_iou(counts.T))
    assert 0.0 <= metrics.mean_iou(counts) <= 1.0
    assert metrics.mean_iou(metrics.confusion(a, a, 4)) == 1.0


def test_boundaries_one_pixel_off_count_and_two_off_do_not():
    true = np.zeros((1, 12, 12), dtype=np.uint8)
    true[0, :, :6] = 1
    for off, expected in ((0, 1.0), (1, 1.0), (2, 0.0)):
        moved = np.zeros_like(true)
        moved[0, :, : 6 + off] = 1
        counts = metrics.boundary_counts(true, moved, 2)
        # Each side's boundary is the column beside the edge; two px off only they touch.
        assert counts.f() == pytest.approx(expected), off


def test_boundary_of_a_class_that_is_missed_is_no_hit():
    true = np.zeros((1, 9, 9), dtype=np.uint8)
    true[0, 4, 4] = 1
    counts = metrics.boundary_counts(true, np.zeros_like(true), 2)
    assert counts.true.tolist() == [4, 1]
    assert counts.true_hit.tolist() == [0, 0]
    assert counts.f() == 0.0


def test_grid_ceiling_is_one_on_the_own_grid_and_loses_small_parts_below():
    true = np.zeros((1, 16, 16), dtype=np.uint8)
    true[0, :8] = 1
    true[0, 12, 12] = 2
    assert metrics.grid_ceiling(true, 16, 3) == 1.0
    assert metrics.grid_ceiling(true, 8, 3) < 0.7


def test_auroc_known_answers():
    values = np.array([0.1, 0.4, 0.35, 0.8])
    positive = np.array([False, False, True, True])
    assert metrics.auroc(values, positive) == pytest.approx(0.75)
    assert metrics.auroc(np.ones(4), positive) == pytest.approx(0.5)
    assert np.isnan(metrics.auroc(values, np.ones(4, bool)))


def test_spearman_known_answers():
    a = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert metrics.spearman(a, a**3) == pytest.approx(1.0)
    assert metrics.spearman(a, -a) == pytest.approx(-1.0)
    # 1 - 6 sum d^2 / (n (n^2 - 1)) with d = 0 0 0 1 1 (no ties)
    assert metrics.spearman(a, np.array([1, 2, 3, 5, 4.0])) == pytest.approx(1 - 12 / 120)


def test_ranks_of_ties_are_shared():
    assert metrics.spearman(np.array([1.0, 1.0, 2.0]), np.array([3.0, 3.0, 9.0])) == pytest.approx(
        1.0
    )
