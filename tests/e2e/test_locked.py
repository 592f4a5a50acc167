"""What a locked SQLite does to calls of Label Studio: it begins anew with them, and so twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.doctor import examine
from dgan_backend.synthesis.importing import import_drafts
from tests.e2e.conftest import Demo
from tests.sites import Answer, Seen, serving

LOCKED_SECONDS = 5.6  # Label Studio waits 5 s for its database, and 1 s before it begins anew
VERSION = "toonhead-shipped"


class Locks:
    """Locks the demo's database for a while; its own writes wait or fail meanwhile."""

    def __init__(self, demo: Demo) -> None:
        self._path = demo.state / "label-studio" / "label_studio.sqlite3"
        self._threads: list[threading.Thread] = []

    def take(self) -> None:
        """Returns as soon as it is locked."""
        locked = threading.Event()

        def hold() -> None:
            with closing(self.connection()) as database:
                database.execute("BEGIN IMMEDIATE")
                locked.set()
                time.sleep(LOCKED_SECONDS)

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


def test_a_backend_is_connected_once(api: LabelStudioClient, project: int, locks: Locks) -> None:
    with backend(locks) as url:
        made = api.connect_backend(project, url, VERSION)
        assert [row["id"] for row in api.backends(project)] == [made["id"]]
        assert api.project(project)["model_version"] == VERSION
        assert [hook["url"] for hook in api.webhooks(project)] == [f"{url}/webhook"]


def test_one_that_a_person_connects_is_there_twice_until_the_doctor_mends_it(
    api: LabelStudioClient, project: int, locks: Locks
) -> None:
    with backend(locks) as url:
        body = {"project": project, "url": url, "title": VERSION}
        api.request("POST", "/api/ml/", json=body)
        assert len(api.backends(project)) == 2
        assert _state(api, project, url)["connection once"] == "wrong"
        assert _state(api, project, url, mend=True)["connection once"] == "fixed"
        assert _state(api, project, url)["connection once"] == "ok"
        assert len(api.backends(project)) == 1
        assert api.project(project)["model_version"] == VERSION


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
        return {}


def test_tasks_are_made_once(api: LabelStudioClient, project: int, locks: Locks) -> None:
    stored = "SELECT count(*) FROM task WHERE project_id = ?"

    def lock_when_stored() -> None:
        with closing(locks.connection()) as database:
            while not database.execute(stored, (project,)).fetchone()[0]:
                time.sleep(0.0005)
            locks.take()

    _beside(lock_when_stored, lambda: import_drafts(api, project, "image", map(Drawn, range(6))))
    assert sorted(task.data["n"] for task in api.summaries(project)) == list(range(6))


def _beside(one: Callable[[], object], other: Callable[[], object]) -> None:
    thread = threading.Thread(target=one)
    thread.start()
    other()
    thread.join()
