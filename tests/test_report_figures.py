"""Figures of the report have known answers, and agree with other people's."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgan_backend import metrics
from dgan_backend.evaluation import protocol
from dgan_backend.evaluation.calibration import Guesses, calibrated
from dgan_backend.evaluation.layout import verdict_of
from dgan_backend.evaluation.losses import causes
from dgan_backend.evaluation.minutes import saved
from dgan_backend.evaluation.plan import FULL, Plan, Run
from dgan_backend.evaluation.summary import Spread, Summary

labels = hnp.arrays(np.uint8, (3, 6, 5), elements=st.integers(0, 3))


def test_an_absent_class_counts_as_nothing_only_the_originals_way() -> None:
    counts = metrics.confusion(np.array([[[0, 0, 1, 1]]]), np.array([[[0, 1, 1, 1]]]), 4)
    assert metrics.mean_iou(counts) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics.lenient_mean_iou(counts) == pytest.approx((1 / 2 + 2 / 3) / 4)
    assert metrics.foreground_mean_iou(counts) == pytest.approx(2 / 3)
    nothing = metrics.confusion(np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), int), 3)
    assert np.isnan(metrics.foreground_mean_iou(nothing))


@given(labels, labels)
@settings(max_examples=30, deadline=None)
def test_iou_agrees_with_scikit_learn_and_torchmetrics(a: np.ndarray, b: np.ndarray) -> None:
    from sklearn.metrics import jaccard_score
    from torchmetrics.functional.classification import multiclass_jaccard_index

    counts = metrics.confusion(a, b, 4)
    ours = np.nan_to_num(metrics.class_iou(counts), nan=0.0)
    theirs = jaccard_score(a.ravel(), b.ravel(), labels=range(4), average=None, zero_division=0)
    assert np.abs(ours - theirs).max() < 1e-6
    given = (torch.from_numpy(b.astype(np.int64)), torch.from_numpy(a.astype(np.int64)))
    others = multiclass_jaccard_index(*given, num_classes=4, average="none").double().numpy()
    assert np.abs(ours - others).max() < 1e-6
    macro = multiclass_jaccard_index(*given, num_classes=4, average="macro")
    assert abs(metrics.mean_iou(counts) - float(macro)) < 1e-6  # it leaves absent classes out, too


@given(hnp.arrays(np.float32, 40, elements=st.integers(0, 9)), hnp.arrays(np.bool_, 40))
@settings(max_examples=30, deadline=None)
def test_auroc_agrees_with_scikit_learn_and_torchmetrics(
    values: np.ndarray, positive: np.ndarray
) -> None:
    from sklearn.metrics import roc_auc_score
    from torchmetrics.functional.classification import binary_auroc

    if positive.all() or not positive.any():
        assert np.isnan(metrics.auroc(values, positive))
        return
    ours = metrics.auroc(values, positive)
    assert abs(ours - roc_auc_score(positive, values)) < 1e-6
    shown = torch.from_numpy(values / 10)  # it takes numbers beyond 1 for logits
    assert abs(ours - float(binary_auroc(shown, torch.from_numpy(positive).int()))) < 1e-6


def test_boundary_f_of_each_class() -> None:
    true = np.zeros((1, 12, 12), np.uint8)
    true[0, :, 6:] = 1
    counts = metrics.boundary_counts(true, true, 3)
    assert counts.class_f()[:2].tolist() == [1.0, 1.0] and np.isnan(counts.class_f()[2])
    wrong = np.zeros_like(true)
    wrong[0, :, 9:] = 2
    found = metrics.boundary_counts(true, wrong, 3)
    assert found.class_f().tolist() == [0.0, 0.0, 0.0] and found.f() == 0.0


def test_risk_falls_with_coverage_where_uncertainty_knows() -> None:
    wrong = np.array([False] * 6 + [True] * 4)
    knows = metrics.risk_coverage(np.arange(10.0), wrong, points=5)
    assert knows == [(0.2, 0.0), (0.4, 0.0), (0.6, 0.0), (0.8, 0.25), (1.0, 0.4)]
    assert metrics.risk_coverage(-np.arange(10.0), wrong, points=5)[0] == (0.2, 1.0)


def test_the_bootstrap_holds_the_value_and_narrows_with_pictures() -> None:
    random = np.random.RandomState(0)

    def counts(pictures: int) -> np.ndarray:
        true = random.randint(0, 2, (pictures, 8, 8))
        found = np.where(random.rand(pictures, 8, 8) < 0.8, true, 1 - true)
        return np.stack([metrics.confusion(t, f, 2) for t, f in zip(true, found, strict=True)])

    widths = []
    for pictures in (10, 160):
        each = counts(pictures)
        low, high = metrics.bootstrap(each)
        assert low <= metrics.mean_iou(each.sum(axis=0)) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    same = np.repeat(counts(1), 5, axis=0)
    low, high = metrics.bootstrap(same)
    assert low == pytest.approx(high)


def confusions(right: list[list[int]], pixels: int = 10, classes: int = 3) -> np.ndarray:
    """[E, T, K, K]: of `pixels` of class 1 in each picture so many are found, the others said to
    be background; as many background pixels are right. Class 2 is nowhere."""
    counts = np.zeros((len(right), len(right[0]), classes, classes), int)
    for epoch, each in enumerate(right):
        for picture, found in enumerate(each):
            counts[epoch, picture, 1] = (pixels - found, found, 0)
            counts[epoch, picture, 0, 0] = pixels
    return counts


def test_the_originals_way_is_kinder_and_each_pitfall_is_told_apart() -> None:
    """The second of three epochs suits the first picture, the first one the others."""
    counts = confusions([[2, 9, 9, 9, 9], [10, 8, 8, 8, 8], [4, 7, 7, 7, 7]])
    told = protocol.compared(counts)
    found = 4 + 4 * 7  # of the last epoch, of 50
    assert told["ours"] == pytest.approx((found / 50 + 50 / (50 + 50 - found)) / 2)
    assert told["without_background"] == pytest.approx(found / 50)
    assert told["absent_is_zero"] == pytest.approx(told["ours"] * 2 / 3)
    best = 10 + 4 * 8
    assert told["epoch_on_test"] == pytest.approx((best / 50 + 50 / (100 - best)) / 2)
    assert told["epoch_on_test"] > told["ours"]
    assert told["original_best_on_test"] == pytest.approx(told["epoch_on_test"] * 2 / 3)
    assert told["epochs_chosen"] == [1, 0, 0, 0, 0]
    first = protocol.cross_validated(counts)[0]
    assert first.score == pytest.approx((32 / 40 + 40 / 48) / 3)  # the other four, epoch 1


def test_with_one_epoch_the_original_differs_by_what_it_counts_alone() -> None:
    told = protocol.compared(confusions([[5, 5, 5, 5, 5]]))
    assert told["original_best_on_test"] == told["absent_is_zero"] == told["original_folds"]
    assert told["original_folds_deviation"] == pytest.approx(0.0)


def test_minutes_are_of_parts_that_are_right_less_those_too_many() -> None:
    true = np.zeros((2, 10, 10), np.uint8)
    true[:, :5, :5], true[:, 5:, 5:] = 1, 2
    found = true.copy()
    found[0, :3, :5] = 0  # 10 of 25 pixels of part 1: drawn anew
    found[1, 0, 9] = 3  # one too many
    told = saved(true, found)
    assert (told["parts"], told["right"], told["extra"]) == (4, 3, 1)
    assert told["minutes_a_hundred"] == pytest.approx(100 * 20 * (3 - 1) / 60 / 2, abs=0.05)
    ignored = np.where(found == 3, 255, true)
    assert saved(ignored.astype(np.uint8), found)["extra"] == 0


def test_calibration_of_a_known_case() -> None:
    """Four pictures, one of them half wrong, and uncertain just there."""
    true = np.ones((20, 8, 8), np.uint8)
    found = true.copy()
    found[3, :4] = 2
    unsure = np.where(found != true, 0.5, 0.1).astype(np.float32)
    told = calibrated(Guesses(true, found, unsure, 3))
    assert told["auroc"] == 1.0
    assert told["miou_kept"] == 1.0 and told["miou_all"] < 0.5  # class 2 is in one picture
    assert told["gain_low"] <= told["miou_kept"] - told["miou_all"] <= told["gain_high"]
    assert told["risk_coverage"][0][1] == 0.0
    assert told["risk_coverage"][-1] == (1.0, pytest.approx(32 / (20 * 64)))
    assert told["auroc_foreground"] == 1.0  # no pixel is background
    blind = calibrated(Guesses(true, found, np.full_like(unsure, 0.1), 3))
    assert blind["auroc"] == pytest.approx(0.5)


def test_background_that_both_say_is_in_the_auroc_of_all_pixels_alone() -> None:
    """Foreground has 24 pixels of three levels; sure, right background is added to each."""
    true, found = np.zeros((2, 10, 4, 6), np.uint8)
    true[:, :2], found[:, :2] = 1, 1
    found[:, 1, :2] = 2
    unsure = np.zeros(true.shape, np.float32)
    unsure[:, 0] = 0.3
    unsure[:, 1] = 0.2
    unsure[:, 1, 0] = 0.4
    guesses = Guesses(true, found, unsure, 3)
    told = calibrated(guesses)
    # Of each picture's two wrong pixels one is above all right ones. The other is below the 6 in
    # row 0, and equal to 4 in row 1; 12 of the background are below it.
    assert told["auroc_foreground"] == pytest.approx((1 + (4 / 2) / 10) / 2)
    assert told["auroc"] == pytest.approx((1 + (12 + 4 / 2) / 22) / 2)
    for name in ("auroc", "auroc_foreground"):  # all pictures are alike, and bins hold one level
        assert told[f"{name}_low"] == pytest.approx(told[name])
        assert told[f"{name}_high"] == pytest.approx(told[name])


def test_the_interval_of_an_auroc_is_that_of_exact_ones() -> None:
    random = np.random.RandomState(1)
    true = random.randint(0, 2, (12, 16, 16)).astype(np.uint8)
    found = np.where(random.rand(12, 16, 16) < 0.8, true, 1 - true).astype(np.uint8)
    unsure = (random.rand(12, 16, 16) + 0.5 * (true != found)).astype(np.float32)
    true[0, 0] = 255
    guesses = Guesses(true, found, unsure, 2)
    low, high = guesses.auroc_interval()
    exact = []
    for _ in range(300):
        n = random.randint(0, 12, 12)
        exact.append(Guesses(true[n], found[n], unsure[n], 2).auroc())
    assert (low, high) == pytest.approx(tuple(np.percentile(exact, [2.5, 97.5])), abs=0.005)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.15, 0.16], "met"),
        ([0.01, 0.02], "missed"),
        ([0.05, 0.17], "met (within the spread)"),
        ([0.02, 0.16], "missed (within the spread)"),
        ([0.3], "met (one draw)"),
    ],
)
def test_a_verdict_tells_what_draws_leave_open(values: list[float], said: str) -> None:
    found = verdict_of(Spread.of(values), 0.1)
    assert re.sub("<[^>]*>", "", found) == said


def test_where_it_is_lost_is_told_step_by_step() -> None:
    scale = replace(FULL, labels=(16,), once=(), draws=1, many=(2000,))
    plan = Plan(scale, 60, labeled=2000, person=True)
    student = plan.compared("student", 16, 0)
    cells = {
        student: {"miou": 0.7},
        replace(student, method="judged_labels"): {"miou": 0.75},
        replace(student, method="judged_pictures"): {"miou": 0.85},
        replace(student, method="true_pictures"): {"miou": 0.84},
        replace(student, method="generated_only"): {"miou": 0.5},
        Run("many", 2000): {"miou": 0.9},
    }
    text = str(causes(Summary(plan, cells)))
    told = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    rows = [tuple(told[n + 1 : n + 4]) for n in range(0, len(told), 4)]
    assert rows == [
        ("70.0", "", ""),
        ("75.0", "wrong labels of samples", "+5.0"),
        ("85.0", "what samples lack of real pictures", "+10.0"),
        ("84.0", "wrong labels of the judge", "-1.0"),
        ("90.0", "few labels seen again and again; length", "+6.0"),
        ("100.0", "what the network cannot learn from so many", "+10.0"),
        ("50.0", "without the labels of people", "-20.0"),
    ]
    assert causes(Summary(plan, {student: {"miou": 0.7}})) is None
