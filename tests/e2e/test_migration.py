"""Labels drawn in LabelMe arrive in a real Label Studio, once, pixel for pixel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dgan_backend.cli import main
from dgan_backend.demo import project as demo_project
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.labelstudio.project import open_project
from dgan_backend.loop.training import read_corrections
from dgan_backend.partonomy import load_partonomy
from tests.e2e.conftest import Demo
from tests.migrations import box, labelme_file, shape

TOONHEAD = load_partonomy("toonhead")
FACE, NOSE, HAIR = 3, 5, 15


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Two heads in a LabelMe folder, one with its picture inside: file -> the mask it says."""
    masks = {}
    for number, found in enumerate(demo_project.outside()[:2]):
        with Image.open(found.path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        height, width = pixels.shape[:2]
        middle = height // 2
        nose = (middle, middle, middle + 20, middle + 15)
        face = (40, 30, height - 30, width - 20)
        shapes = [
            shape("nose", box(*nose)),  # before the face that it lies on
            shape("Skin", [[face[1], face[0]], [face[3], face[2]]], "rectangle"),
            shape("hair", [[-50, -50], [width + 50, -50], [width + 50, 40], [-50, 40]]),
            shape("nose", [[5, 5], [9, 9]], "line"),
        ]
        path = tmp_path / "heads" / f"head {number}.json"
        labelme_file(path, shapes, pixels, embedded=number == 1)
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[face[0] : face[2], face[1] : face[3]] = FACE
        mask[nose[0] : nose[2], nose[1] : nose[3]] = NOSE
        mask[:40] = HAIR
        masks[path.name] = mask
    return masks


@pytest.fixture(params=["brush", "polygon"])
def project(api: LabelStudioClient, request: pytest.FixtureRequest) -> Iterator[int]:
    config = labeling_config(TOONHEAD, request.param)
    number = int(api.create_project(f"Labels from before, {request.param}", config)["id"])
    yield number
    api.request("DELETE", f"/api/projects/{number}/")


def test_a_labelme_folder_is_imported_once(
    demo: Demo,
    api: LabelStudioClient,
    project: int,
    drawn: dict[str, npt.NDArray[np.uint8]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", demo.facts["label_studio_url"])
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", demo.facts["token"])
    command = ["import-labels", str(tmp_path / "heads"), "--project", str(project)]
    command += ["--state", str(demo.state)]

    assert main([*command, "--dry-run"]) == 0
    assert "Shapes without an area, left out: 2 line." in capsys.readouterr().out
    assert list(api.summaries(project)) == []

    assert main(command) == 0
    assert capsys.readouterr().out.endswith(f"Made in project {project}: 2 annotated tasks.\n")
    tasks = list(api.tasks(project))
    assert [task["total_annotations"] for task in tasks] == [1, 1]

    about = api.project(project)
    binding = open_project(str(project), about["label_config"]).binding
    assert binding is not None
    corrections = read_corrections(api, project)  # what training reads
    sources = [correction.data["dgan"]["source"] for correction in corrections]
    assert sources == list(drawn)
    for correction, expected in zip(corrections, drawn.values(), strict=True):
        assert np.array_equal(correction.mask(binding, *expected.shape), expected)
        shown = api.get_bytes(correction.data["image"])
        assert shown.startswith(b"\x89PNG")

    assert main(command) == 0
    said = f"Made in project {project}: 0 annotated tasks. 2 pictures had come before.\n"
    assert capsys.readouterr().out.endswith(said)
    assert [task["id"] for task in api.tasks(project)] == [task["id"] for task in tasks]
    assert len(api.uploads(project)) == 2
