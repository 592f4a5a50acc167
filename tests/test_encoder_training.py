"""Training an encoder for a generator that has none."""

from __future__ import annotations

import json
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
from dgan_backend.generators.native import write_json
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.invert import Inversion, InversionSettings, invert
from dgan_backend.inversion.native import has_encoder, load_encoder
from dgan_backend.training.calibration import measured_count, sampled_pictures
from dgan_backend.training.encoder import (
    EncoderPlan,
    EncoderTraining,
    new_encoder,
)
from tests.builders import tiny_generator_folder

QUICK = InversionSettings(steps=2)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda _: None)


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    return load_generator(tiny_generator_folder(tmp_path / "tiny", resolution=32))


@pytest.fixture
def plan(tmp_path: Path) -> EncoderPlan:
    return EncoderPlan(tmp_path / "out", pictures=64, batch=8, rate=5e-3, inversion=QUICK)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("images"), np.random.RandomState(0)
    for i in range(24):
        Image.fromarray(random.randint(0, 256, (40, 30, 3)).astype(np.uint8)).save(
            folder / f"{i:02d}.png"
        )
    return folder


def trained(generator: Generator, plan: EncoderPlan) -> EncoderTraining:
    training = EncoderTraining(generator, plan)
    while not training.done:
        training.step()
    return training


def test_it_learns_to_find_the_latents_of_samples(generator: Generator, plan: EncoderPlan) -> None:
    before, after = new_encoder(generator), trained(generator, replace(plan, pictures=400)).average
    z = torch.randn(16, generator.z_dim, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        w = generator.mapping(z)
        images = generator.synthesis(w).images.clamp(-1, 1)
        errors = [float((e(images) - w).square().mean() / w.var()) for e in (before, after)]
    assert errors[1] < 0.8 * errors[0], errors


def test_pictures_are_learned_from_too_and_say_what_is_foreign(
    generator: Generator, plan: EncoderPlan, images: Path
) -> None:
    training = trained(generator, replace(plan, images=images))
    assert set(training.step()) == {"latent", "pixel", "feature", "stay"}
    assert training.measured_on == "held-back pictures"
    encoder, errors = training.finish()
    kept, known = load_encoder(plan.out)
    assert known == errors and 0 < errors.median <= errors.limit
    picture = training.measured(1)
    assert torch.allclose(kept(picture), encoder(picture), atol=2e-2)  # kept in float16


def test_a_checkpoint_of_other_weights_is_refused(
    generator: Generator, plan: EncoderPlan, tmp_path: Path
) -> None:
    training = EncoderTraining(generator, plan)
    training.step()
    training.keep()
    other = load_generator(tiny_generator_folder(tmp_path / "other", resolution=32))
    other.card = replace(other.card, sha256="f" * 64)  # as if of other weights
    with pytest.raises(DganError, match=r"of another generator .*remove it"):
        EncoderTraining(other, plan)


def test_it_goes_on_where_it_stopped(generator: Generator, plan: EncoderPlan) -> None:
    training = EncoderTraining(generator, plan)
    training.step()
    training.keep()
    again = EncoderTraining(generator, plan)
    assert (again.resumed, again.seen) == (True, 8)
    for one, other in zip(training.encoder.parameters(), again.encoder.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not again.done
    again.seconds = 61.0
    assert not again.done
    assert replace(plan, minutes=1.0).minutes * 60 <= again.seconds


def test_time_ends_it_as_well(generator: Generator, plan: EncoderPlan) -> None:
    training = EncoderTraining(generator, replace(plan, minutes=1.0))
    assert not training.done
    training.seconds = 60.0
    assert training.done


def test_a_checkpoint_of_another_generator_is_refused(
    generator: Generator, plan: EncoderPlan, tmp_path: Path
) -> None:
    EncoderTraining(generator, plan).keep()
    other = load_generator(tiny_generator_folder(tmp_path / "other", resolution=16))
    with pytest.raises(DganError, match="of another generator"):
        EncoderTraining(other, plan)
    (plan.out / "encoder-checkpoint.pt").write_bytes(b"PK cut short")
    with pytest.raises(DganError, match="damaged"):
        EncoderTraining(generator, plan)


def test_a_training_that_diverges_says_so(generator: Generator, plan: EncoderPlan) -> None:
    training = EncoderTraining(generator, plan)
    with torch.no_grad():
        training.encoder.get_submodule("head0").weight.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(DganError, match="smaller --rate"):
        training.step()


@pytest.mark.parametrize(
    ("resolution", "batch", "measured"),
    [(64, 16, 128), (128, 16, 128), (256, 8, 32), (1024, 2, 16), (4096, 2, 16)],
)
def test_larger_pictures_come_in_smaller_batches(
    generator: Generator, resolution: int, batch: int, measured: int
) -> None:
    config = replace(generator.config, resolution=resolution)  # type: ignore[type-var]
    generator.card = replace(generator.card, architecture=config)
    assert generator.at_once == batch
    assert measured_count(resolution) == measured


def test_an_encoder_is_there_when_its_errors_are_known(
    generator: Generator, plan: EncoderPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then there is a checkpoint; and what was measured is not measured again."""
    training, asked = trained(generator, plan), []

    def stopped(made: Generator, encoder: Encoder, images: torch.Tensor, *more: Any) -> Inversion:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(images))
        return invert(made, encoder, images, *more)

    with monkeypatch.context() as patch:
        patch.setattr("dgan_backend.training.calibration.invert", stopped)
        with pytest.raises(KeyboardInterrupt):
            training.finish()
    assert not has_encoder(plan.out) and sum(asked) == 16
    again = EncoderTraining(generator, plan)
    assert again.done and again.errors == training.errors and len(again.errors) == 16
    known = again.finish()[1]
    assert load_encoder(plan.out)[1] == known == trained(generator, fresh(plan)).finish()[1]


def fresh(plan: EncoderPlan) -> EncoderPlan:
    return replace(plan, out=plan.out / "fresh")


def test_errors_are_those_of_the_encoder_as_it_is(generator: Generator, plan: EncoderPlan) -> None:
    training = trained(generator, plan)
    training.finish()
    more = EncoderTraining(generator, replace(plan, pictures=72))
    assert len(more.errors) == 128
    more.step()
    assert more.errors == []


def test_an_encoder_of_other_weights_is_told(
    generator: Generator, plan: EncoderPlan, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    EncoderTraining(generator, replace(plan, out=folder)).finish()
    assert load_encoder(folder)[1] is not None
    card = json.loads((folder / "card.json").read_text())
    write_json(folder / "card.json", {**card, "sha256": "e" * 64})
    with pytest.raises(DganError, match=r"trained for the generator tiny-.*beside it.*eeee.*prepa"):
        load_encoder(folder)
    write_json(folder / "card.json", {**card, "name": "another name"})
    assert load_encoder(folder)[1] is not None


def test_measured_samples_are_the_same_every_time(generator: Generator) -> None:
    assert torch.equal(sampled_pictures(generator, 7, 2), sampled_pictures(generator, 7, 2))


def test_the_command_writes_an_encoder_and_a_sheet(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_generator_folder(tmp_path / "mine")
    (folder / "encoder.json").unlink()
    command = ["generator", "encoder", "train", str(folder), "--images", str(images)]
    assert main([*command, "--pictures", "16", "--batch", "4"]) == 0
    assert "counts as foreign" in capsys.readouterr().out
    assert load_encoder(folder)[1] is not None
    assert (folder / "encoder-sheet.png").is_file()


def test_a_shipped_generator_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generator", "encoder", "train", "toonhead"]) == 2
    assert "--out" in capsys.readouterr().err
