"""Long trainings: stopped and gone on with, from mixtures and data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.deeplab import DeepLabConfig, new_deeplab
from dgan_backend.student.lessons import Counted, Labeled, Mixed, mixed
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.teaching import Checkpoint, teach
from tests.test_student import squares

SETTINGS = UNetSettings(pictures=24, batch=4)  # 6 steps


def taught(path: Path | None, stop_at: int = 99, key: str = "a") -> SegmentationNetwork:
    images, masks = squares(6)
    parts = [(Labeled(images[:2], masks[:2]), 0.5), (Labeled(images[2:], masks[2:]), 0.5)]

    def steps(numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            if number == stop_at:
                raise KeyboardInterrupt
            yield number

    checkpoint = None if path is None else Checkpoint(path, key, every=1e9)
    return teach(new_deeplab(DeepLabConfig(), 2), Mixed(parts), SETTINGS, checkpoint, steps)


def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, path = taught(None), tmp_path / "kept" / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        taught(path, stop_at=2)
    with pytest.raises(DganError, match="with other settings; remove"):
        taught(path, key="b")
    with pytest.raises(KeyboardInterrupt):
        taught(path, stop_at=5)
    parts = taught(path)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    path.write_bytes(b"no checkpoint")
    with pytest.raises(DganError, match="cannot be gone on with"):
        taught(path)


def test_pictures_are_counted_over_a_stop() -> None:
    images, masks = squares(6)
    random = torch.Generator().manual_seed(0)
    counted = Counted(Labeled(images, masks))
    assert torch.equal(counted.frequencies(2), Labeled(images, masks).frequencies(2))
    drawn = [counted.batch(4, random)[0]]
    again = Counted(Labeled(images, masks))
    again.load_state_dict(counted.state_dict())
    drawn.append(again.batch(3, random)[0])
    assert again.drawn == 7
    assert again.distinct == len(torch.cat(drawn).unique(dim=0)) < 7
    assert counted.distinct == len(drawn[0].unique(dim=0))


def test_a_checkpoint_is_written_every_so_often(tmp_path: Path) -> None:
    images, masks = squares(2)
    seen = []
    path = tmp_path / "checkpoint.pt"
    teach(
        new_deeplab(DeepLabConfig(), 2),
        Labeled(images, masks),
        UNetSettings(pictures=16),
        Checkpoint(path, "a", every=0.0),
        watch=lambda network, steps: seen.append((steps, path.is_file())),
    )
    # a step is kept when whatever is done with it was done: a resumed training misses none
    assert seen == [(1, False), (2, True), (3, True), (4, True)]


def test_a_mixture_draws_its_shares() -> None:
    dark = Labeled(torch.zeros(3, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8))
    light = Labeled(torch.ones(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.uint8))
    random = torch.Generator().manual_seed(0)
    images, masks = Mixed([(dark, 0.25), (light, 0.75)]).batch(400, random)
    assert 0.7 < images.mean() < 0.8
    assert torch.equal(images[:, 0, 0, 0], masks[:, 0, 0].float())
    assert Mixed([(dark, 0.25), (light, 0.75)]).frequencies(3).tolist() == [0.25, 0.75, 0.0]
    assert mixed([(dark, 1.0), (light, 0.0)]) is dark
    with pytest.raises(DganError, match="sum up to 1"):
        Mixed([(dark, 0.5), (light, 0.75)])


def test_ignored_pixels_have_no_share() -> None:
    masks = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    lessons = Labeled(torch.zeros(1, 3, 2, 2), masks)
    assert lessons.frequencies(2).tolist() == [0.0, 0.0]
    masks[0, 0, 0] = 1
    assert lessons.frequencies(2).tolist() == [0.0, 1.0]
    masks[0] = 255
    with pytest.raises(DganError, match="No pixel is labeled"):
        teach(new_deeplab(DeepLabConfig(), 2), lessons, SETTINGS)
