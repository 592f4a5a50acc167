"""Commands that compute, as a person runs them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dgan_backend.cli import main
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.native import load_backbone
from tests.builders import labeled_pictures, tiny_generator_folder, tiny_segmenter

ROOT = Path(__file__).parent.parent


def _run(*args: object) -> subprocess.CompletedProcess[str]:
    """In this process: importing torch takes longer than all that these commands do."""
    said, told = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(told):
            status = main([str(arg) for arg in args])
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    return subprocess.CompletedProcess(args, status, said.getvalue(), told.getvalue())


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda _: None)
    yield
    signal.signal(signal.SIGTERM, handler)


def _run_apart(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dgan_backend.cli", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT), "THREADS": "1"},
    )


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workbench")
    tiny_segmenter(folder).save(folder / "v1")
    return folder / "v1"


def test_sample_writes_sheet_and_files(version: Path, tmp_path: Path) -> None:
    done = _run(
        "sample", "--model", version, "--count", 3, "--seed", 5,
        "--sheet", tmp_path / "s.png", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 samples of tiny-" in done.stdout
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 128 * 3
    with Image.open(tmp_path / "out" / "0000000007.labels.png") as labels:
        assert labels.mode == "P"
        assert np.asarray(labels).shape == (16, 16)
    assert np.load(tmp_path / "out" / "0000000007.uncertainty.npy").shape == (16, 16)


def test_segment_does_the_others_when_one_is_broken(version: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    Image.new("RGB", (30, 20), "red").save(tmp_path / "good.png")
    done = _run(
        "segment", tmp_path / "bad.png", tmp_path / "good.png", "--model", version,
        "--out", tmp_path / "out", "--sheet", tmp_path / "s.png",
    )  # fmt: skip
    assert done.returncode == 2
    assert "bad.png cannot be read" in done.stdout + done.stderr
    with Image.open(tmp_path / "out" / "good.labels.png") as labels:
        assert labels.size == (30, 20)


def test_fit_from_a_folder_to_a_version(tmp_path: Path) -> None:
    generator = tiny_generator_folder(tmp_path / "tiny")
    images, masks = labeled_pictures(3)
    np.savez(tmp_path / "pairs.npz", image=images, mask=masks)
    done = _run(
        "fit", tmp_path / "pairs.npz", "--generator", generator, "--count", 2,
        "--steps", 10, "--pictures", 8, "--out", tmp_path / "mine",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fitted on 2 pictures" in done.stdout
    assert "peak memory" in done.stdout
    again = _run(
        "fit", tmp_path / "pairs.npz", "--generator", generator, "--out", tmp_path / "mine"
    )
    assert "has no backbone" in done.stdout
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert _run("sample", "--model", tmp_path / "mine", "--count", 1).returncode == 0


def test_train_and_show_a_generator(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(6):
        Image.new("RGB", (20, 16), (40 * i, 90, 200)).save(tmp_path / "in" / f"{i}.png")
    done = _run(
        "generator", "train", "--images", tmp_path / "in", "--out", tmp_path / "run",
        "--resolution", 16, "--start-resolution", 16, "--z-dim", 8, "--channels", 8, 8, 8,
        "--pictures", 16, "--batch", 8, "--name", "mine",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a new training" in done.stdout
    shown = _run("generator", "show", tmp_path / "run" / "mine")
    assert '"pictures_seen": 16' in shown.stdout


def test_errors_are_one_sentence_and_status_2(tmp_path: Path) -> None:
    done = _run_apart("sample", "--model", tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("dgan-backend: There is no version")
    assert "Traceback" not in done.stderr


def test_help_names_every_command() -> None:
    text = _run("--help").stdout
    for command in ("sample", "segment", "fit", "generator", "serve", "worker", "start", "demo"):
        assert command in text


def test_a_backbone_is_trained_and_students_are_fitted_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgan_backend.training.familiarity._SAMPLES", 40)
    monkeypatch.setattr("dgan_backend.training.familiarity._PICTURES", 40)
    folder = tiny_generator_folder(tmp_path / "tiny")
    images, masks = labeled_pictures(12, 32, 32, classes=3)
    for name in ("images", "pairs/images", "pairs/masks"):
        (tmp_path / name).mkdir(parents=True)
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        Image.fromarray(image).save(tmp_path / "images" / f"{n}.png")
        Image.fromarray(image).save(tmp_path / "pairs" / "images" / f"{n}.png")
        Image.fromarray(mask).save(tmp_path / "pairs" / "masks" / f"{n}.png")
    done = _run("generator", "backbone", folder, "--images", tmp_path / "images", "--pictures", 16)
    assert done.returncode == 0, done.stderr
    backbone = load_backbone(folder)
    assert backbone.familiarity is not None
    assert backbone.training["pictures"] == 16
    done = _run(
        "fit", tmp_path / "pairs", "--generator", folder, "--count", 2, "--out", tmp_path / "v1",
        "--steps", 5, "--members", 1, "--pictures", 8,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "student" in done.stdout
    assert Segmenter.load(tmp_path / "v1").card.outside == "student"


def test_a_backbone_with_nothing_to_do_is_said(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    done = _run("generator", "backbone", folder, "--pictures", 0)
    assert done.returncode == 2
    assert "nothing to do" in done.stderr
