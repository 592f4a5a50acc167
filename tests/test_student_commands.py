"""`student train` and `student version`: from a data set or a stream to a version that serves."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend import cli, student_commands
from dgan_backend.errors import DganError
from dgan_backend.factory import reading
from dgan_backend.factory.card import Subject
from dgan_backend.factory.finishing import finish
from dgan_backend.factory.making import find_version, items
from dgan_backend.factory.order import Order
from dgan_backend.factory.reading import DataSet, Stream
from dgan_backend.factory.shards import Shards
from dgan_backend.pictures import save_picture, to_tensor
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.deeplab import LightDeepLab
from dgan_backend.student.lessons import Mixed
from dgan_backend.student_lessons import labeled_by, lessons
from tests.builders import labeled_pictures, tiny_models

VERSION = "p1-toonhead-v0001"


@pytest.fixture(autouse=True)
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda _: None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models(tmp_path_factory.mktemp("models"), VERSION)


@pytest.fixture(scope="module")
def data_set(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 samples of 32 px, none left out, of a generator of 16 px."""
    folder = tmp_path_factory.mktemp("sets") / "set"
    version = find_version(str(models / VERSION), Settings())
    segmenter = version.segmenter
    order = Order(version.name, version.sha256, segmenter.generator.card.sha256,
                  segmenter.generator.id, 20, 0.0, 1.0, 0, 8, side=32)  # fmt: skip
    shards = Shards(Storage(folder), order)
    shards.begin()
    for number in range(order.shards):
        shards.write(number, items(segmenter, order, number))
    finish(Storage(folder), shards, Subject(segmenter.partonomy, segmenter.generator.card))
    return folder


def trained(models: Path, out: Path, *more: str) -> int:
    words = ["student", "train", "--version", str(models / VERSION), "--out", str(out)]
    return cli.main([*words, "--pictures", "16", "--side", "32", *more])


def test_a_set_is_finer_than_its_generator_and_is_picked_from(models: Path, data_set: Path) -> None:
    tree = Segmenter.load(models / VERSION).partonomy
    every = DataSet.open([str(data_set)], tree, 32)
    image, mask = every.read(0)
    assert image.shape == (32, 32, 3) and mask.shape == (32, 32)
    assert len(every) == 20 and every.frequencies(16).sum() == pytest.approx(1.0)
    picked = every.pick(18, 0.1)  # of the first 19
    uncertain = sorted(entry.uncertainty for entry in every.entries[:19])
    assert len(picked) == 18
    assert max(entry.uncertainty for entry in picked.entries) <= uncertain[-2]
    with pytest.raises(DganError, match="20 samples are too few for 20 without 10%"):
        every.pick(20, 0.1)
    images, masks = picked.batch(3, torch.Generator().manual_seed(0))
    assert images.shape == (3, 3, 32, 32) and images.min() >= -1 and images.max() <= 1
    assert masks.dtype == torch.uint8
    smaller = DataSet.open([str(data_set)], tree, 16)
    assert smaller.read(0)[1].shape == (16, 16)


def test_what_is_no_data_set_is_said(models: Path, tmp_path: Path) -> None:
    with pytest.raises(DganError, match="no finished data set"):
        DataSet.open([str(tmp_path)], Segmenter.load(models / VERSION).partonomy, 32)


def test_a_stream_leaves_out_the_uncertain_and_follows_from_its_seed(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LOOKED_AT", 10)
    stream = Stream(Segmenter.load(models / VERSION), 32, 0.5)
    one = stream.batch(3, torch.Generator().manual_seed(4))
    other = stream.batch(3, torch.Generator().manual_seed(4))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert stream.frequencies(16).sum() == pytest.approx(1.0)
    made = stream._made(torch.Generator().manual_seed(4))
    found = [reading.image_uncertainty(next(made).uncertainty) for _ in range(5)]
    assert max(found) <= stream._limit


def test_from_a_set_to_a_version_that_serves(
    models: Path, data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("MODEL_DIR", str(models))
    images, masks = labeled_pictures(3)
    np.savez(tmp_path / "pairs.npz", image=images, mask=masks)
    out = tmp_path / "student"
    assert trained(models, out, str(data_set), "--labels", str(tmp_path / "pairs.npz")) == 0
    assert not (out / "checkpoint.pt").exists()
    assert json.loads((out / "training.json").read_text())["share"] == 0.5
    labeled = (str(data_set), "--labels", str(tmp_path / "pairs.npz"))
    assert trained(models, out, *labeled) == 0
    assert "is there already" in capsys.readouterr().out
    for other in ((str(data_set),), (*labeled, "--rate", "0.05"), (*labeled, "--seed", "1")):
        assert trained(models, out, *other) == 2
        assert "of other settings, sets or labels" in capsys.readouterr().err
    np.savez(tmp_path / "pairs.npz", image=images, mask=np.zeros_like(masks))
    assert trained(models, out, *labeled) == 2
    np.savez(tmp_path / "pairs.npz", image=images, mask=masks)
    capsys.readouterr()
    command = ["student", "version", str(out), "--version", str(models / VERSION)]
    assert cli.main([*command, "--out", str(tmp_path / "served")]) == 0
    served = Segmenter.load(tmp_path / "served")
    assert served.student is not None and served.card.outside == "student"
    assert isinstance(served.student.networks[0], LightDeepLab)
    found = served.segment_image(images[0])
    assert found.labels.shape == (16, 16) and 0 <= found.score <= 1
    assert cli.main([*command, "--project", "1"]) == 0
    tree = served.partonomy
    assert Registry.of(Settings.from_env()).current(tree, 1) == "p1-toonhead-v0002"


def test_a_stream_is_learned_from(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LOOKED_AT", 4)
    assert trained(models, tmp_path / "student") == 0
    assert (tmp_path / "student" / "student.safetensors").is_file()


def test_pictures_that_nobody_labeled_are_labeled_and_learned_from(
    models: Path, data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "student"
    for number, image in enumerate(labeled_pictures(3, 20, 30)[0]):
        save_picture(photos / "more" / f"{number}.png", image)
    words = ("--unlabeled", str(photos))
    assert trained(models, out, *words) == 0
    assert json.loads((out / "training.json").read_text())["unlabeled"] == str(photos)
    capsys.readouterr()
    for other in ((), (str(data_set), *words)):
        assert trained(models, out, *other) == 2
        assert "of other settings, sets or labels" in capsys.readouterr().err
    save_picture(photos / "0.png", labeled_pictures(1)[0][0])
    assert trained(models, out, *words) == 2
    (photos / "1.png").write_bytes(b"none")
    assert trained(models, tmp_path / "other", *words) == 2
    assert "1.png cannot be read as a picture" in capsys.readouterr().err
    assert trained(models, tmp_path / "none", "--unlabeled", str(tmp_path / "nowhere")) == 2
    assert "is no folder of pictures" in capsys.readouterr().err


def test_a_version_labels_as_it_sees_and_half_of_the_rest_is_of_sets(
    models: Path, data_set: Path, tmp_path: Path
) -> None:
    segmenter = find_version(str(models / VERSION), Settings()).segmenter
    image = labeled_pictures(1, 20, 30)[0][0]
    save_picture(tmp_path / "photos" / "a.png", image)
    found = labeled_by(segmenter, tmp_path / "photos", 30, lambda paths: paths)
    images, masks = found.batch(2, torch.Generator().manual_seed(0))
    assert images.shape == (2, 3, 30, 30) and masks.shape == (2, 30, 30)
    assert np.array_equal(masks[0, 5:25].numpy(), segmenter.segment_image(image).labels)
    assert (masks[:, :5] == 255).all() and (masks[:, 25:] == 255).all()
    assert torch.equal(images[0, :, 5:25], to_tensor(image[None])[0])
    given = argparse.Namespace(sets=[str(data_set)], unlabeled=tmp_path / "photos", labels=None,
                               share=0.5, filter=0.1)  # fmt: skip
    mixture = lessons(given, segmenter, 32)
    assert isinstance(mixture, Mixed) and [share for _, share in mixture.parts] == [0.5, 0.5]


def test_a_single_opinion_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    for mirror, said in ((True, ""), (False, "its uncertainty will be 0 everywhere")):
        augment = AugmentSettings(mirror=mirror)
        student_commands._warn_of_one_opinion(UNetSettings(augment=augment))
        told = capsys.readouterr().err
        assert said in told and bool(told) != mirror


def test_what_cannot_be_is_said(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(models, tmp_path / "a", "--weights", str(tmp_path / "resnet50.pth")) == 2
    assert "nobody publishes weights of the light network" in capsys.readouterr().err
    assert trained(models, tmp_path / "b", "--share", "1.5") == 2
    assert cli.main(["student", "version", str(tmp_path), "--out", str(tmp_path / "v")]) == 2
    assert "has no student.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--device", "gpu"), "'gpu' is neither cpu nor cuda"),
        (("--device", "cuda:7"), "cuda:7 is not here"),
        (("--filter", "2"), "2 is not a share from 0"),
        (("--rate", "-1"), "-1 is not above 0"),
        (("--batch", "1", "--backbone", "resnet50"), "--batch is 2 or more with a ResNet"),
    ],
)
def test_numbers_that_cannot_be_are_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    command = ["student", "train", "--out", str(tmp_path / "a"), *words]
    try:
        status = cli.main(command)
    except SystemExit as error:  # argparse's
        status = int(str(error.code))
    assert status == 2 and told in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
