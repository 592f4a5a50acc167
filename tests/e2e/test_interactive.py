"""Smart tools in a real Label Studio: a click or a stroke is answered with the part there."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from dgan_backend.demo import project as demo_project
from dgan_backend.labelstudio.binding import bind
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.partonomy import load_partonomy
from tests.drawing import click, drawn, stroke
from tests.e2e.conftest import Demo

TOONHEAD = load_partonomy("toonhead")
CONFIG = labeling_config(TOONHEAD, smart=True)
BINDING = bind(parse_config(CONFIG), None)
AT_ONCE = 1.0  # seconds
PARTS = ["hair", "face", "eyebrow", "clothes"]


class Studio:
    """A project whose one task was opened, and its backend."""

    def __init__(self, api: LabelStudioClient, project: int, backend: int) -> None:
        self.project = project
        self._api, self._backend = api, backend
        (task,) = api.tasks(project)
        opened = api.task(task["id"])
        self.task = int(task["id"])
        picture = Image.open(io.BytesIO(api.get_bytes(opened["data"]["image"])))
        self.size = (picture.height, picture.width)
        self.version = opened["predictions"][0]["model_version"]
        self.labels = self.read(opened["predictions"][0]["result"])

    def read(self, regions: list[dict[str, Any]]) -> npt.NDArray[np.uint8]:
        return to_label_map(regions, BINDING, *self.size)

    def ask(self, *regions: dict[str, Any]) -> dict[str, Any]:
        """What the editor asks for when something was drawn; checks that it is answered at once."""
        began = time.monotonic()
        answer = self._api.request(
            "POST",
            f"/api/ml/{self._backend}/interactive-annotating",
            json={"task": self.task, "context": {"result": list(regions)}},
        )
        took = time.monotonic() - began
        print(f"answered after {took:.3f} s")
        assert took < AT_ONCE
        assert "errors" not in answer
        return dict(answer["data"])


@pytest.fixture(scope="module")
def studio(demo: Demo) -> Iterator[Studio]:
    facts = demo.facts
    with LabelStudioClient(facts["label_studio_url"], facts["token"], timeout=120) as api:
        project = int(api.create_project("Smart tools", CONFIG)["id"])
        api.upload_files(project, [demo_project.outside()[0].path])
        backend = api.connect_backend(project, facts["backend_url"], interactive=True)
        yield Studio(api, project, int(backend["id"]))
        api.request("DELETE", f"/api/projects/{project}/")


def index_of(name: str) -> int:
    return TOONHEAD.classes.index(name)


@pytest.mark.parametrize("name", PARTS)
def test_a_click_gets_that_part(studio: Studio, name: str) -> None:
    places = np.argwhere(studio.labels == index_of(name))
    row, column = (int(number) for number in places[len(places) // 2])
    answer = studio.ask(click(row, column, studio.size))
    (region,) = answer["result"]
    assert answer["model_version"] == studio.version
    assert (region["type"], region["from_name"]) == ("brushlabels", "parts")
    assert region["value"]["brushlabels"] == [name]
    part = studio.read([region])
    assert part[row, column] == index_of(name)
    assert (studio.labels[part > 0] == index_of(name)).all()


def test_a_rough_stroke_with_a_label_gets_that_part_at_that_place(studio: Studio) -> None:
    eyebrow = studio.labels == index_of("eyebrow")
    row, column = (int(number) for number in np.argwhere(eyebrow)[0])
    rough = np.zeros(studio.size, dtype=bool)
    rough[max(0, row - 2) : row + 3, max(0, column - 6) : column + 7] = True
    (region,) = studio.ask(stroke(rough, "eyebrow", from_name="parts"))["result"]
    part = studio.read([region]) > 0
    assert region["value"]["brushlabels"] == ["eyebrow"]
    assert part[row, column] and eyebrow[part].all()


def test_background_gets_nothing(studio: Studio) -> None:
    row, column = (int(number) for number in np.argwhere(studio.labels == 0)[0])
    answer = studio.ask(click(row, column, studio.size))
    assert answer["result"] == [] and "there is no part" in answer["reason"]


def test_a_context_that_cannot_be_used_is_said(studio: Studio) -> None:
    answer = studio.ask(drawn("choices", {"choices": ["blurred"]}, studio.size))
    assert answer["result"] == [] and "smart tools" in answer["reason"]
