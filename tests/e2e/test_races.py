"""Label Studio, people and a killed worker all at once: one prediction a task is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from dgan_backend import jobs
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.server import create_app, listen
from dgan_backend.serving.reason import ReasonProtocol
from dgan_backend.settings import Settings
from tests.e2e.aside import Aside
from tests.e2e.conftest import Demo, environment, settled
from tests.e2e.test_loop import Team, until

PICTURES = 40
OPENED = 10
SHIPPED = "toonhead-shipped"


@pytest.fixture(scope="module")
def team(demo: Demo, api: LabelStudioClient, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A project whose pictures arrive while people are at them already."""
    team = Team(demo, api, "Races", list(range(100, 100 + PICTURES)))
    team.connect()
    with ThreadPoolExecutor() as people:
        arrive = people.submit(team.import_pictures, tmp_path_factory.mktemp("races"))
        until(lambda: len(team.summaries()) >= OPENED, "the first pictures")
        first = sorted(team.summaries())[:OPENED]
        opened = [people.submit(api.task, task) for task in first]
        retrieved = people.submit(_retrieve, api, team.project)
        for one in (arrive, retrieved, *opened):
            one.result()
    return team


def _retrieve(api: LabelStudioClient, project: int) -> Any:
    """Press "Retrieve predictions" with all tasks selected."""
    return api.request(
        "POST",
        "/api/dm/actions",
        params={"id": "retrieve_tasks_predictions", "project": project},
        json={"selectedItems": {"all": True, "excluded": []}},
    )


def _publish(models: Path, backend: str, team: Team, version: str) -> None:
    """A version by hand, which is current as soon as it is there; and an event that says so."""
    shipped = Segmenter.load("toonhead")
    shipped.card = replace(shipped.card, name=version)
    Registry(models).publish(shipped, current=True)
    project = team.api.project(team.project)
    event = {"action": "TASKS_CREATED", "project": project}
    url = f"{backend}/webhook"
    hooks = {hook["url"]: hook["headers"] for hook in team.api.webhooks(team.project)}
    headers = hooks.get(url, {})  # with the secret that the backend knows its webhook by
    httpx.post(url, json=event, headers=headers, trust_env=False).raise_for_status()


def test_opening_retrieving_and_importing_at_once_leave_one_prediction_a_task(team: Team) -> None:
    settled(team.api, team.project, SHIPPED)
    assert len(team.tasks) == PICTURES
    for task in team.tasks[::8]:
        (prediction,) = team.api.predictions(task)
        assert len(prediction["result"]) >= 3


def test_a_draft_is_left_alone_and_all_others_follow_the_version(demo: Demo, team: Team) -> None:
    drafted = team.tasks[3]
    body = {"result": [], "lead_time": 1.0}
    team.api.request("POST", f"/api/tasks/{drafted}/drafts", json=body)
    before = _told(team.api.predictions(drafted))
    version = f"p{team.project}-toonhead-v0001"
    _publish(demo.state / "models", demo.facts["backend_url"], team, version)
    rest = [task for task in team.tasks if task != drafted]
    until(lambda: team.labeled_by(version, rest), "the new version's predictions")
    assert {len(team.api.predictions(task)) for task in rest} == {1}
    assert _told(team.api.predictions(drafted)) == before
    assert len(team.api.request("GET", f"/api/tasks/{drafted}/drafts")) == 1


def test_a_worker_killed_while_it_writes_leaves_one_prediction_a_task(
    demo: Demo, team: Team
) -> None:
    """Killed three times, while somebody presses "Retrieve predictions"."""
    version = f"p{team.project}-toonhead-v0002"
    _publish(demo.state / "models", demo.facts["backend_url"], team, version)
    rest = [task for task in team.tasks if not team.summaries()[task].draft]
    with ThreadPoolExecutor() as people:
        pressed = people.submit(_retrieve, team.api, team.project)
        for kill in range(3):
            until(lambda least=kill: _labeled(team, version, rest) > 3 * least, "a write")
            os.kill(_worker(demo), signal.SIGKILL)
            time.sleep(1.0)
        pressed.result()
    until(lambda: _labeled(team, version, rest) == len(rest), "the new version's predictions")
    until(lambda: team.api.project(team.project)["model_version"] == version, "the choice")
    until(lambda: {len(team.api.predictions(t)) for t in rest} == {1}, "one prediction each")


def _worker(demo: Demo) -> int:
    """Its pid; one that was killed is there again, and told, only after a moment."""

    def is_there() -> bool:
        return Path(f"/proc/{demo.facts['pids']['worker-1']}/environ").exists()

    until(is_there, "a worker")
    return int(demo.facts["pids"]["worker-1"])


@pytest.fixture
def hasty(demo: Demo) -> Iterator[str]:
    """One more web process of the demo's backend, with the real ones' 85 s for an answer cut to
    nothing; its URL. Jobs run in the demo's worker."""
    settings = Settings.from_env(environment(_worker(demo)))
    with jobs.connect(settings, hurried=True) as client, listen("127.0.0.1", 0) as listener:
        app = create_app(settings, deadline=0.0, client=client)
        config = uvicorn.Config(app, http=ReasonProtocol, ws="none", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


def test_placeholders_that_label_studio_stored_are_replaced(
    hasty: str, demo: Demo, api: LabelStudioClient, tmp_path: Path
) -> None:
    """Asked for while no job is at them, so that all of them are stored; one task is opened before
    somebody presses "Retrieve predictions", and gets two."""
    team = Team(demo, api, "Races: placeholders", list(range(140, 144)))
    team.connect(hasty)
    team.pause(True, hasty)
    team.import_pictures(tmp_path / "placeholders")
    api.task(team.tasks[0])  # as a person opens it
    _retrieve(api, team.project)
    stored = {task: api.predictions(task) for task in team.tasks}
    assert [len(stored[task]) for task in team.tasks] == [2, 1, 1, 1]
    for placeholder in chain(*stored.values()):
        assert placeholder["model_version"] == "pending" and placeholder["result"] == []
    team.pause(False, hasty)
    settled(api, team.project, SHIPPED)
    for task, placeholders in stored.items():
        (prediction,) = api.predictions(task)
        assert prediction["id"] == placeholders[0]["id"] and len(prediction["result"]) >= 3
    api.request("DELETE", f"/api/projects/{team.project}/")  # its backend ends here


@pytest.fixture
def aside(demo: Demo, tmp_path: Path) -> Iterator[Aside]:
    facts = demo.facts
    with Aside.started(tmp_path, facts["label_studio_url"], facts["token"]) as aside:
        yield aside


def test_a_worker_killed_between_write_and_delete_leaves_one_prediction_a_task(
    aside: Aside, demo: Demo, api: LabelStudioClient, tmp_path: Path
) -> None:
    """Twice, each time where the new prediction stands beside an old one that the job is about to
    delete: first the job's process alone, then the worker, with which its job ends."""
    team = Team(demo, api, "Races: between write and delete", list(range(144, 150)))
    team.connect(aside.url)
    team.import_pictures(tmp_path / "pictures")
    settled(api, team.project, SHIPPED)
    ids = {task: api.predictions(task)[0]["id"] for task in team.tasks}
    twice = team.tasks[:3]
    _store_again(api, team.project, twice)
    found: list[set[tuple[str, ...]]] = []

    def kill(*command: str) -> None:
        now = {tuple(p["model_version"] for p in api.predictions(task)) for task in twice}
        aside.kill(*command)
        found.append(now)

    job, worker = ("dgan_backend.jobs",), ("dgan_backend.cli", "worker")
    aside.gate.ambush += [lambda: kill(*job), lambda: kill(*worker)]
    version = f"p{team.project}-toonhead-v0001"
    _publish(aside.models, aside.url, team, version)
    settled(api, team.project, version)
    assert found == [{(version, SHIPPED)}] * 2
    assert {task: api.predictions(task)[0]["id"] for task in team.tasks} == ids
    api.request("DELETE", f"/api/projects/{team.project}/")  # its backend ends here


def _store_again(api: LabelStudioClient, project: int, tasks: list[int]) -> None:
    """What Label Studio does when it stores an answer to /predict that a job was faster than."""
    second = []
    for task in tasks:
        (first,) = api.predictions(task)
        fields = {key: first[key] for key in ("result", "score", "model_version")}
        second.append({"task": task, **fields})
    assert api.import_predictions(project, second) == len(tasks)


def _told(predictions: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(p["id"], p["model_version"], p["result"], p["score"]) for p in predictions]


def _labeled(team: Team, version: str, tasks: list[int]) -> int:
    found = team.summaries()
    return sum(found[t].versions == (version,) for t in tasks)
