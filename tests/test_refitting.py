"""Versions that go on learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.interpreter import FitSettings
from dgan_backend.partonomy import from_labels, load_partonomy
from dgan_backend.refitting import RefitSettings, refit, with_classes
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.fit import continued, correction_of, new_unet, train_unet
from dgan_backend.student.student import Student, StudentSettings, fit_student
from dgan_backend.versions import Source, TrainingSet
from tests.builders import (
    QUICK,
    TINY_UNET,
    add_tiny_backbone,
    labeled_pictures,
    tiny_generator_folder,
)

STILL = AugmentSettings(rotation=0, scale=1, aspect=1, shift=0, mirror=False, crop=1, color=0)
SHORT = RefitSettings(pictures=8, more_pictures=0, steps=5, pixels=256, taught=2)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """A version with a student, of three classes."""
    folder = tiny_generator_folder(tmp_path_factory.mktemp("refit") / "tiny")
    add_tiny_backbone(folder)
    images, masks = labeled_pictures(4, 32, 32, classes=3)
    tree = from_labels("own", ["wing", "tail"])
    return Segmenter.fit(folder, images, masks, tree, version="own-v1", plan=QUICK)


def test_what_was_folded_into_the_head_is_taken_back() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[:, :4] = 1
    settings = UNetSettings(pictures=4, augment=STILL)
    network = new_unet(3, 0, TINY_UNET)
    train_unet(network, torch.rand(2, 3, 32, 32) * 2 - 1, masks, settings)
    correction = correction_of(masks, 3, settings)
    again = continued(network, correction)
    assert network.head.bias is not None and again.head.bias is not None
    assert correction[0] is not None and correction[1] is not None
    assert correction[2] is None
    bias = again.head.bias.detach()
    torch.testing.assert_close(bias[:2], network.head.bias[:2] + torch.tensor(correction[:2]))
    assert float(network.head.bias[2]) < -20 < float(bias[2])
    assert again.head.weight.requires_grad
    assert not network.head.weight.requires_grad


def test_going_on_keeps_what_was_learned_and_learns_a_new_class() -> None:
    """A left half, class 1, is kept, while a band at the bottom, class 2, is learned."""
    random = np.random.RandomState(0)
    old = np.zeros((4, 32, 32), np.uint8)
    old[:, :, :16] = 1
    new = old.copy()
    new[:, 24:] = 2
    colors = np.array([[-0.8] * 3, [0.1] * 3, [0.9] * 3])

    def drawn(masks: np.ndarray) -> torch.Tensor:
        noise = random.rand(len(masks), 3, 32, 32) * 0.1
        return torch.from_numpy(colors[masks].transpose(0, 3, 1, 2) + noise).float()

    unet = UNetSettings(pictures=400, augment=STILL)
    first = fit_student(
        drawn(old), torch.from_numpy(old), 3, StudentSettings(2, unet), config=TINY_UNET
    )
    second = fit_student(
        drawn(new),
        torch.from_numpy(new),
        3,
        StudentSettings(2, replace(unet, pictures=120)),
        begin=first,
    )
    found = second.predict(drawn(new[:1])).probabilities.argmax(dim=0).numpy()
    assert (found == new[0]).mean() > 0.9
    before = first.predict(drawn(new[:1])).probabilities.argmax(dim=0).numpy()
    assert not (before == 2).any()


def test_a_student_that_says_nothing_of_its_end_is_refused() -> None:
    student = Student([new_unet(3, 0, TINY_UNET)])
    images, masks = torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.uint8)
    with pytest.raises(DganError, match="fit it anew"):
        fit_student(images, masks, 3, begin=student)


def test_a_refitted_version_carries_all_labels_and_where_they_come_from(
    fitted: Segmenter, tmp_path: Path
) -> None:
    new = replace(fitted.data.pick([0]), sources=(Source(7, "key", 0.5),))
    data = TrainingSet(
        torch.cat([fitted.data.w, new.w]),
        torch.cat([fitted.data.masks, new.masks]),
        torch.cat([fitted.data.pictures, new.pictures]),
        fitted.data.sources + new.sources,
    )
    again = refit(fitted, data, 1, "p1-own-v0002", SHORT, {"new": [7]})
    assert again.version == "p1-own-v0002"
    assert again.card.training == {"pictures": 5, "begun_with": "own-v1", "new": [7]}
    again.save(tmp_path / "v2")
    loaded = Segmenter.load(tmp_path / "v2")
    assert loaded.data.sources[-1] == Source(7, "key", 0.5)
    assert [s.task for s in loaded.data.sources] == [None] * 4 + [7]
    assert loaded.student is not None and again.student is not None
    assert loaded.student.correction == pytest.approx(again.student.correction)
    refit(loaded, loaded.data, 1, "p1-own-v0003", SHORT)  # and on from disk


def test_the_interpreter_goes_on_from_what_it_says(fitted: Segmenter) -> None:
    """Without a step, the labels of samples stay as they are."""
    still = replace(SHORT, steps=1, taught=0)
    again = refit(fitted, fitted.data, 1, "own-v2", still)
    same = [
        (again.segment_seed(seed).labels == fitted.segment_seed(seed).labels).mean()
        for seed in range(4)
    ]
    assert np.mean(same) > 0.9


def test_pictures_that_cannot_be_re_created_teach_the_student_alone(fitted: Segmenter) -> None:
    none = tuple(replace(source, factor=0.0) for source in fitted.data.sources)
    with pytest.raises(DganError, match="can be re-created"):
        refit(fitted, replace(fitted.data, sources=none), 1, "own-v2", replace(SHORT, taught=0))
    refit(fitted, replace(fitted.data, sources=none), 1, "own-v2", SHORT)  # who teaches samples
    some = (*none[1:], Source())
    refit(fitted, replace(fitted.data, sources=some), 1, "own-v2", SHORT)


def test_classes_are_carried_over_by_name(fitted: Segmenter) -> None:
    tree = from_labels("own", ["tail", "beak"])  # wing gone, beak new
    changed = with_classes(fitted, tree)
    assert changed.partonomy.classes == ("background", "tail", "beak")
    image = labeled_pictures(1, 32, 32)[0][0]
    before, after = fitted.segment_image(image), changed.segment_image(image)
    assert not (after.labels == 2).any()
    kept = before.labels != 1
    assert (after.labels[kept] == np.array([0, 0, 1])[before.labels[kept]]).mean() > 0.95
    assert set(np.unique(changed.data.masks)) == {0, 1, 255}
    again = refit(changed, changed.data, 1, "own-v2", SHORT)
    assert again.student is not None
    assert again.student.num_classes == 3
    assert with_classes(fitted, fitted.partonomy) is fitted


def test_a_correction_outweighs_the_base() -> None:
    data = TrainingSet(
        torch.zeros(3, 1, 1),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.zeros(3, 3, 4, 4, dtype=torch.uint8),
        (Source(), Source(5), Source(6)),
    )
    assert [s.task for s in data.repeated(2).sources] == [None, 5, 5, 6, 6]
    assert len(data.pick([1, 2]).repeated(2)) == 2  # nothing to outweigh


def test_the_shipped_version_can_go_on() -> None:
    shipped = Segmenter.load("toonhead")
    assert shipped.student is not None
    expected = correction_of(shipped.data.grid_masks(), 16, UNetSettings())
    assert shipped.student.correction == pytest.approx(tuple(expected))
    assert load_partonomy("toonhead").classes == shipped.partonomy.classes


def test_fit_settings_of_a_beginning_stay(fitted: Segmenter) -> None:
    again = refit(fitted, fitted.data, 1, "own-v2", SHORT)
    assert again.ensemble.members == fitted.ensemble.members
    assert FitSettings().members != fitted.ensemble.members
