"""`generator prepare`: import, encoder and backbone in one, each step skipped or gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dgan_backend.cli import main
from dgan_backend.generators import load_generator
from dgan_backend.generators.native import read_card, write_json
from dgan_backend.inversion.native import has_encoder, load_encoder
from dgan_backend.student.native import load_backbone
from dgan_backend.training.backbone import BackboneTraining
from dgan_backend.training.encoder import EncoderTraining
from tests.builders import tiny_generator_folder
from tests.pickled import ada_pickle, small_tensors


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, and with few pictures to measure errors and what is familiar on."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("dgan_backend.training.preparation.label_side", lambda _: 32)
    monkeypatch.setattr("dgan_backend.training.encoder.measured_count", lambda _: 4)
    monkeypatch.setattr("dgan_backend.training.familiarity._SAMPLES", 16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(ada_pickle(small_tensors(16)))
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder, random = tmp_path / "images", np.random.RandomState(0)
    folder.mkdir()
    for n in range(24):
        picture = random.randint(0, 256, (20, 16, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{n:02d}.png")
    return folder


def prepare(source: Path, out: Path | None = None, *words: object) -> int:
    command = ["generator", "prepare", str(source), *map(str, words)]
    command += ["--encoder-pictures", "32", "--backbone-pictures", "16"]
    return main([*command, "--out", str(out)] if out else command)


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop_after(cls: Any, steps: int, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Ctrl-C, once a training has gone so many steps in this run."""
    step, gone = cls.step, [-3]  # how long it takes is tried first

    def stepped(self: Any) -> Any:
        gone[0] += 1
        if gone[0] > steps:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(cls, "step", stepped)
    return monkeypatch


def test_a_file_becomes_a_folder_with_encoder_and_backbone(
    file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "mine"
    assert prepare(file, out, "--images", images) == 0
    said = capsys.readouterr().out
    for line in ("1 of 3: the generator\n", "2 of 3: the encoder\n", "3 of 3: the backbone\n"):
        assert line in said
    assert "the encoder is to see 32 pictures, in about" in said
    assert "the backbone is to see 16 pictures, in about" in said
    assert f'{{"generator": "{out}"}}' in said
    assert load_encoder(out)[1] is not None
    assert load_backbone(out).familiarity is not None
    assert load_generator(out).id == load_generator(file).id  # its samples stay its samples


def test_a_second_run_does_nothing_and_says_so(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(file, tmp_path / "mine") == 0
    before = everything(tmp_path / "mine")
    capsys.readouterr()
    assert prepare(file, tmp_path / "mine") == 0
    assert capsys.readouterr().out.count("is there already") == 3
    assert everything(tmp_path / "mine") == before


@pytest.mark.parametrize("stopped", [EncoderTraining, BackboneTraining])
def test_a_stopped_run_is_gone_on_with(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stopped: type,
) -> None:
    out = tmp_path / "mine"
    with monkeypatch.context() as patch:
        stop_after(stopped, 1, patch)
        assert prepare(file, out) == 130
    said = capsys.readouterr().out
    assert "the same command goes on from here" in said and "is ready" not in said
    assert not load_backbone(out).trained
    seen = {EncoderTraining: 16, BackboneTraining: 8}[stopped]
    assert prepare(file, out) == 0
    said = capsys.readouterr().out
    assert f"resumed after {seen} pictures" in said
    assert said.count("is there already") == (1 if stopped is EncoderTraining else 2)
    assert load_encoder(out)[1] is not None and load_backbone(out).training["pictures"] == 16


def test_a_run_that_was_killed_while_it_measured_errors_measures_them(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dgan_backend.training.calibration.invert", killed)
        assert prepare(file, tmp_path / "mine") == 130
    assert not has_encoder(tmp_path / "mine")
    capsys.readouterr()
    assert prepare(file, tmp_path / "mine") == 0
    assert "resumed after 32 pictures" in capsys.readouterr().out
    assert load_encoder(tmp_path / "mine")[1] is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"", "it is empty"),
        (ada_pickle(small_tensors(16))[:3000], "network-snapshot.pkl cannot be used"),
    ],
    ids=["page", "empty", "cut short"],
)
def test_of_a_bad_file_nothing_is_written(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, message: str
) -> None:
    file.write_bytes(data)
    assert prepare(file, tmp_path / "in" / "mine") == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_is_wrong_is_said_before_anything_is_written(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    (tmp_path / "empty").mkdir()
    for command, message in (
        ((file, None), "say with --out"),
        ((tmp_path / "nowhere", out), "There is no generator"),
        ((Path("toonhead"), None), "--out"),
        ((file, out, "--images", tmp_path / "nowhere"), "no folder of pictures"),
        ((file, out, "--images", tmp_path / "empty"), "add some"),
    ):
        assert prepare(*command) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny_generator_folder(tmp_path / "other")
    before = everything(other)
    assert prepare(file, other) == 2
    assert "is of another generator, tiny-" in capsys.readouterr().err
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "novel.txt").write_text("Call me")
    assert prepare(file, tmp_path / "texts") == 2
    assert "is no native generator folder" in capsys.readouterr().err
    assert prepare(file, tmp_path / "texts" / "novel.txt") == 2
    assert "novel.txt is a file; --out names a folder" in capsys.readouterr().err
    assert everything(other) == before and len(everything(tmp_path / "texts")) == 1


def test_a_generator_without_a_backbone_is_given_one_in_place_or_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    before = everything(folder)
    assert prepare(folder, tmp_path / "copy", "--turns") == 0
    assert capsys.readouterr().out.count("is there already") == 1  # its encoder
    assert everything(folder) == before
    assert read_card(tmp_path / "copy").turns and load_backbone(tmp_path / "copy").trained
    assert prepare(folder, None, "--turns") == 2
    assert "leave out --turns" in capsys.readouterr().err
    assert prepare(folder) == 0
    assert load_backbone(folder).trained


def test_it_may_be_the_folder_one_is_in(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert prepare(file, Path()) == 0
    assert load_backbone(tmp_path / "here").trained


def test_a_card_tells_what_the_command_was_told(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert prepare(file, out, "--turns", "--licence", "our own") == 0
    card = read_card(out)
    assert card.turns and card.licence == "our own"
    assert prepare(file, out) == 0  # --turns once is enough


def test_little_time_is_said_and_kept_to(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.training.preparation.seconds_a_picture", lambda _: 1.0)
    command = ["generator", "prepare", str(file), "--out", str(tmp_path / "mine")]
    assert main([*command, "--minutes", "0.03"]) == 0
    said = capsys.readouterr().out
    assert "the encoder is to see 1 pictures, in about 1 seconds\n  that is few; give" in said
    about = json.loads((tmp_path / "mine" / "encoder.json").read_text())["training"]
    assert 0 < about["pictures_seen"] < 50_000  # of 100,000, as many as the machine is fast


def test_an_encoder_that_another_command_left_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a `generator train` that was killed leaves one: it is good, and stays."""
    monkeypatch.setattr("dgan_backend.training.running.measured_count", lambda _: 4)
    folder = tiny_generator_folder(tmp_path / "tiny")
    before = (folder / "encoder.safetensors").read_bytes()
    card = json.loads((folder / "encoder.json").read_text())
    write_json(folder / "encoder.json", {**card, "in_domain_errors": None})
    assert prepare(folder) == 0
    said = capsys.readouterr().out
    assert "counts as foreign" in said and "the encoder is to see" not in said
    assert load_encoder(folder)[1] is not None
    assert (folder / "encoder.safetensors").read_bytes() == before


def test_what_was_trained_for_other_weights_is_trained_anew(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    assert prepare(file, out) == 0
    for name in ("encoder.json", "backbone.json"):
        card = json.loads((out / name).read_text())
        write_json(out / name, {**card, "training": {"generator": "before-01234567"}})
    (out / "encoder-checkpoint.pt").unlink()
    assert "trained for before-01234567" in load_backbone(out).lacks
    capsys.readouterr()
    assert prepare(out) == 0
    assert capsys.readouterr().out.count("is there already") == 1
    assert load_encoder(out)[1] is not None and not load_backbone(out).beside


def test_what_is_told_later_is_not_lost(
    file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    assert prepare(file, out) == 0
    capsys.readouterr()
    assert prepare(file, out, "--licence", "our own", "--images", images) == 0
    said = capsys.readouterr().out
    assert read_card(out).licence == "our own" and "its licence is 'our own' now" in said
    assert f"remove {out / 'encoder.json'} and {out / 'backbone.json'} to train" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--minutes", "-1"), "not 0 or more"),
        (("--class", "1"), "--class are for files"),
        (("--class", "1", "--average", "w.npy"), "--class and --average are for files"),
    ],
)
def test_words_that_do_not_fit_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    try:
        assert prepare(tiny_generator_folder(tmp_path / "tiny"), None, *words) == 2
    except SystemExit as ended:
        assert ended.code == 2
    assert message in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(file, tmp_path / "mine") == 0
    card = json.loads((tmp_path / "mine" / "encoder.json").read_text())
    write_json(tmp_path / "mine" / "encoder.json", {**card, "in_domain_errors": None})
    (tmp_path / "mine" / "encoder-checkpoint.pt").write_bytes(b"PK")
    assert prepare(file, tmp_path / "mine") == 2
    assert "encoder-checkpoint.pt is damaged" in capsys.readouterr().err
