"""Hostile pictures and masks: each is read or refused in words, in bounded time and memory."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgan_backend.errors import TaskError
from dgan_backend.labelstudio.images import load_image
from tests import hostile

ROOT = Path(__file__).parent.parent
MOST_MEMORY = 1_100_000_000  # bytes above what the process had before; WebP alone takes 790 MB


@pytest.fixture(autouse=True)
def as_outside_of_tests() -> Iterator[None]:
    """Where Pillow's warnings are no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", list(hostile.good_pictures()))
def test_unusual_pictures_are_read(name: str) -> None:
    assert hostile.take_picture(hostile.good_pictures()[name]) == "read"


@pytest.mark.parametrize("name", list(hostile.bad_pictures()))
def test_what_is_no_picture_is_refused(name: str) -> None:
    assert hostile.take_picture(hostile.bad_pictures()[name]) == "refused"


@pytest.mark.parametrize("name", list(hostile.bad_masks()))
def test_masks_that_cannot_be_read_are_refused(name: str) -> None:
    assert hostile.take_mask(hostile.bad_masks()[name]) == "refused"


def test_far_points_are_outside_of_the_picture() -> None:
    far = hostile.region("polygon", {"points": [[1e308, 1], [-1e308, 50], [3, 1e300]]})
    assert hostile.take_mask(far) in ("read", "refused")


def test_what_masks_are_made_from_is_read() -> None:
    assert [hostile.take_mask(made) for made in hostile.good_masks()] == ["read"] * 3


def test_damaged_ones_are_read_or_refused() -> None:
    for _, picture in hostile.pictures(120, seed=1):
        hostile.take_picture(picture)
    for _, mask in hostile.masks(120, seed=1):
        hostile.take_mask(mask)


@pytest.mark.parametrize(
    "url",
    [
        "../../../../etc/passwd",
        "/etc/passwd\0.png",
        "file:///etc/passwd",
        "\\\\host\\share\\a.png",
        "/data/local-files/?d=../../etc/passwd",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:text/plain,../../etc/passwd",
        "jar:file:///a!/b",
        "http://",
        "http://[::1",
        "http://a b/",
    ],
)
def test_paths_open_no_file_and_no_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    real = builtins.open

    def watched(file: Any, *args: Any, **options: Any) -> Any:
        if "passwd" in str(file):
            opened.append(file)
        return real(file, *args, **options)

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr("socket.socket.connect", lambda *args: opened.append(args))
    with pytest.raises(TaskError, match="Task 3"):
        load_image({"id": 3, "data": {"image": url}}, "image")
    assert not opened


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0x7f000001",
        "2130706433",
        "127.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "[fe80::1]",
        "10.0.0.1",
        "192.168.0.1",
        "[fd00:ec2::254]",
        "100.100.100.200",
    ],
)
def test_private_addresses_are_refused_before_connecting(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they are written; the error names the host and what would allow it."""
    connected: list[Any] = []
    monkeypatch.setattr("socket.socket.connect", lambda *args: connected.append(args))
    with pytest.raises(TaskError) as caught:
        load_image({"id": 3, "data": {"image": f"http://{host}/latest/meta-data"}}, "image")
    assert "ALLOWED_IMAGE_HOSTS" in str(caught.value)
    assert host.strip("[]") in str(caught.value)
    assert not connected


def measured(pictures: int, masks: int) -> dict[str, Any]:
    """In a process of its own, whose memory is that of nothing else."""
    command = [sys.executable, "-m", "tests.hostile"]
    command += ["--pictures", str(pictures), "--masks", str(masks)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_of_each() -> None:
    told = measured(1000, 1000)
    print(f"1,000 hostile pictures and 1,000 masks: {json.dumps(told)}")
    assert sum(told["pictures"].values()) == sum(told["masks"].values()) == 1000
    assert told["large pictures"] == {"read": 9}
    assert told["large masks"] == {"read": 3}
    assert told["peak"] - told["before"] < MOST_MEMORY
    assert told["slowest"] < 30
