"""What a locked SQLite does to calls of Label Studio: it begins anew with them, and so twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.doctor import examine
from dgan_backend.synthesis import importing
from dgan_backend.synthesis.importing import import_drafts
from dgan_backend.synthesis.settling import settle
from tests.e2e.conftest import Demo
from tests.sites import Answer, Seen, serving

# Label Studio waits 5 s for its database, then 1 s until it begins anew with a call; 3 s until it
# makes tasks anew. What asks too late is not refused, so that it may take several attempts.
CALL_SECONDS, MAKING_SECONDS = 5.8, 7.5
ATTEMPTS = 4
VERSION = "toonhead-shipped"
STORED = "SELECT count(*) FROM task WHERE project_id = ?"
COUNT = 6  # tasks of an import


class Locks:
    """Locks the demo's database for a while; its own writes wait or fail meanwhile."""

    def __init__(self, demo: Demo) -> None:
        self._path = demo.state / "label-studio" / "label_studio.sqlite3"
        self._threads: list[threading.Thread] = []

    def take(self, seconds: float = CALL_SECONDS) -> None:
        """Returns as soon as it is locked."""
        locked = threading.Event()

        def hold() -> None:
            with closing(self.connection()) as database:
                database.execute("BEGIN IMMEDIATE")
                locked.set()
                time.sleep(seconds)

        self._threads.append(threading.Thread(target=hold))
        self._threads[-1].start()
        assert locked.wait(60)

    def connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=60, isolation_level=None)

    def end(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.fixture
def locks(demo: Demo) -> Iterator[Locks]:
    made = Locks(demo)
    yield made
    made.end()


@pytest.fixture
def project(demo: Demo, api: LabelStudioClient) -> Iterator[int]:
    config = api.project(demo.project)["label_config"]
    number = int(api.create_project("locked", config)["id"])
    yield number
    api.request("DELETE", f"/api/projects/{number}/")


@contextmanager
def backend(locks: Locks) -> Iterator[str]:
    """The URL of an ML backend at whose second /setup the database is locked: the row is stored by
    then, what came of /setup is not."""
    setups = list[Seen]()

    def answer(seen: Seen) -> Answer:
        if seen.path == "/setup":
            setups.append(seen)
            if len(setups) == 2:  # the first is for checking it
                locks.take()
        return Answer({"status": "UP", "model_version": VERSION})

    with serving(answer) as site:
        yield site.url


def test_a_backend_is_connected_once(
    api: LabelStudioClient, project: int, locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = list[int]()
    mend = api.disconnect_doubles

    def spy(number: int, rows: Any) -> dict[str, Any]:
        stored.append(len(rows))
        return mend(number, rows)

    monkeypatch.setattr(api, "disconnect_doubles", spy)
    for _ in range(ATTEMPTS):
        with backend(locks) as url:
            made = api.connect_backend(project, url, VERSION)
            assert [row["id"] for row in api.backends(project)] == [made["id"]]
            assert api.project(project)["model_version"] == VERSION
            assert f"{url}/webhook" in [hook["url"] for hook in api.webhooks(project)]
        if stored[-1] == 2:
            return
        locks.end()
        api.request("DELETE", f"/api/ml/{made['id']}")
    pytest.fail(f"Label Studio stored {stored}; nothing was tried")


def test_one_that_a_person_connects_is_there_twice_until_the_doctor_mends_it(
    api: LabelStudioClient, project: int, locks: Locks
) -> None:
    for _ in range(ATTEMPTS):
        with backend(locks) as url:
            body = {"project": project, "url": url, "title": VERSION}
            api.request("POST", "/api/ml/", json=body)  # as Label Studio's own page does
            rows = api.backends(project)
            if len(rows) == 2:
                assert _state(api, project, url)["connection once"] == "wrong"
                assert _state(api, project, url, mend=True)["connection once"] == "fixed"
                assert _state(api, project, url)["connection once"] == "ok"
                assert [row["id"] for row in api.backends(project)] == [min(r["id"] for r in rows)]
                assert api.project(project)["model_version"] == VERSION
                return
        locks.end()
        api.request("DELETE", f"/api/ml/{rows[0]['id']}")
    pytest.fail(f"Label Studio connected it once, {ATTEMPTS} times; nothing was tried")


def _state(api: LabelStudioClient, project: int, url: str, mend: bool = False) -> dict[str, str]:
    return {f.check: f.state for f in examine(api, project, url=url, mend=mend)}


@dataclass(frozen=True)
class Drawn:
    """A task that is about to be made."""

    number: int

    @property
    def file_name(self) -> str:
        return f"locked-{self.number}.png"

    def file(self) -> bytes:
        return b"\x89PNG"

    def told(self) -> dict[str, Any]:
        return {"n": self.number}

    @property
    def about(self) -> dict[str, Any]:
        labels = {"result": [], "model_version": VERSION, "score": 0.5}
        return {"predictions": [labels], "annotations": [{"result": [], "ground_truth": False}]}


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks there were each time that Label Studio had not made what it was told to."""
    counts = list[int]()

    def spy(site: LabelStudioClient, project: int, sent: Any, ids: Any) -> Any:
        counts.append(len(ids))
        return settle(site, project, sent, ids)

    monkeypatch.setattr(importing, "settle", spy)
    return counts


def test_tasks_that_are_stored_before_it_is_locked_are_made_once(
    api: LabelStudioClient, project: int, locks: Locks, settled: list[int]
) -> None:
    def lock_when_stored(there: int) -> None:
        with closing(locks.connection()) as database:
            for _ in range(100_000):
                if database.execute(STORED, (project,)).fetchone()[0] > there:
                    return locks.take()
                time.sleep(0.0005)

    for attempt in range(ATTEMPTS):
        there = COUNT * attempt
        thread = threading.Thread(target=lock_when_stored, args=(there,))
        thread.start()
        drafts = map(Drawn, range(there, there + COUNT))
        assert import_drafts(api, project, "image", drafts) == COUNT
        thread.join()
        locks.end()
        check_whole(api, project, there + COUNT)
        if settled:
            break
    assert settled[0] > COUNT  # there were more, and so it was tried


def test_tasks_that_are_not_stored_yet_when_it_is_locked_come_with_their_labels(
    api: LabelStudioClient, project: int, locks: Locks, settled: list[int]
) -> None:
    """Label Studio has taken them off the list by then, and makes tasks without."""
    checks = iter(range(9))

    def check() -> None:
        if next(checks) == 1:  # the files are there, the tasks are next
            locks.take(MAKING_SECONDS)

    assert import_drafts(api, project, "image", map(Drawn, range(COUNT)), check) == COUNT
    assert settled == [COUNT]
    check_whole(api, project, COUNT)


def check_whole(api: LabelStudioClient, project: int, count: int) -> None:
    tasks = list(api.tasks(project))
    assert sorted(task["data"]["n"] for task in tasks) == list(range(count))
    assert [len(task["predictions"]) for task in tasks] == [1] * count
    assert [len(task["annotations"]) for task in tasks] == [1] * count
