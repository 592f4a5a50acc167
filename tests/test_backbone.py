"""Backbones: learning without labels, resuming, what is familiar, and doing without one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dgan_backend.cli import main
from dgan_backend.errors import DganError
from dgan_backend.generators import Generator, load_generator
from dgan_backend.partonomy import from_labels
from dgan_backend.pictures import resize, to_pictures
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.augment import AugmentSettings, warp
from dgan_backend.student.native import Backbone, load_backbone, save_backbone
from dgan_backend.student.unet import Trunk
from dgan_backend.training.backbone import BackboneSettings, BackboneTraining, Pictures, rate_at
from dgan_backend.training.familiarity import measure_familiarity
from dgan_backend.training.pictures import PictureFolder
from tests.builders import (
    QUICK,
    TINY_UNET,
    add_tiny_backbone,
    labeled_pictures,
    tiny_generator_folder,
)

SETTINGS = BackboneSettings(pictures=64, side=32, directions=4, batch=8)


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    return load_generator(tiny_generator_folder(tmp_path / "tiny"))


def trained(training: BackboneTraining) -> BackboneTraining:
    while not training.done:
        training.step()
    return training


def begun(generator: Generator, checkpoint: Path | None = None, **more: Any) -> BackboneTraining:
    settings = replace(SETTINGS, **more)
    return BackboneTraining(generator, settings, config=TINY_UNET, checkpoint=checkpoint)


def test_its_rate_rises_and_falls_once_as_in_torch() -> None:
    """But for the start of the fall, which is at the end of the rise there."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], 1.0)
    steps = 7500
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=steps, pct_start=100 / steps
    )
    for step in range(steps - 1):
        assert rate_at(step, step / steps) == pytest.approx(torchs.get_last_lr()[0], abs=0.02)
        optimizer.step()
        torchs.step()
    assert rate_at(2, 0.5) > 0.4  # few steps: by the time
    assert rate_at(10, 1.0) == 0.0


def test_time_ends_it_as_well(generator: Generator) -> None:
    training = begun(generator, pictures=10_000, minutes=1.0)
    training.step()
    assert not training.done
    training.seconds = 60.0
    assert training.done


def test_it_goes_on_where_it_stopped(generator: Generator, tmp_path: Path) -> None:
    kept = tmp_path / "kept.pt"
    training = begun(generator, kept)
    training.step()
    training.keep()
    again = begun(generator, kept)
    assert (again.resumed, again.seen) == (True, 8)
    assert again.seconds == training.seconds and again.loss == training.loss
    assert torch.equal(again.projection.weight, training.projection.weight)
    for one, other in zip(training.trunk.parameters(), again.trunk.parameters(), strict=True):
        assert torch.equal(one, other)
    seen = [source.batch()[0] for source in (begun(generator).source, again.source)]
    assert not torch.equal(*seen)  # not the same pictures again
    trained(again)
    assert again.seen == 64


def test_a_checkpoint_of_another_generator_is_refused(generator: Generator, tmp_path: Path) -> None:
    kept = tmp_path / "kept.pt"
    begun(generator, kept).keep()
    other = load_generator(tiny_generator_folder(tmp_path / "other", name="other"))
    with pytest.raises(DganError, match=r"kept\.pt is .* training .it is of tiny-"):
        begun(other, kept)
    with pytest.raises(DganError, match="another training"):
        BackboneTraining(generator, SETTINGS, checkpoint=kept)  # a wider trunk
    kept.write_bytes(b"PK cut short")
    with pytest.raises(DganError, match="damaged"):
        begun(generator, kept)


def test_the_command_goes_on_where_it_was_stopped(
    generator: Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    command = ["generator", "backbone", str(tmp_path / "tiny"), "--pictures", "16"]
    step = BackboneTraining.step

    def stopped(self: BackboneTraining) -> dict[str, float]:
        if self.seen:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(BackboneTraining, "step", stopped)
        assert main(command) == 130
    assert not load_backbone(tmp_path / "tiny").trained
    assert main(command) == 0
    assert "resumed after 8 pictures" in capsys.readouterr().out
    assert load_backbone(tmp_path / "tiny").training["pictures"] == 16
    assert not list((tmp_path / "tiny").glob("*checkpoint*"))
    before = (tmp_path / "tiny" / "backbone.safetensors").read_bytes()
    assert main(command) == 2  # versions may stand on it
    assert "has a backbone already" in capsys.readouterr().err
    assert (tmp_path / "tiny" / "backbone.safetensors").read_bytes() == before


def test_a_version_knows_its_backbone(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    add_tiny_backbone(folder)
    made = Segmenter.fit(folder, *labeled_pictures(), "toonhead", plan=QUICK)
    made.save(tmp_path / "v1")
    backbone = load_backbone(folder)
    changed = {k: v + 1 if v.is_floating_point() else v for k, v in backbone.tensors.items()}
    save_backbone(folder, replace(backbone, tensors=changed))
    with pytest.raises(DganError, match=f"needs the backbone {made.card.backbone_id}"):
        Segmenter.load(tmp_path / "v1")
    (folder / "backbone.json").unlink()
    with pytest.raises(DganError, match="which has none; fit it again"):
        Segmenter.load(tmp_path / "v1")


def test_a_backbone_learns_at_any_angle_where_there_is_no_up(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    angles = []

    def watched(count: int, moves: AugmentSettings, *more: Any) -> torch.Tensor:
        angles.append(moves.rotation)
        return warp(count, moves, *more)

    monkeypatch.setattr("dgan_backend.training.backbone.warp", watched)
    for turns in (False, True):
        trained(begun(generator, pictures=16, turns=turns))
    assert angles == [15, 15, 180, 180]


def test_without_a_backbone_students_begin_at_random(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    images, masks = labeled_pictures(classes=3)
    made = Segmenter.fit(folder, images, masks, from_labels("own", ["a", "b"]), plan=QUICK)
    assert made.card.outside == "student" and made.student is not None
    weights = [network.trunk.down[0][0].weight for network in made.student.networks]
    assert not torch.allclose(*weights, atol=0.1)  # each at random by itself
    made.save(tmp_path / "v1")
    loaded = Segmenter.load(tmp_path / "v1")
    board = np.kron(np.indices((4, 4)).sum(axis=0) % 2, np.ones((8, 8))).astype(np.uint8) * 255
    found = loaded.segment_image(np.repeat(board[..., None], 3, axis=2)[:, :24])
    assert found.labels.shape == (32, 24) and found.score > 0  # nothing says that it is foreign
    assert not loaded.backbone.trained and "nothing says which" in loaded.backbone.lacks
    add_tiny_backbone(folder)  # a version stays what it was, whatever its generator gets
    again = Segmenter.load(tmp_path / "v1")
    assert not again.backbone.trained
    same = again.segment_image(images[0]).labels == made.segment_image(images[0]).labels
    assert same.mean() > 0.98  # weights are stored in 16 bits


def test_a_generator_without_anything_labels_pictures_from_outside(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    (folder / "encoder.json").unlink()
    images, masks = labeled_pictures(9, classes=3)
    tree = from_labels("own", ["a", "b"])
    made = Segmenter.fit(folder, images, masks, tree, plan=QUICK)
    assert made.card.outside == "student" and made.card.training["held_back_miou"] == {}
    assert {source.factor for source in made.data.sources} == {0.0}
    assert made.segment_image(images[0]).labels.shape == (16, 16)
    assert made.segment_seed(3).labels.shape == (16, 16)  # the student taught the interpreter
    with pytest.raises(DganError, match="nothing to learn from"):
        Segmenter.fit(folder, images, masks, tree, plan=replace(QUICK, taught=0))
    with pytest.raises(DganError, match="has no encoder"):
        Segmenter.fit(folder, images, masks, tree, plan=replace(QUICK, outside="interpreter"))


def test_a_broken_backbone_is_named(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    tensors = Trunk(TINY_UNET).state_dict()
    tensors.pop(next(iter(tensors)))
    save_backbone(folder, Backbone(TINY_UNET, tensors, 32))
    with pytest.raises(DganError, match=r"backbone\.safetensors does not fit"):
        load_backbone(folder)
    (folder / "backbone.json").write_text("{}")
    with pytest.raises(DganError, match=r"backbone\.json is no backbone card"):
        load_backbone(folder)


def test_what_a_backbone_knows_is_familiar_and_a_chessboard_is_not(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    generator = load_generator(folder)
    training = begun(generator, pictures=160)
    (first,) = training.step().values()
    trunk = trained(training).finish()
    assert 0 < training.loss < min(1.0, first) and math.isfinite(training.loss)
    images = tmp_path / "images"
    images.mkdir()
    for n in range(60):
        sample = generator.synthesis(generator.mapping(generator.latent_from_seed(n))).images
        Image.fromarray(resize(to_pictures(sample)[0], 32, 32)).save(images / f"{n:02d}.png")
    folder_of_pictures = PictureFolder(images, 32, 20)
    familiarity = measure_familiarity(trunk, generator, folder_of_pictures, SETTINGS)
    save_backbone(
        folder, Backbone(TINY_UNET, trunk.state_dict(), 32, familiarity, {"pictures": 160})
    )
    loaded = load_backbone(folder)
    assert loaded.training == {"pictures": 160}
    samples, _ = Pictures(generator, None, None, replace(SETTINGS, seed=9)).batch()
    assert np.median(loaded.factors(samples)) > 0.5
    rows, columns = np.indices((32, 32)) // 8 % 2
    board = torch.from_numpy((rows ^ columns) * 2.0 - 1).float().expand(1, 3, 32, 32)
    assert max(loaded.factors(board)) < 0.2
