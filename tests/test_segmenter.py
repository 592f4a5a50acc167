"""Segmenter: fit, save, load, segment; and what bad input says."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dgan_backend import metrics
from dgan_backend.errors import DganError
from dgan_backend.interpreter.ensemble import PixelPrediction, together
from dgan_backend.inversion.framing import Frame
from dgan_backend.partonomy import from_labels
from dgan_backend.pictures import resize, to_tensor
from dgan_backend.segmenter import Segmenter
from tests.builders import (
    QUICK,
    QUICK_INVERSION,
    labeled_pictures,
    tiny_generator_folder,
    tiny_segmenter,
)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return tiny_segmenter(tmp_path_factory.mktemp("tiny"))


def test_a_seed_becomes_a_segmentation(segmenter: Segmenter) -> None:
    found = segmenter.segment_seed(7)
    assert found.image.shape == (16, 16, 3)
    assert found.image.dtype == found.labels.dtype == np.uint8
    assert found.labels.shape == found.uncertainty.shape == (16, 16)
    assert found.uncertainty.dtype == np.float32
    assert 0 <= found.score <= 1
    assert np.array_equal(found.labels, segmenter.segment_seed(7).labels)
    assert not np.array_equal(found.image, segmenter.segment_seed(8).image)


def test_seeds_in_batches_are_as_each_alone(segmenter: Segmenter) -> None:
    together = list(segmenter.segment_seeds(range(11), truncation=0.5))
    assert len(together) == 11
    for seed in (0, 8, 10):
        alone = segmenter.segment_seed(seed, truncation=0.5)
        assert np.abs(alone.image.astype(int) - together[seed].image).max() <= 1
        assert (alone.labels == together[seed].labels).mean() > 0.99
        assert alone.score == pytest.approx(together[seed].score, abs=1e-3)


def test_exact_reads_every_pixel(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    w = segmenter.generator.mapping(segmenter.generator.latent_from_seed(7), truncation=0.7)
    wanted = segmenter.ensemble.predict(segmenter.generator.synthesis(w).features, (16, 16))
    near = segmenter.segment_seed(7, truncation=0.7)
    assert segmenter._refinement(16).stride == 2
    monkeypatch.setattr(segmenter, "exact", True)
    assert segmenter._refinement(16).stride == 1
    exact = segmenter.segment_seed(7, truncation=0.7)
    assert np.array_equal(exact.labels, wanted.vote.numpy())
    np.testing.assert_allclose(exact.uncertainty, wanted.uncertainty.numpy(), atol=1e-5)
    assert (near.labels == exact.labels).mean() > 0.9  # the maps of this one are noise


def test_a_second_opinion_is_the_mean_of_interpreter_and_student() -> None:
    shipped = Segmenter.load("toonhead")
    alone = shipped.segment_seed(7)
    shipped.ask_student()
    both = shipped.segment_seed(7)
    grid = shipped.card.label_resolution
    picture = to_tensor(np.stack([resize(alone.image, grid, grid)]))
    w = shipped.generator.mapping(shipped.generator.latent_from_seed(7), truncation=0.7)
    assert shipped.truncation == 0.7 and shipped.student is not None
    one = shipped.ensemble.predict(
        shipped.generator.synthesis(w).features, (64, 64), shipped._refinement(64)
    )
    wanted = together(one, shipped.student.predict(picture))
    assert (both.labels == wanted.vote.numpy()).mean() > 0.99
    np.testing.assert_allclose(both.uncertainty, wanted.uncertainty.numpy(), atol=1e-3)
    assert np.array_equal(both.image, alone.image)
    assert (both.labels != alone.labels).any()


def test_a_version_without_a_student_has_no_second_opinion(segmenter: Segmenter) -> None:
    with pytest.raises(DganError, match="toonhead-tiny has no student to give a second opinion"):
        segmenter.ask_student()
    assert not segmenter.second_opinion


def test_two_that_are_sure_of_different_things_are_unsure_together() -> None:
    sure = torch.zeros(3, 1, 2)
    sure[0] = 1.0
    other = torch.zeros(3, 1, 2)
    other[1, 0, 0] = other[0, 0, 1] = 1.0  # disagrees on the left, agrees on the right
    none = torch.zeros(1, 2)
    one, two = (
        PixelPrediction(p, p.argmax(dim=0), none, members) for p, members in ((sure, 2), (other, 4))
    )
    found = together(one, two)
    assert found.probabilities[:, 0, 0].tolist() == [0.5, 0.5, 0.0]
    assert found.uncertainty[0].tolist() == pytest.approx([np.log(2), 0.0])
    assert found.vote[0].tolist() == [0, 0] and found.members == 6
    assert found.bound == pytest.approx(np.log(3)), "an entropy over three classes"
    finer = replace(two, probabilities=two.probabilities.repeat_interleave(4, dim=1))
    assert together(one, finer).uncertainty.shape == (1, 2)


@pytest.mark.parametrize("size", [(16, 16), (30, 50), (70, 20), (1, 1), (1, 9)], ids=str)
def test_pictures_of_any_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    image = np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8)
    found = segmenter.segment_image(image)
    assert found.labels.shape == found.uncertainty.shape == size
    assert np.array_equal(found.image, image)
    assert found.labels.max() < segmenter.partonomy.num_classes


def test_a_batch_is_as_each_alone(segmenter: Segmenter) -> None:
    images, _ = labeled_pictures(3, 20, 24)
    together = segmenter.segment_images(list(images))
    for image, found in zip(images, together, strict=True):
        alone = segmenter.segment_image(image)
        assert (alone.labels == found.labels).mean() > 0.99
        assert alone.score == pytest.approx(found.score, abs=1e-3)


def test_a_saved_version_is_the_same_version(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.save(tmp_path / "v1")
    loaded = Segmenter.load(tmp_path / "v1")
    assert loaded.version == segmenter.version
    assert loaded.partonomy == segmenter.partonomy
    same = loaded.segment_seed(3).labels == segmenter.segment_seed(3).labels
    assert same.mean() > 0.99
    assert loaded.inversion == segmenter.inversion == QUICK_INVERSION
    image = labeled_pictures()[0][0]
    assert loaded.segment_image(image).score == pytest.approx(
        segmenter.segment_image(image).score, abs=1e-3
    )
    with pytest.raises(DganError, match="versions never change"):
        segmenter.save(tmp_path / "v1")


def test_a_version_of_another_generator_is_refused(tmp_path: Path) -> None:
    made = tiny_segmenter(tmp_path)
    made.save(tmp_path / "v1")
    folder = tmp_path / "tiny"
    for path in folder.iterdir():
        path.unlink()
    tiny_generator_folder(folder, resolution=32)
    with pytest.raises(DganError, match="was fitted on generator"):
        Segmenter.load(tmp_path / "v1")


def test_non_square_training_pictures(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "g")
    pairs = [labeled_pictures(1, h, w, classes=2) for h, w in ((10, 30), (40, 8))]
    images, masks = [p[0][0] for p in pairs], [p[1][0] for p in pairs]
    tree = from_labels("mine", ["paw"])
    made = Segmenter.fit(folder, images, masks, tree, plan=QUICK)
    assert made.segment_image(images[0]).labels.shape == (10, 30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, m: (i, m[:1]), "2 pictures and 1 masks"),
        (lambda i, m: (i, m[:, :8]), "mask 0 is \\(8, 16\\)"),
        (lambda i, m: (i[..., :1], m), "picture 0 must be"),
        (lambda i, m: (i.astype(np.float32), m), "picture 0 must be uint8"),
        (lambda i, m: (i, m + 200), "mask 0 must hold classes"),
        (lambda i, m: (i, np.full_like(m, 255)), "No pixel is labeled"),
    ],
    ids=["count", "size", "channels", "dtype", "labels", "nothing"],
)
def test_bad_pairs_are_named(tmp_path: Path, change, message: str) -> None:
    folder = tiny_generator_folder(tmp_path / "g")
    images, masks = change(*labeled_pictures())
    with pytest.raises(DganError, match=message):
        Segmenter.fit(folder, images, masks, "toonhead", plan=QUICK)


def test_an_unknown_version_is_said() -> None:
    with pytest.raises(DganError, match="There is no version 'horse'"):
        Segmenter.load("horse")


@pytest.mark.parametrize("size", [(64, 64), (64, 20), (33, 64)], ids=str)
def test_framing_is_reversible(size: tuple[int, int]) -> None:
    mask = np.zeros(size, dtype=np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 3 :] = 1
    frame = Frame(*size)
    square = frame.mask(mask, 64, ignore=255)
    assert (square == 255).sum() == 64 * 64 - mask.size
    one_hot = torch.from_numpy(np.stack([square == 0, square == 1]).astype(np.float32))
    assert np.array_equal(frame.labels(one_hot), mask)


@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99)
)
def test_labels_are_the_likeliest_after_resizing(
    height: int, width: int, resolution: int, classes: int, seed: int
) -> None:
    """As if all of it were resized; pixels between equals are not, so that large ones are fast."""
    random = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(classes, resolution, resolution, generator=random).softmax(dim=0)
    frame = Frame(height, width)
    each = np.stack([frame.map(one) for one in probabilities])
    assert np.array_equal(frame.labels(probabilities), each.argmax(axis=0))


@pytest.mark.parametrize("size", [(40, 64), (64, 10), (64, 64), (9, 31)], ids=str)
def test_a_framed_picture_is_the_padded_square_resized(size: tuple[int, int]) -> None:
    picture = np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8)
    frame = Frame(*size)
    bottom, right = frame.side - size[0] - frame.top, frame.side - size[1] - frame.left
    margins = ((frame.top, bottom), (frame.left, right), (0, 0))
    wanted = resize(np.pad(picture, margins, mode="edge"), 16, 16)
    difference = frame.picture(picture, 16).astype(int) - wanted
    assert abs(difference).max() <= 1  # the intermediate is rounded to whole numbers


def test_a_long_strip_stays_small() -> None:
    strip = np.zeros((2, 200_000, 3), np.uint8)
    assert Frame(2, 200_000).picture(strip, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_picture_that_is_not_square_is_labeled_as_well(axis: int) -> None:
    """The head of a picture of 2:1 is as large as in its middle square, and labeled like it."""
    shipped = Segmenter.load("toonhead")
    with np.load(Path(__file__).parent / "data" / "toonhead" / "reference.npz") as stored:
        pictures, masks = list(stored["image"][60:68]), stored["mask"][60:68]
    margins = [(0, 0), (0, 0), (0, 0)]
    margins[axis] = (64, 64)
    found = shipped.segment_images([np.pad(p, margins, mode="edge") for p in pictures])
    middle = np.stack([np.take(f.labels, range(64, 192), axis=axis) for f in found])
    plain = np.stack([f.labels for f in shipped.segment_images(pictures)])
    of_wide, of_square = (
        metrics.mean_iou(metrics.confusion(masks, labels, 16)) for labels in (middle, plain)
    )
    assert of_square > 0.7
    assert of_wide > of_square - 0.1


def test_the_shipped_version_knows_its_domain_as_people_upload_it() -> None:
    """Compressed and framed pictures keep a score; pictures of something else have none."""
    shipped = Segmenter.load("toonhead")
    with np.load(Path(__file__).parent / "data" / "toonhead" / "reference.npz") as stored:
        pictures = list(stored["image"][60:72])

    def compressed(picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=75)
        return np.asarray(Image.open(file))

    def scores(changed: list[np.ndarray]) -> np.ndarray:
        return np.array([found.score for found in shipped.segment_images(changed)])

    def framed(by: int) -> list[np.ndarray]:
        return [np.pad(p, ((0, 0), (by, by), (0, 0)), mode="edge") for p in pictures[:4]]

    assert np.median(scores(pictures)) > 0.75
    assert np.median(scores([compressed(p) for p in pictures])) > 0.6
    for by in (32, 192):
        assert np.median(scores(framed(by))) > 0.6
    random = np.random.RandomState(0)
    noise = random.randint(0, 256, (128, 128, 3)).astype(np.uint8)
    board = np.repeat(np.indices((128, 128)).sum(axis=0)[..., None] // 8 % 2 * 255, 3, axis=2)
    assert scores([noise, board.astype(np.uint8)]).max() < 0.2
