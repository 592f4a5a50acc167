"""The baselines do what they say: what is frozen stays, what is unlabeled is learned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from dgan_backend.evaluation import baselines
from dgan_backend.evaluation.baselines import Discriminator, Recipe, SemiSettings, Trust, one_hot
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.lessons import Labeled
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.teaching import Checkpoint
from tests.test_student import squares

RECIPE = Recipe(2, UNetSettings(pictures=16))


def test_transfer_tunes_the_last_layers_alone() -> None:
    images, masks = squares()
    begin = Recipe(5, UNetSettings(pictures=16)).network()
    before = {k: v.clone() for k, v in begin.state_dict().items()}
    tuned = baselines.transfer(RECIPE, begin, Labeled(images, masks))
    assert tuned.num_classes == 2
    for name, value in tuned.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, before[name]), name  # batch norms' statistics, too
    assert not torch.equal(tuned.state_dict()["aspp.project.0.weight"],
                           before["aspp.project.0.weight"])  # fmt: skip


def test_unlabeled_pictures_change_what_is_learned() -> None:
    images, masks = squares(8)
    labels = Labeled(images[:1], masks[:1])
    trusting, wary = SemiSettings(trusted=0.0), SemiSettings(trusted=1.1, matching=0.0)
    weights = []
    for semi, unlabeled in ((trusting, images[1:]), (trusting, -images[1:]), (wary, images[1:])):
        network = baselines.semi_supervised(RECIPE, labels, unlabeled, semi)
        weights.append(network.head.weight)
        assert network(images).shape == (8, 2, 32, 32)
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    images, masks = squares(8)
    labels = Labeled(images[:1], masks[:1])

    def learned(path: Path | None, stop_at: int = 99) -> tuple[SegmentationNetwork, Trust]:
        def steps(numbers: Iterable[int]) -> Iterator[int]:
            for number in numbers:
                if number == stop_at:
                    raise KeyboardInterrupt
                yield number

        checkpoint = None if path is None else Checkpoint(path, "a", every=1e9)
        trust = Trust()
        semi = SemiSettings(trusted=0.5, rate=0.01)
        network = baselines.semi_supervised(
            RECIPE, labels, images[1:], semi, steps, checkpoint, trust
        )
        return network, trust

    whole, told = learned(None)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        learned(path, stop_at=2)
    parts, again = learned(path)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    assert told == again and told.shown == 16 and 0 < told.trusted <= 16


def test_a_step_moves_network_and_discriminator_each_by_its_own_loss() -> None:
    images, masks = squares(8)
    seen: list[list[torch.Tensor]] = []
    judge = Discriminator(2, (8, 8, 8))
    features, logits = judge(images, one_hot(masks.long(), 2))
    assert features.shape == (8, 8) and logits.shape == (8,)
    course = baselines.Course(RECIPE.network(), torch.ones(2), RECIPE.settings)
    adam = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(2):
        seen.append([p.detach().clone() for p in judge.parameters()])
        batch = (images[:4], masks[:4].long())
        baselines._semi_step(course, judge, adam, SemiSettings(trusted=0.0), batch, images[4:])
    assert any(not torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert course.steps_done == 2


def test_ignored_pixels_are_of_no_class() -> None:
    masks = torch.tensor([[[0, 2, 255]]])
    assert one_hot(masks, 3)[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
