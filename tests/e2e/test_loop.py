"""The loop through a real Label Studio: pre-labels on import, corrections, new versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from dgan_backend import metrics
from dgan_backend.fitting import FitPlan
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.client import LabelStudioClient, TaskSummary
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.project import project_uid
from dgan_backend.labelstudio.regions import to_label_map, to_regions
from dgan_backend.loop.training import read_corrections
from dgan_backend.partonomy import from_labels, load_partonomy
from dgan_backend.pictures import decode_picture
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.student import StudentSettings
from dgan_backend.synthesis import sister
from dgan_backend.synthesis.batch import Mark, first_seed
from tests.e2e.conftest import Demo

REFERENCE = Path(__file__).parents[1] / "data" / "toonhead" / "reference.npz"
TONGUE, BEARD = 9, 10
OUTSIDE = 40  # pictures that are imported
CORRECTED = 8  # of them
SYNTHETIC = 4  # tasks after each version
SECONDS = 300.0


def until(done: Callable[[], Any], what: str, seconds: float = SECONDS, pause: float = 2.0) -> Any:
    """Wait for something to become true."""
    began = time.monotonic()
    while not (found := done()):
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(pause)
    return found


class Team:
    """A project, its pictures, and the person who corrects them: the reference masks.

    config: a labeling config, whose labels `pairs` are to be changed to by hand [toonhead's]
    """

    def __init__(
        self,
        demo: Demo,
        api: LabelStudioClient,
        title: str,
        chosen: list[int],
        config: str = "",
    ) -> None:
        self.demo, self.api = demo, api
        config = config or labeling_config(load_partonomy("toonhead"))
        self.project = int(api.create_project(title, config)["id"])
        self.binding: Binding = bind(parse_config(config), self.project)
        self.pairs = load_pairs(REFERENCE).pick(chosen)
        self.tasks: list[int] = []

    def connect(self, url: str = "", **extra_params: Any) -> None:
        """url: of another backend than the demo's."""
        self.api.connect_backend(
            self.project,
            url or self.demo.facts["backend_url"],
            title=self.shown_version,
            extra_params=extra_params or {"synthetic_per_version": SYNTHETIC},
        )

    def pause(self, yes: bool, url: str = "") -> None:
        """Pause the project, or let it go on, as the button of the status page does."""
        form = {"project": project_uid(self.api.project(self.project))}
        url = f"{url or self.demo.facts['backend_url']}/status/{'pause' if yes else 'resume'}"
        assert httpx.post(url, data=form, trust_env=False).status_code == 303

    @property
    def shown_version(self) -> str:
        """What serves it before it has a version of its own."""
        name = self.binding.partonomy.name
        return "toonhead-shipped" if name == "toonhead" else f"{name}-untrained"

    def import_pictures(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        files = [folder / f"{n:03d}.png" for n in range(len(self.pairs))]
        for file, image in zip(files, self.pairs.images, strict=True):
            Image.fromarray(image).save(file)
        self.tasks = self.api.upload_files(self.project, files)

    def summaries(self) -> dict[int, TaskSummary]:
        return {task.id: task for task in self.api.summaries(self.project)}

    def labeled_by(self, version: str, tasks: list[int]) -> bool:
        found = self.summaries()
        return all(found[task].versions == (version,) for task in tasks)

    def correct(self, n: int) -> None:
        """Submit the reference mask, as somebody who began with the pre-label."""
        (prediction,) = self.api.predictions(self.tasks[n])
        self.draw(n, parent_prediction=prediction["id"])

    def draw(self, n: int, **fields: Any) -> None:
        """Submit the reference mask, as somebody who began with nothing."""
        regions = to_regions(self.pairs.masks[n], None, self.binding)
        body = {"result": regions, **fields}
        self.api.request("POST", f"/api/tasks/{self.tasks[n]}/annotations/", json=body)

    def push(self, *words: str) -> str:
        """What `dgan-backend push` says."""
        facts = self.demo.facts
        command = [sys.executable, "-m", "dgan_backend.cli", "push"]
        env = {"MODEL_DIR": str(self.demo.state / "models"), "THREADS": "1"}
        env |= {"LABEL_STUDIO_URL": facts["label_studio_url"]}
        env |= {"LABEL_STUDIO_API_KEY": facts["token"]}
        done = subprocess.run(
            [*command, "--project", str(self.project), *words],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def touch(self, annotated: int, skipped: int, begun: int) -> None:
        """As a person does: tasks with an annotation, a skip and a draft."""
        for task, body in ((annotated, {"result": []}), (skipped, {"was_cancelled": True})):
            body = {"result": [], **body}
            self.api.request("POST", f"/api/tasks/{task}/annotations/", json=body)
        self.api.request("POST", f"/api/tasks/{begun}/drafts", json={"result": [], "lead_time": 1})

    def ious(self, tasks: list[int]) -> np.ndarray[Any, Any]:
        """IoU of each class of the stored predictions, over these tasks."""
        counts = np.zeros((16, 16), np.int64)
        for n, task in enumerate(self.tasks):
            if task in tasks:
                (prediction,) = self.api.predictions(task)
                mask = self.pairs.masks[n]
                found = to_label_map(prediction["result"], self.binding, *mask.shape)
                counts += metrics.confusion(mask, found, 16)
        return metrics.class_iou(counts)


def _chosen() -> tuple[list[int], LabeledPictures]:
    """Outside pictures, first those with beard or tongue; and 16 labels without either."""
    pairs = load_pairs(REFERENCE)
    has = np.array([bool(np.isin(mask, (TONGUE, BEARD)).sum() > 25) for mask in pairs.masks])
    none = np.array([not np.isin(mask, (TONGUE, BEARD)).any() for mask in pairs.masks])
    later = np.arange(len(pairs)) >= 60
    beards = [int(n) for n in np.flatnonzero(has & later)]
    beards.sort(key=lambda n: -int((pairs.masks[n] == BEARD).sum()))
    others = [int(n) for n in np.flatnonzero(~has & later)]
    first = beards[0:16:2]  # the corrected ones; as many with them are among the others
    rest = beards[1:17:2] + others[: OUTSIDE - CORRECTED - 8]
    base = pairs.pick(np.flatnonzero(none & ~later)[:16])
    return first + rest, base


@pytest.fixture(scope="module")
def team(demo: Demo, api: LabelStudioClient, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A project that is served by a version fitted on 16 pictures without beard and tongue."""
    chosen, base = _chosen()
    team = Team(demo, api, "Loop: beards are new", chosen)
    student = StudentSettings(members=2, unet=UNetSettings(pictures=800, seed=5))
    Segmenter.fit(
        "toonhead",
        base.images,
        base.masks,
        "toonhead",
        version=f"p{team.project}-toonhead-v0001",
        plan=FitPlan(outside="student", student=student),
    ).save(demo.state / "models" / f"p{team.project}-toonhead-v0001")
    team.connect()
    team.import_pictures(tmp_path_factory.mktemp("pictures"))
    return team


def test_imported_pictures_are_labeled_before_anybody_opens_them(team: Team) -> None:
    first = f"p{team.project}-toonhead-v0001"
    until(lambda: team.labeled_by(first, team.tasks), "pre-labels")
    assert team.ious(team.tasks)[[TONGUE, BEARD]].max() < 0.05  # it knows neither


def test_corrections_make_a_version_that_knows_more(team: Team) -> None:
    """Corrected pictures with beards and tongues: the others are labeled anew, and better."""
    rest = team.tasks[CORRECTED:]
    before = team.ious(rest)
    for n in range(CORRECTED):
        team.correct(n)
    last = until(lambda: _all_of_one_later_version(team, rest), "a later version")
    until(lambda: _settled(team, rest), "the last version")
    after = team.ious(rest)
    print(f"\nmean IoU of {len(rest)} others: {np.nanmean(before):.3f} -> {np.nanmean(after):.3f}")
    print(f"beard: {before[BEARD]:.3f} -> {after[BEARD]:.3f}, tongue: {after[TONGUE]:.3f}; {last}")
    assert np.nanmean(after) >= np.nanmean(before)
    assert after[BEARD] > 0.1
    corrected = team.summaries()
    assert all(corrected[t].versions != () for t in team.tasks[:CORRECTED])  # untouched


def test_label_studio_shows_the_version_and_its_scores(team: Team) -> None:
    version = team.summaries()[team.tasks[-1]].versions[0]
    assert team.api.project(team.project)["model_version"] == version
    assert team.api.backends(team.project)[0]["title"] == version


def test_the_status_page_shows_what_was_learned(
    team: Team, demo: Demo, page: Page, screenshots: Path
) -> None:
    page.set_viewport_size({"width": 900, "height": 860})
    page.goto(f"{demo.facts['backend_url']}/status")
    section = page.locator("section", has=page.locator(f'h2:has-text("#{team.project}")'))
    expect(section.locator(".curve")).to_be_visible()  # versions were compared
    expect(section.locator(".heat")).to_contain_text("beard")
    learned = re.compile(rf"{CORRECTED}(all|\d learned) (learned from|from in part)")
    expect(section).to_contain_text(learned)  # a poorly inverted one in part
    section.screenshot(path=screenshots / "status-loop.png")


def test_the_new_version_brings_synthetic_tasks_into_a_project_beside_it(team: Team) -> None:
    version = team.summaries()[team.tasks[-1]].versions[0]
    until(lambda: len(_synthetic(team, version)) == SYNTHETIC, "synthetic tasks")
    assert set(team.summaries()) == set(team.tasks)  # nobody's queue is flooded
    for task in _synthetic(team, version):
        assert task.data["dgan"]["batch"] == f"{version}-x{SYNTHETIC}-s{first_seed(version)}"
        assert task.data["latent"]["generator"].startswith("toonhead-")


def test_pushed_tasks_arrive_once_with_labels_and_leave_again(team: Team) -> None:
    said = team.push("--count", "20", "--seed", "77")
    batch = said.split()[-1]
    pushed = _synthetic(team, batch=batch)
    assert len(pushed) == 20
    assert team.push("--count", "20", "--seed", "77").startswith("0 tasks were made")
    assert len(_synthetic(team, batch=batch)) == 20
    opened = team.api.task(pushed[0].id)  # as a person opens it
    (prediction,) = opened["predictions"]
    assert prediction["result"] and prediction["model_version"] == pushed[0].data["dgan"]["version"]
    assert prediction["score"] == pushed[0].data["dgan"]["score"]
    picture = decode_picture(team.api.get_bytes(pushed[0].data["image"]))
    seed = pushed[0].data["latent"]["seed"]
    assert (picture == Segmenter.load("toonhead").segment_seed(seed).image).all()
    team.touch(*(task.id for task in pushed[:3]))
    said = team.push("--undo", batch)
    assert said.startswith(f"17 tasks of {batch} were deleted, 3 stay.")
    assert {task.id for task in _synthetic(team, batch=batch)} == {t.id for t in pushed[:3]}


def test_annotations_of_ours_are_no_corrections(team: Team) -> None:
    before = read_corrections(team.api, team.project)
    said = team.push("--count", "2", "--seed", "500", "--annotations", "--same-project")
    assert len(read_corrections(team.api, team.project)) == len(before) == CORRECTED
    assert team.push("--undo", said.split()[-1]).startswith("2 tasks")


def test_label_studio_asks_for_the_least_sure_first(team: Team) -> None:
    team.push("--count", "2", "--seed", "900", "--for-labeling")
    team.api.update_project(team.project, sampling="Uncertainty sampling")
    following = team.api.request("GET", f"/api/projects/{team.project}/next")
    free = [task for task in team.summaries().values() if not task.touched]
    scores = {task.id: team.api.predictions(task.id)[0]["score"] for task in free}
    assert following["id"] == min(scores, key=lambda task: scores[task])
    assert sum(task.data.get("dgan", {}).get("kind") == "for labeling" for task in free) == 2


def test_a_project_with_labels_nobody_has_seen_gets_pictures_to_begin_with(
    demo: Demo, api: LabelStudioClient
) -> None:
    config = labeling_config(from_labels("own", ["crown", "brim", "ribbon"]))
    project = int(api.create_project("Loop: nothing is known", config)["id"])
    api.connect_backend(project, demo.facts["backend_url"])
    until(lambda: len(list(api.summaries(project))) == 16, "seed tasks")
    for task in api.summaries(project):
        assert task.data["dgan"]["kind"] == "seed" and not task.predictions
        assert decode_picture(api.get_bytes(task.data["image"])).shape == (64, 64, 3)


def test_projects_do_not_see_each_others_versions(
    team: Team, demo: Demo, api: LabelStudioClient, tmp_path: Path
) -> None:
    """Another one of the same parts, and two of different ones."""
    other = Team(demo, api, "Loop: another project", [60, 61, 62])
    other.connect()
    other.import_pictures(tmp_path / "other")
    until(lambda: other.labeled_by("toonhead-shipped", other.tasks), "pre-labels")
    trained = team.summaries()[team.tasks[-1]].versions
    assert served(demo, api, team.project) == list(trained)
    assert served(demo, api, other.project) == ["toonhead-shipped"]
    for labels in (["crown", "brim"], ["leaf", "stem"]):
        config = labeling_config(from_labels("own", labels))
        project = int(api.create_project(f"Loop: {labels[0]}", config)["id"])
        extra = {"seed_tasks": 0}
        api.connect_backend(project, demo.facts["backend_url"], extra_params=extra)
        assert served(demo, api, project) == [f"project-{project}-untrained"]
    assert served(demo, api, team.project) == list(trained)


def served(demo: Demo, api: LabelStudioClient, project: int) -> list[str]:
    """What /versions says to a project."""
    body = {"project": project_uid(api.project(project))}
    url = f"{demo.facts['backend_url']}/versions"
    answer = httpx.post(url, json=body, trust_env=False).raise_for_status()
    return list(answer.json()["versions"])


def _all_of_one_later_version(team: Team, tasks: list[int]) -> str:
    """The version of all these tasks' only predictions; "" while there are several."""
    found = {team.summaries()[task].versions for task in tasks}
    version = found.pop() if len(found) == 1 else ()
    first = f"p{team.project}-toonhead-v0001"
    return version[0] if len(version) == 1 and version[0] != first else ""


def _synthetic(team: Team, version: str = "", batch: str = "") -> list[TaskSummary]:
    """Tasks in the sister project, of a version or a batch."""
    found = sister.find(team.api, team.project)
    tasks = [] if found is None else team.api.summaries(int(found["id"]))
    marks = [(task, Mark.of(task.data)) for task in tasks]
    told = [(task, mark) for task, mark in marks if mark is not None]
    return [t for t, m in told if version in ("", m.version) and batch in ("", m.batch)]


def _settled(team: Team, tasks: list[int]) -> bool:
    """Whether all corrections are learned from: no newer version for 15 s."""
    before = _all_of_one_later_version(team, tasks)
    time.sleep(15)
    return bool(before) and before == _all_of_one_later_version(team, tasks)
