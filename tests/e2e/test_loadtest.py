"""`dgan-backend loadtest`: simulated annotators against the real stack, which it starts itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dgan_backend.supervision import processes


@pytest.fixture
def label_studio() -> str:
    if not os.environ.get("LABEL_STUDIO_PYTHON"):
        pytest.skip("LABEL_STUDIO_PYTHON is not set; `make test` sets it")
    return os.environ["LABEL_STUDIO_PYTHON"]


def command(label_studio: str, folder: Path, *words: str) -> list[str]:
    given = ["--state", str(folder / "state"), "--out", str(folder / "load.json")]
    given += ["--label-studio-python", label_studio, *words]
    return [sys.executable, "-m", "dgan_backend.cli", "loadtest", *given]


def loaded(label_studio: str, folder: Path, *words: str) -> dict[str, Any]:
    """The figures of a load test that ended as it should: nothing lost, nothing doubled."""
    done = subprocess.run(command(label_studio, folder, *words), capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert processes.marked(str(folder / "state")) == []
    return dict(json.loads((folder / "load.json").read_text()))


def test_three_annotators_lose_nothing(label_studio: str, tmp_path: Path) -> None:
    words = ("--annotators", "3", "--minutes", "0.7", "--pictures", "18", "--pause", "2")
    found = loaded(label_studio, tmp_path, *words)
    corrections, routes = found["corrections"], found["routes"]
    assert corrections["submitted"] >= 3 and not found["troubles"]
    assert corrections["lost"] == corrections["missing"] == []
    assert found["predictions"]["doubled"] == {}
    assert found["trainings"]["versions"] >= 1
    heard = corrections["submitted"] + corrections["changed_again"]
    assert routes["/webhook"]["count"] >= heard  # and imports, and its own changes
    assert routes["/predict"]["count"] >= 1 and routes["/predict"]["failed"] == 0
    assert routes["/health while training"]["count"] >= 10
    assert found["memory"]["figures"]["web"]["peak_mib"] > 100
    assert {"redis", "web", "worker-1"} <= set(found["memory"]["samples"])


def test_ctrl_c_ends_all_of_it(label_studio: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with output.open("w") as sink:
        process = subprocess.Popen(
            command(label_studio, tmp_path, "--pictures", "6"), stdout=sink, stderr=sink
        )
    while "Sampling" not in output.read_text():  # all processes are started by then
        assert process.poll() is None, output.read_text()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    status = process.wait(60)
    assert status == 130, f"{status}: {output.read_text()}"
    assert processes.marked(str(tmp_path / "state")) == []


@pytest.mark.soak
def test_twenty_annotators_for_ten_minutes(label_studio: str, tmp_path: Path) -> None:
    """On 2 cores with nothing else to do."""
    found = loaded(label_studio, tmp_path)
    assert found["corrections"]["submitted"] >= 100
    assert set(found["targets"].values()) == {True}, found["targets"]
