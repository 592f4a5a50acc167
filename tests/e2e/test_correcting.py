"""A person corrects a pre-label in the browser, and sees on /status what came of it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from dgan_backend.cli import main
from dgan_backend.demo import project as demo_project
from dgan_backend.labelstudio import brush
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.partonomy import load_partonomy
from tests.e2e.conftest import Demo

PART = "hair"
REGION = ".lsf-outliner-item__title"
SHOWN = 60_000  # milliseconds
SECONDS = 240.0
Json = dict[str, Any]


class Desk:
    """A project of the demo's Label Studio, the browser of a person, and /status."""

    def __init__(self, demo: Demo, api: LabelStudioClient, page: Page, shots: Path) -> None:
        self.demo, self.api, self.page, self._shots = demo, api, page, shots
        config = labeling_config(load_partonomy("toonhead"))
        self.project = int(api.create_project("Heads of the night shift", config)["id"])
        backend = demo.facts["backend_url"]
        api.connect_backend(self.project, backend, title="toonhead-shipped")
        pictures = [picture.path for picture in demo_project.outside()[:4]]
        self.tasks = api.upload_files(self.project, pictures)
        self.corrected: list[int] = []

    @property
    def address(self) -> str:
        return f"{self.demo.facts['backend_url']}/status"

    def section(self, page: Page) -> Locator:
        """The project's part of the status page."""
        return page.locator("section", has=page.locator(f'h2:has-text("#{self.project}")'))

    def status(self, **query: Any) -> Json:
        answer = httpx.get(self.address, params=query, trust_env=False, timeout=30)
        return dict(answer.raise_for_status().json())

    def told(self) -> Json:
        (project,) = [p for p in self.status()["projects"] if p["project"] == self.project]
        return dict(project)

    def until(self, done: Callable[[Json], object], what: str) -> Json:
        began = time.monotonic()
        while not done(told := self.told()):
            assert time.monotonic() - began < SECONDS, f"{what}: {told}"
            time.sleep(1)
        return told

    def open(self, task: int) -> None:
        where = f"/projects/{self.project}/data?task={task}"
        self.page.goto(self.demo.facts["label_studio_url"] + where)
        self.page.wait_for_selector(REGION, timeout=SHOWN)
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(2000)  # the masks are painted after they are listed

    def erase(self, task: int) -> None:
        """Wipe over a part with the eraser, and submit."""
        rows, columns = np.nonzero(self.mask(self.api.predictions(task)[0]))
        row = int(np.bincount(rows).argmax())  # where the part is widest
        wide = np.sort(columns[rows == row])
        size = self.size(task)
        self.page.locator(REGION, has_text=PART).filter(has_text=PART).first.click()
        self.page.locator('button[aria-label="eraser"]').click()
        box = self.page.locator("img[alt=image]").bounding_box()
        assert box is not None
        x = [box["x"] + (c + 0.5) / size[1] * box["width"] for c in (wide[0], wide[-1])]
        y = box["y"] + (row + 0.5) / size[0] * box["height"]
        for offset in (-8, 0, 8):
            self.page.mouse.move(x[0], y + offset)
            self.page.mouse.down()
            self.page.mouse.move(x[1], y + offset, steps=25)
            self.page.mouse.up()
        self.page.wait_for_timeout(1000)
        self.shoot("erased")
        self.page.locator('[data-testid="bottombar-submit-button"]').click()
        expect(self.page.locator('[data-testid="bottombar-update-button"]')).to_be_visible(
            timeout=SHOWN
        )
        self.corrected.append(task)

    def size(self, task: int) -> tuple[int, int]:
        """Height and width of a task's picture."""
        data = self.api.task(task)["data"]["image"]
        picture = Image.open(io.BytesIO(self.api.get_bytes(data)))
        return picture.height, picture.width

    def mask(self, told: Json) -> npt.NDArray[np.bool_]:
        """Where a prediction or an annotation has the part."""
        (region,) = [r for r in told["result"] if PART in r["value"]["brushlabels"]]
        size = region["original_height"], region["original_width"]
        return np.asarray(brush.decode(region["value"]["rle"], *size)) > 0

    def shoot(self, name: str, page: Page | None = None) -> None:
        """page: another than Label Studio's, whole."""
        shown = page or self.page
        shown.screenshot(path=self._shots / f"{name}.png", full_page=page is not None)


@pytest.fixture(scope="module")
def desk(demo: Demo, api: LabelStudioClient, page: Page, screenshots: Path) -> Iterator[Desk]:
    desk = Desk(demo, api, page, screenshots)
    page.set_viewport_size({"width": 1280, "height": 860})
    yield desk
    api.request("DELETE", f"/api/projects/{desk.project}/")


def test_part_of_a_mask_is_erased_and_reaches_training(desk: Desk) -> None:
    desk.until(lambda told: len(_labeled(desk)) == 4, "pre-labels")
    task = desk.tasks[0]
    before = desk.mask(desk.api.predictions(task)[0])
    desk.open(task)
    desk.shoot("prelabeled")
    desk.erase(task)

    (annotation,) = desk.api.task(task)["annotations"]
    after = desk.mask(annotation)
    assert annotation["parent_prediction"] is not None
    assert not after[~before].any()  # nothing was added
    assert 0.02 < 1 - after.sum() / before.sum() < 0.9  # and a part of it erased

    told = desk.until(lambda told: any(task in v["new"] for v in told["versions"]), "a version")
    version = told["versions"][-1]
    assert version["serves"] and version["name"] == told["version"]
    assert version["corrected"]["classes"][PART] > 0.01
    assert told["effort"]["corrections"] == 1 and told["effort"]["seconds"] > 0
    (answer,) = desk.status(task=task)["answers"]
    said = [answer["reason"], *answer["more"]]
    assert f"Its annotation was new to version {version['name']}." in said


def _labeled(desk: Desk) -> list[int]:
    return [task.id for task in desk.api.summaries(desk.project) if task.predictions]


@pytest.fixture
def status_page(desk: Desk) -> Iterator[Page]:
    """A window of its own, which notes what it asked for and what it complained of."""
    browser = desk.page.context.browser
    assert browser is not None
    page = browser.new_page(viewport={"width": 1100, "height": 860})
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(desk.address)
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((desk.address, "data:"))] == []
    assert wrong == []


def test_the_page_shows_it(desk: Desk, status_page: Page) -> None:
    desk.until(lambda told: all(j["state"] == "idle" for j in told["jobs"]), "the end of jobs")
    section = desk.section(status_page)
    expect(section).to_contain_text(f"p{desk.project}-toonhead-v0001", timeout=SHOWN)
    expect(section).to_contain_text("Heads of the night shift")
    expect(section.locator(".heat")).to_contain_text(PART)
    desk.shoot("status", status_page)
    status_page.set_viewport_size({"width": 390, "height": 844})
    desk.shoot("status-phone", status_page)


def test_a_question_is_answered_on_the_page(desk: Desk, status_page: Page) -> None:
    status_page.fill("input[name=task]", str(desk.tasks[0]))
    status_page.click("text=Tell me")
    answer = status_page.locator(".answer")
    expect(answer).to_contain_text(f"new to version p{desk.project}-toonhead-v0001")
    desk.shoot("status-task", status_page)


def test_it_renews_itself_and_pauses_and_resumes(desk: Desk, status_page: Page) -> None:
    """While it is paused, what people submit waits; then it is learned from."""
    task, section = desk.tasks[1], desk.section(status_page)
    section.locator("text=Pause").click()
    expect(section.locator(".chip.held", has_text="paused")).to_be_visible()
    (prediction,) = desk.api.predictions(task)
    body = {"result": prediction["result"][:-1], "parent_prediction": prediction["id"]}
    desk.api.request("POST", f"/api/tasks/{task}/annotations/", json=body)
    expect(section).to_contain_text("waits until the project goes on", timeout=SHOWN)
    time.sleep(6)  # three passes of the sweeper
    assert not any(task in version["new"] for version in desk.told()["versions"])
    desk.shoot("status-paused", status_page)
    section.locator("text=Resume").click()
    expect(section.locator(".chip.busy").first).to_be_visible(timeout=SHOWN)
    desk.shoot("status-working", status_page)
    desk.until(lambda told: any(task in v["new"] for v in told["versions"]), "a version")


def test_what_is_forgotten_is_gone_and_label_studio_keeps_its_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for backend in desk.api.backends(desk.project):
        desk.api.request("DELETE", f"/api/ml/{backend['id']}")
    models = desk.demo.state / "models"
    assert list(models.glob(f"p{desk.project}-*"))
    monkeypatch.setenv("MODEL_DIR", str(models))
    command = ["forget", "--project", str(desk.project), "--state", str(desk.demo.state)]
    assert main([*command, "--yes"]) == 0
    assert f"p{desk.project}-toonhead-v0001" in capsys.readouterr().out
    assert not list(models.glob(f"p{desk.project}-*"))
    assert not list(models.glob(f"twins/p{desk.project}-*"))
    assert desk.project not in [p["project"] for p in desk.status()["projects"]]
    assert len(desk.api.task(desk.tasks[0])["annotations"]) == 1
