"""What a person sees, in a real browser."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Page

from dgan_backend.labelstudio.client import LabelStudioClient
from tests.e2e.conftest import Demo

REGION = ".lsf-outliner-item__title"
SHOWN = 60_000  # milliseconds


def task_named(demo: Demo, api: LabelStudioClient, name: str) -> dict[str, Any]:
    (task,) = [task for task in api.tasks(demo.project) if task["data"]["name"] == name]
    return api.task(task["id"])


def seen(page: Page) -> Image.Image:
    """The picture as it shows, with what lies over it."""
    box = page.locator("img[alt=image]").bounding_box()
    assert box is not None
    return Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")


def pixels(image: Image.Image) -> npt.NDArray[np.int16]:
    return np.asarray(image, np.int16)


@pytest.mark.parametrize("name", ["outside-01.png", "sample-0001.png"])
def test_the_parts_show_over_the_picture(
    demo: Demo, api: LabelStudioClient, page: Page, screenshots: Path, name: str
) -> None:
    task = task_named(demo, api, name)
    regions = task["predictions"][0]["result"]
    page.goto(f"{demo.facts['label_studio_url']}/projects/{demo.project}/data?task={task['id']}")
    page.wait_for_selector(REGION, timeout=SHOWN)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(2000)  # the masks are painted after they are listed
    page.screenshot(path=screenshots / f"{Path(name).stem}.png")

    listed = page.locator(REGION).all_inner_texts()
    labels = [region["value"]["brushlabels"][0] for region in regions]
    assert sorted(listed) == sorted(labels)
    shown = seen(page)
    bare = Image.open(io.BytesIO(api.get_bytes(task["data"]["image"]))).convert("RGB")
    bare = bare.resize(shown.size, Image.Resampling.NEAREST)
    tinted = np.abs(pixels(shown) - pixels(bare)).max(axis=2) > 24
    assert tinted.mean() > 0.05, "the picture shows without masks"


def test_the_list_shows_the_score(demo: Demo, page: Page, screenshots: Path) -> None:
    page.goto(f"{demo.facts['label_studio_url']}/projects/{demo.project}/data")
    page.wait_for_selector("text=outside-01.png", timeout=SHOWN)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=screenshots / "list.png")
    assert page.locator("text=Prediction score").count() >= 1


def test_nothing_is_fetched_from_elsewhere(demo: Demo, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{demo.facts['label_studio_url']}/projects")
    page.wait_for_load_state("networkidle")
    page.goto(f"{demo.facts['label_studio_url']}/projects/{demo.project}/settings/ml")
    page.wait_for_load_state("networkidle")
    assert page.locator("text=Connected").count() >= 1
    ours = (demo.facts["label_studio_url"], "data:", "blob:")
    assert [url for url in asked if not url.startswith(ours)] == []
