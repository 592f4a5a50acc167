"""The loop through a real Label Studio: pre-labels on import, corrections, new versions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dgan_backend import metrics
from dgan_backend.fitting import FitPlan
from dgan_backend.labeled import LabeledPictures, load_pairs
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.client import LabelStudioClient, TaskSummary
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.regions import to_label_map, to_regions
from dgan_backend.partonomy import load_partonomy
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.fit import UNetSettings
from dgan_backend.student.student import StudentSettings
from tests.e2e.conftest import Demo

REFERENCE = Path(__file__).parents[1] / "data" / "toonhead" / "reference.npz"
TONGUE, BEARD = 9, 10
OUTSIDE = 40  # pictures that are imported
CORRECTED = 8  # of them
SECONDS = 300.0


def until(done: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait for something to become true."""
    began = time.monotonic()
    while not (found := done()):
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(2)
    return found


class Team:
    """A project, its pictures, and the person who corrects them: the reference masks."""

    def __init__(self, demo: Demo, api: LabelStudioClient, title: str, chosen: list[int]) -> None:
        self.demo, self.api = demo, api
        config = labeling_config(load_partonomy("toonhead"))
        self.project = int(api.create_project(title, config)["id"])
        self.binding: Binding = bind(parse_config(config), self.project)
        self.pairs = load_pairs(REFERENCE).pick(chosen)
        self.tasks: list[int] = []

    def connect(self) -> None:
        self.api.connect_backend(
            self.project, self.demo.facts["backend_url"], title=self.shown_version
        )

    @property
    def shown_version(self) -> str:
        return "toonhead-shipped"

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
        regions = to_regions(self.pairs.masks[n], None, self.binding)
        body = {"result": regions, "parent_prediction": prediction["id"]}
        self.api.request("POST", f"/api/tasks/{self.tasks[n]}/annotations/", json=body)

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


def test_another_project_of_the_same_parts_is_not_touched(
    team: Team, demo: Demo, api: LabelStudioClient, tmp_path: Path
) -> None:
    other = Team(demo, api, "Loop: another project", [60, 61, 62])
    other.connect()
    other.import_pictures(tmp_path / "other")
    until(lambda: other.labeled_by("toonhead-shipped", other.tasks), "pre-labels")


def _all_of_one_later_version(team: Team, tasks: list[int]) -> str:
    """The version of all these tasks' only predictions; "" while there are several."""
    found = {team.summaries()[task].versions for task in tasks}
    version = found.pop() if len(found) == 1 else ()
    first = f"p{team.project}-toonhead-v0001"
    return version[0] if len(version) == 1 and version[0] != first else ""


def _settled(team: Team, tasks: list[int]) -> bool:
    """Whether all corrections are learned from: no newer version for 15 s."""
    before = _all_of_one_later_version(team, tasks)
    time.sleep(15)
    return bool(before) and before == _all_of_one_later_version(team, tasks)
