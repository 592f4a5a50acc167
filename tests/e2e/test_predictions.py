"""Pre-labels on their way through a real Label Studio."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from dgan_backend.demo import project as demo_project
from dgan_backend.labelstudio import brush
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import parse_config
from tests.e2e.conftest import Demo, settled


def setup_version(demo: Demo, api: LabelStudioClient) -> str:
    """The model_version that the backend's own /setup gives."""
    facts = demo.facts
    body = {
        "project": f"{demo.project}.0",
        "schema": api.project(demo.project)["label_config"],
        "hostname": facts["label_studio_url"],
        "access_token": facts["token"],
        "extra_params": None,
    }
    answer = httpx.post(f"{facts['backend_url']}/setup", json=body, trust_env=False)
    return str(answer.raise_for_status().json()["model_version"])


def check_regions(regions: list[dict[str, Any]], size: tuple[int, int], config: str) -> None:
    """Brush regions at the picture's own size, of labels that the config has."""
    labels = {label.spelling for label in parse_config(config).labels}
    width, height = size
    for region in regions:
        assert (region["original_width"], region["original_height"]) == size
        assert region["type"] == "brushlabels"
        assert set(region["value"]["brushlabels"]) <= labels
        mask = brush.decode(region["value"]["rle"], height, width)
        assert mask.shape == (height, width)
        assert mask.any()


def picture(api: LabelStudioClient, task: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(api.get_bytes(task["data"]["image"])))


def test_every_picture_arrives_with_its_parts(demo: Demo, api: LabelStudioClient) -> None:
    config = api.project(demo.project)["label_config"]
    version = setup_version(demo, api)
    ids = [task["id"] for task in api.tasks(demo.project)]
    assert len(ids) == 24
    for number in ids:  # they are being labeled meanwhile
        api.task(number)
    settled(api, demo.project, version)
    for number in ids:
        task = api.task(number)
        name = task["data"]["name"]
        assert len(task["predictions"]) == 1, name
        prediction = task["predictions"][0]
        assert prediction["model_version"] == version, name
        assert 0 <= prediction["score"] <= 1, name
        assert len(prediction["result"]) >= 3, name
        check_regions(prediction["result"], picture(api, task).size, config)
    stored = list(api.tasks(demo.project))
    assert [len(task["predictions"]) for task in stored] == [1] * 24


def test_half_of_the_pictures_are_samples_with_a_latent(demo: Demo, api: LabelStudioClient) -> None:
    latents = [task["data"].get("latent") for task in api.tasks(demo.project)]
    assert latents[:12] == [None] * 12
    assert [latent["seed"] for latent in latents[12:]] == list(range(1, 13))


def test_the_backend_is_connected_with_its_webhook(demo: Demo, api: LabelStudioClient) -> None:
    backend = demo.facts["backend_url"]
    assert [(row["url"], row["state"]) for row in api.backends(demo.project)] == [(backend, "CO")]
    assert [row["url"] for row in api.webhooks(demo.project)] == [f"{backend}/webhook"]


def test_scores_can_be_shown_and_sorted_by(demo: Demo, api: LabelStudioClient) -> None:
    """Label Studio does so only for the version that the project names."""
    settled(api, demo.project, setup_version(demo, api))
    number = next(api.tasks(demo.project))["id"]
    score = api.task(number)["predictions"][0]["score"]
    assert api.project(demo.project)["model_version"] == setup_version(demo, api)
    (first,) = [task for task in api.tasks(demo.project) if task["id"] == number]
    assert first["predictions_score"] == pytest.approx(score)


@pytest.fixture
def mixed_project(demo: Demo, api: LabelStudioClient, tmp_path: Path) -> int:
    """A second project, whose second picture of three is no picture."""
    config = api.project(demo.project)["label_config"]
    project = int(api.create_project("A corrupt picture", config)["id"])
    good = demo_project.outside()[0].path.read_bytes()
    files = {"a.png": good, "b.png": b"\x89PNG\r\n\x1a\n" + bytes(100), "c.png": good}
    paths = []
    for name, content in files.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    api.upload_files(project, paths)
    api.connect_backend(project, demo.facts["backend_url"])
    return project


def test_a_corrupt_picture_takes_no_other_along(api: LabelStudioClient, mixed_project: int) -> None:
    api.request(
        "POST",
        "/api/dm/actions",
        params={"id": "retrieve_tasks_predictions", "project": mixed_project},
        json={"selectedItems": {"all": True, "excluded": []}},
    )
    settled(api, mixed_project, "toonhead-shipped")
    found = {}
    for task in api.tasks(mixed_project):
        assert len(task["predictions"]) == 1
        name = task["data"]["image"].rpartition("-")[2]
        found[name] = task["predictions"][0]
    assert sorted(found) == ["a.png", "b.png", "c.png"]
    assert found["b.png"]["result"] == []
    assert found["b.png"]["score"] == 0
    for name in ("a.png", "c.png"):
        assert len(found[name]["result"]) >= 3
    rle = [region["value"]["rle"] for region in found["a.png"]["result"]]
    again = [region["value"]["rle"] for region in found["c.png"]["result"]]
    assert all(np.array_equal(one, other) for one, other in zip(rle, again, strict=True))


def test_tasks_that_lack_a_version_are_counted(demo: Demo, api: LabelStudioClient) -> None:
    """By this the sweep finds what no event told of."""
    version = setup_version(demo, api)
    settled(api, demo.project, version)
    assert api.count_without(demo.project, version) == 0
    assert api.count_without(demo.project, f"p{demo.project}-toonhead-v0009") == 24
