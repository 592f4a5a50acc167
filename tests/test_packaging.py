"""A wheel holds everything that a command needs, and an empty environment runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tracked files, built from a copy so that no build product is left."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    names = ("dgan_backend", "partonomies", "setup.cfg", "pyproject.toml", "README.md", "LICENSE",
             "NOTICE")  # fmt: skip
    for name in names:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", ROOT / name, target], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, copy]
    subprocess.run(command, check=True, timeout=240)
    (built,) = folder.glob("*.whl")
    return built


def test_every_module_and_every_shipped_file_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for path in (ROOT / "dgan_backend").rglob("*"):
        if path.is_file() and path.suffix not in (".pyc",):
            assert str(path.relative_to(ROOT)) in held
    for path in (ROOT / "partonomies").glob("*.yaml"):
        assert f"dgan_backend/partonomies/{path.name}" in held


def test_shipped_weights_are_small() -> None:
    size = sum(p.stat().st_size for p in ROOT.glob("dgan_backend/shipped/**/*.safetensors"))
    assert 0 < size < 40 * 2**20


def test_a_wheel_samples_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """The wheel alone on the path, in place of the checkout; its dependencies are at hand."""
    installed = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", installed]
    subprocess.run([*command, wheel], check=True, timeout=240)
    code = "from dgan_backend.cli import main; import dgan_backend; print(dgan_backend.__file__); "
    code += "raise SystemExit(main(['sample', '--count', '2', '--sheet', 'sheet.png']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    assert (tmp_path / "sheet.png").stat().st_size > 1000
