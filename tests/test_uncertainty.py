"""Known answers for vote, uncertainty, score and filter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dgan_backend.interpreter.uncertainty import (
    entropy,
    expected_iou,
    image_uncertainty,
    jensen_shannon,
    keep_certain,
    majority_vote,
    of_logits,
    reconstruction_factor,
    score,
)


def test_entropy_of_a_coin_and_of_certainty() -> None:
    p = torch.tensor([[0.5, 1.0], [0.5, 0.0]])
    assert torch.allclose(entropy(p, dim=0), torch.tensor([math.log(2), 0.0]))


def test_disagreeing_members_reach_the_bound() -> None:
    certain = torch.eye(4)[:, :, None]  # 4 members, 4 classes, each sure of another
    assert jensen_shannon(certain)[0].item() == pytest.approx(math.log(4), abs=1e-6)


def test_agreeing_members_do_not_disagree() -> None:
    same = torch.tensor([0.2, 0.3, 0.5]).expand(10, 3)[:, :, None]
    assert jensen_shannon(same)[0].item() == pytest.approx(0.0, abs=1e-6)


def test_known_value_of_three_members() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])[:, :, None]
    mean = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    each = [-(a * math.log(a) + b * math.log(b)) for a, b in ((0.9, 0.1), (0.6, 0.4), (0.3, 0.7))]
    assert jensen_shannon(p)[0].item() == pytest.approx(mean - sum(each) / 3, abs=1e-6)


@given(st.lists(st.floats(0.01, 1.0), min_size=6, max_size=6))
def test_two_members_are_the_weighted_form_at_one_half(values: list[float]) -> None:
    p, q = np.array(values[:3]), np.array(values[3:])
    p, q = p / p.sum(), q / q.sum()

    def h(x: np.ndarray) -> float:
        return float(-(x * np.log(x)).sum())

    alpha = 0.5
    seed = h(alpha * p + (1 - alpha) * q) - alpha * h(p) - (1 - alpha) * h(q)
    found = jensen_shannon(torch.from_numpy(np.stack([p, q]))[:, :, None])
    assert found[0].item() == pytest.approx(seed, abs=1e-9)


def test_vote_takes_the_most_frequent_and_ties_the_smallest() -> None:
    labels = torch.tensor([[2, 1, 0], [2, 0, 3], [1, 1, 3], [2, 0, 0]])
    assert majority_vote(F.one_hot(labels, 4).transpose(1, 2)).tolist() == [2, 0, 0]


def test_image_uncertainty_is_the_mean_of_the_top_tenth() -> None:
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert image_uncertainty(values) == pytest.approx(np.mean(range(90, 100)))
    assert image_uncertainty(np.array([[3.0]], dtype=np.float32)) == 3.0


def test_score() -> None:
    assert score(1.0) == 1.0
    assert score(0.8, r=0.5) == pytest.approx(0.4)
    assert score(0.8, r=0.0) == 0.0


def test_expected_iou_known_answer() -> None:
    """Two classes on four pixels; a third class is never the largest and does not count."""
    first = torch.tensor([0.9, 0.6, 0.2, 0.1])
    second = torch.tensor([0.1, 0.3, 0.7, 0.9])
    third = 1 - first - second
    probabilities = torch.stack([first, second, third]).reshape(3, 2, 2)
    wanted = [(0.9 + 0.6) / (2 + 0.2 + 0.1), (0.7 + 0.9) / (2 + 0.1 + 0.3)]
    assert expected_iou(probabilities) == pytest.approx(np.mean(wanted))


def test_expected_iou_of_certain_labels_is_one_and_small_parts_weigh_as_large_ones() -> None:
    labels = torch.zeros(16, 16, dtype=torch.long)
    labels[0, :2] = 1
    certain = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
    assert expected_iou(certain) == 1.0
    doubted = certain.clone()
    doubted[:, 0, 0] = torch.tensor([0.4, 0.6, 0.0])  # one of the two pixels of class 1
    wanted = [254 / 254.4, 1.6 / 2]
    assert expected_iou(doubted) == pytest.approx(np.mean(wanted))


def test_reconstruction_factor() -> None:
    assert reconstruction_factor(0.1, median=0.2, limit=0.6) == 1.0
    assert reconstruction_factor(0.4, median=0.2, limit=0.6) == pytest.approx(0.5)
    assert reconstruction_factor(0.7, median=0.2, limit=0.6) == 0.0
    assert reconstruction_factor(0.3, median=0.2, limit=0.2) == 0.0
    with pytest.raises(ValueError, match="median <= limit"):
        reconstruction_factor(0.1, median=0.3, limit=0.2)


def test_filter_drops_the_most_uncertain_and_nothing_else() -> None:
    values = [0.5, 0.1, 0.9, 0.3, 0.2, 0.8, 0.4, 0.0, 0.7, 0.6]
    assert keep_certain(values, 0.2).tolist() == [0, 1, 3, 4, 6, 7, 8, 9]
    assert keep_certain(values, 0.0).tolist() == list(range(10))
    assert keep_certain([], 0.1).tolist() == []
    with pytest.raises(ValueError, match="drop"):
        keep_certain(values, 1.0)


@given(st.lists(st.floats(0, 1), max_size=400), st.floats(0, 0.99))
def test_filter_keeps_the_certain_ones(values: list[float], drop: float) -> None:
    kept = set(keep_certain(values, drop).tolist())
    gone = set(range(len(values))) - kept
    assert len(gone) == math.floor(len(values) * drop + 1e-9)
    assert all(values[g] >= values[k] for g in gone for k in kept)


@pytest.mark.parametrize("size", [0.1, 5.0, 80.0])
def test_all_at_once_of_logits(size: float) -> None:
    """As softmax, vote and divergence one after the other, also where exp would underflow."""
    logits = size * torch.randn(10, 16, 6, 7, generator=torch.Generator().manual_seed(3))
    softmax = logits.softmax(dim=1)
    vote = majority_vote(logits)
    mean, voted, divergence = of_logits(logits.clone())
    assert torch.allclose(mean, softmax.mean(dim=0), atol=1e-6)
    assert torch.equal(voted, vote)
    assert torch.allclose(divergence, jensen_shannon(softmax), atol=2e-5)
    assert divergence.min() >= 0


@pytest.mark.parametrize(("members", "classes"), [(1, 5), (4, 1), (1, 1)])
def test_one_member_or_class_has_no_doubt(members: int, classes: int) -> None:
    logits = torch.randn(members, classes, 9, generator=torch.Generator().manual_seed(1))
    mean, _, divergence = of_logits(logits)
    assert torch.allclose(mean.sum(dim=0), torch.ones(9)) and divergence.max() < 1e-6
