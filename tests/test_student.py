"""The student: shapes, augmentation that keeps pixels and labels together, fitting, saving."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.interpreter import FitSettings
from dgan_backend.partonomy import from_labels
from dgan_backend.refitting import RefitSettings, refit
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.augment import (
    AugmentSettings,
    crop_side,
    moved,
    moved_masks,
    recolored,
    warp,
)
from dgan_backend.student.course import UNetSettings, changed, class_weights
from dgan_backend.student.fit import fit_unet, train_unet
from dgan_backend.student.student import StudentSettings, fit_student
from dgan_backend.student.unet import Trunk, UNet
from tests.builders import (
    QUICK,
    TINY_UNET,
    add_tiny_backbone,
    labeled_pictures,
    tiny_generator_folder,
    turning,
)

STILL = AugmentSettings(rotation=0, scale=1, aspect=1, shift=0, mirror=False, crop=1, color=0)


def squares(count: int = 4, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Dark pictures with a bright square, class 1, somewhere."""
    random = np.random.RandomState(0)
    masks = np.zeros((count, side, side), np.uint8)
    for mask in masks:
        top, left = random.randint(0, side // 2, size=2)
        mask[top : top + side // 2, left : left + side // 2] = 1
    images = torch.from_numpy(masks)[:, None].expand(-1, 3, -1, -1) * 1.6 - 0.8
    return images.float(), torch.from_numpy(masks)


def test_a_unet_gives_logits_at_the_pictures_size() -> None:
    network = UNet(TINY_UNET, 5).eval()
    assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 64, 96)
    maps = Trunk(TINY_UNET)(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == list(TINY_UNET.channels)
    assert [m.shape[2] for m in maps] == [64, 32, 16, 8, 4, 2]


def test_no_augmentation_changes_nothing() -> None:
    images, masks = squares()
    x, y = changed(images, masks, STILL, torch.Generator().manual_seed(0))
    assert torch.allclose(x, images, atol=1e-4)
    assert torch.equal(y, masks.long())


def test_pictures_and_masks_move_together() -> None:
    images, masks = squares(8)
    settings = AugmentSettings(color=0)
    for seed in range(5):
        x, y = changed(images, masks, settings, torch.Generator().manual_seed(seed))
        assert x.shape[2:] == y.shape[1:] == (32, 32)
        assert ((x[:, 0] > 0) == (y == 1)).float().mean() > 0.97  # edges are interpolated


def test_a_mirrored_picture_is_the_picture_mirrored() -> None:
    images, masks = squares(16)
    settings = replace(STILL, mirror=True)
    affine = warp(16, settings, 1.0, torch.Generator().manual_seed(0))
    out = moved_masks(masks, affine, 32)
    mirrored = affine[:, 0, 0] < 0
    assert 0 < mirrored.sum() < 16
    wanted = torch.where(mirrored[:, None, None], masks.flip(2), masks)
    assert torch.equal(out, wanted.long())
    assert moved(images, affine, 32).shape == images.shape


def test_left_and_right_trade_places_in_mirrored_pictures() -> None:
    images, masks = squares(16)
    masks[:, :, :3] = 255
    settings = replace(STILL, mirror=True, swap=(0, 2, 1))
    x, y = changed(images, masks, settings, torch.Generator().manual_seed(0))
    straight = replace(settings, swap=())
    same, plain = changed(images, masks, straight, torch.Generator().manual_seed(0))
    assert torch.equal(x, same)
    mirrored = (y == 2).flatten(1).any(dim=1)
    assert 0 < mirrored.sum() < 16
    wanted = torch.where(plain == 1, 2, plain)
    assert torch.equal(y, torch.where(mirrored[:, None, None], wanted, plain))


def test_a_student_tells_left_from_right() -> None:
    """Class 1 is the left half of a bright bar, class 2 its right half: alike but for the side."""
    images, masks = torch.full((4, 3, 32, 32), -0.8), torch.zeros(4, 32, 32, dtype=torch.uint8)
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        image[:, 8 + 2 * n : 14 + 2 * n, 4:28] = 0.8
        mask[8 + 2 * n : 14 + 2 * n, 4:16], mask[8 + 2 * n : 14 + 2 * n, 16:28] = 1, 2
    augment = replace(STILL, mirror=True, swap=(0, 2, 1))
    unet = UNetSettings(pictures=400, augment=augment)
    student = fit_student(images, masks, 3, StudentSettings(1, unet), config=TINY_UNET)
    found = student.predict(images[:1])
    assert (found.probabilities.argmax(dim=0) == masks[0]).float().mean() > 0.95
    assert found.uncertainty.mean() < 0.1  # the mirrored opinion agrees


def test_a_single_opinion_is_refused() -> None:
    alone = UNetSettings(pictures=8, augment=STILL)
    with pytest.raises(DganError, match="two opinions"):
        fit_student(*squares(), 2, StudentSettings(1, alone), config=TINY_UNET)


def test_an_interrupted_fit_ends_all_its_members() -> None:
    """Ctrl-C reaches the main thread alone; here it comes out of the first member's progress."""

    def interrupted(steps: Iterable[int]) -> Iterator[int]:
        for step in steps:
            if step == 2:
                raise KeyboardInterrupt
            yield step

    settings = StudentSettings(2, UNetSettings(pictures=400_000))  # minutes, if not interrupted
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fit_student(*squares(), 2, settings, config=TINY_UNET, progress=interrupted)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("side", "share", "crop"), [(128, 0.75, 96), (128, 1, 128), (32, 0.5, 32), (256, 0.7, 192)]
)
def test_crops_are_multiples_of_32(side: int, share: float, crop: int) -> None:
    assert crop_side(side, share) == crop


def test_recolouring_stays_in_range_and_changes_colours() -> None:
    images, _ = squares(6)
    found = recolored(images, 1.0, torch.Generator().manual_seed(0))
    assert found.min() >= -1
    assert found.max() <= 1
    assert (found - images).abs().mean() > 0.05


def test_class_weights_known_answer() -> None:
    masks = torch.tensor([[[0, 0, 0, 1], [255, 255, 255, 255]]], dtype=torch.uint8)
    weights = class_weights(masks, 3, 0.5)
    # shares 3/4 and 1/4: weights share^-1/2, scaled to be 1 on average, so sum w * share = 1
    expected = np.array([0.75**-0.5, 0.25**-0.5, 0.0])
    expected /= expected[0] * 0.75 + expected[1] * 0.25
    assert weights.tolist() == pytest.approx(expected.tolist())
    with pytest.raises(DganError, match="No pixel is labeled"):
        class_weights(torch.full((1, 2, 2), 255, dtype=torch.uint8), 3, 0.5)


def test_a_unet_learns_a_bright_square_and_ignores_what_is_not_labeled() -> None:
    images, masks = squares()
    masks[:, :, ::2] = 255
    settings = UNetSettings(pictures=240)
    network = fit_unet(images, masks, 2, settings, config=TINY_UNET)
    found = network(images).argmax(dim=1)
    assert (found == (images[:, 0] > 0)).float().mean() > 0.95


def test_the_prior_is_folded_into_the_head() -> None:
    images, masks = squares()
    plain, corrected = (
        fit_unet(images, masks, 3, UNetSettings(pictures=8, prior=p), config=TINY_UNET)
        for p in (0.0, 0.5)
    )
    weights = class_weights(masks, 3, 0.5)
    moved_by = (plain(images) - corrected(images)).mean(dim=(0, 2, 3))
    assert moved_by[:2].tolist() == pytest.approx((0.5 * weights[:2].log()).tolist(), abs=1e-4)
    assert not (corrected(images).argmax(dim=1) == 2).any()  # no label shows it


@pytest.mark.parametrize("pictures", [1, 8, 40, 80])
def test_very_short_fits_work(pictures: int) -> None:
    fit_unet(*squares(), 2, UNetSettings(pictures=pictures), config=TINY_UNET)


def test_colours_are_drawn_for_the_device_of_the_pictures() -> None:
    images = torch.zeros(2, 3, 32, 32, device="meta")
    assert recolored(images, 1.0, torch.Generator()).device.type == "meta"


def test_fitting_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    images, masks = squares()
    settings = UNetSettings(pictures=8)
    before = torch.get_rng_state()
    one, two = (fit_unet(images, masks, 2, settings, config=TINY_UNET) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    folder = tiny_generator_folder(tmp_path_factory.mktemp("g") / "tiny")
    add_tiny_backbone(folder)
    return Segmenter.fit(folder, *labeled_pictures(), "toonhead", plan=QUICK)


def test_a_backbone_makes_a_student_that_labels_outside_pictures(segmenter: Segmenter) -> None:
    assert segmenter.card.outside == "student"
    assert segmenter.student is not None
    assert segmenter.student.members == 4  # two networks, each also looks at the mirrored picture
    found = segmenter.segment_image(labeled_pictures(1, 30, 50)[0][0])
    assert found.labels.shape == found.uncertainty.shape == (30, 50)
    assert 0 <= found.score <= 1
    assert found.uncertainty.max() <= np.log(4)


def test_the_student_teaches_the_interpreter_what_samples_look_like(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    add_tiny_backbone(folder)
    pairs = labeled_pictures(classes=3)
    unet = replace(QUICK.student.unet, pictures=200)
    plan = replace(QUICK, student=replace(QUICK.student, unet=unet))
    plan = replace(plan, interpreter=FitSettings(members=2, pixels=2048, steps=200, batch=64))
    agreement = []
    for taught in (0, 32):
        made = Segmenter.fit(folder, *pairs, "toonhead", plan=replace(plan, taught=taught))
        seen = [made.segment_seed(seed) for seed in range(6)]
        said = [made.segment_image(s.image).labels for s in seen]  # the student's labels
        agreement.append(np.mean([(a.labels == b).mean() for a, b in zip(seen, said, strict=True)]))
    assert agreement[1] > agreement[0] + 0.1


def test_a_saved_student_labels_the_same(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.save(tmp_path / "v1")
    loaded = Segmenter.load(tmp_path / "v1")
    image = labeled_pictures(1, 40, 40)[0][0]
    same = loaded.segment_image(image).labels == segmenter.segment_image(image).labels
    assert same.mean() > 0.98
    assert loaded.student is not None
    statistics = loaded.student.networks[0].trunk.down[0][1].running_var
    assert segmenter.student is not None
    assert torch.equal(statistics, segmenter.student.networks[0].trunk.down[0][1].running_var)
    (tmp_path / "v1" / "student.json").unlink()
    with pytest.raises(DganError, match=r"student\.json is missing"):
        Segmenter.load(tmp_path / "v1")


@pytest.mark.parametrize(("turns", "angle"), [(False, 20), (True, 180)])
def test_the_generator_says_whether_pictures_have_an_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: bool, angle: int
) -> None:
    folder = turning(tiny_generator_folder(tmp_path / "tiny"), turns)
    add_tiny_backbone(folder)
    angles = []

    def watched(*args: Any, **more: Any) -> UNet:
        angles.append(args[3].augment.rotation)
        return train_unet(*args, **more)

    monkeypatch.setattr("dgan_backend.student.student.train_unet", watched)
    made = Segmenter.fit(folder, *labeled_pictures(), "toonhead", plan=QUICK)
    refit(made, made.data, 0, "next", RefitSettings(pictures=8, steps=2, pixels=64, taught=0))
    assert angles == [angle] * 4


@pytest.mark.parametrize(
    ("labels", "mirror", "swap"),
    [
        (["eye", "mouth"], True, ()),
        (["left eye", "mouth", "right eye"], True, (0, 3, 2, 1)),
        (["left eye", "mouth"], False, ()),
    ],
)
def test_the_names_of_classes_say_what_mirroring_does(
    tmp_path: Path, labels: list[str], mirror: bool, swap: tuple[int, ...]
) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    add_tiny_backbone(folder)
    tree = from_labels("own", labels)
    made = Segmenter.fit(folder, *labeled_pictures(classes=3), tree, plan=QUICK)
    assert made.student is not None
    assert (made.student.mirror, made.student.swap) == (mirror, swap)
    made.save(tmp_path / "v1")
    loaded = Segmenter.load(tmp_path / "v1").student
    assert loaded is not None
    assert (loaded.mirror, loaded.swap) == (mirror, swap)


def test_the_better_one_on_held_back_labels_is_chosen(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    add_tiny_backbone(folder)
    images, masks = labeled_pictures(9, classes=3)
    made = Segmenter.fit(folder, images, masks, "toonhead", plan=QUICK)
    reached = made.card.training["held_back_miou"]
    assert set(reached) == {"interpreter", "student"}
    assert made.card.outside == max(reached, key=reached.get)


def test_pictures_without_labels_are_not_compared_on(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    add_tiny_backbone(folder)
    images, masks = labeled_pictures(12, classes=3)
    masks[np.arange(12) % 4 > 0] = 255
    made = Segmenter.fit(folder, images, masks, "toonhead", plan=QUICK)
    assert made.card.outside == "student"  # three labels are too few to hold any back


def test_members_trained_side_by_side_are_as_each_alone() -> None:
    images, masks = squares()
    settings = StudentSettings(3, UNetSettings(pictures=16, seed=2))
    threads = torch.get_num_threads()
    student = fit_student(images, masks, 2, settings, config=TINY_UNET)
    assert torch.get_num_threads() == threads
    for member, network in enumerate(student.networks):
        alone = fit_unet(
            images, masks, 2, replace(settings.unet, seed=2000 + member), config=TINY_UNET
        )
        assert torch.allclose(alone(images), network(images), atol=1e-3)


def test_few_labels_are_seen_fewer_times_at_a_smaller_rate() -> None:
    settings = StudentSettings(unet=UNetSettings(pictures=5000))
    seen = [settings.for_labels(n).unet.pictures for n in (1, 8, 100)]
    assert seen[0] < seen[-1]
    assert seen == sorted(seen)
    assert seen[-1] == 5000
    rates = [settings.for_labels(n).unet.rate for n in (1, 4, 16, 100)]
    assert rates == pytest.approx([0.025, 0.05, 0.1, 0.1])
