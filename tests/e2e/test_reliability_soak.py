"""The rows of docs/reliability.md: a fault is caused for real while a correction is on its way, and
what became of it is counted. RELIABILITY names a folder for the rows; each prints its own, too."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dgan_backend.labelstudio.client import LabelStudioClient
from tests.e2e.conftest import Demo, settled
from tests.e2e.test_loop import Team, until
from tests.e2e.test_loop_soak import PICTURES, Watched

pytestmark = pytest.mark.soak

TASKS = 6
FROZEN_SECONDS = 20.0  # longer than a lease, so that another process may take the work


def kill(demo: Demo, name: str) -> None:
    os.kill(demo.facts["pids"][name], signal.SIGKILL)


def freeze(demo: Demo, name: str) -> None:
    pid = demo.facts["pids"][name]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(FROZEN_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


Fault = Callable[[Demo], None]
FAULTS: dict[str, Fault] = {
    "worker killed": lambda demo: kill(demo, "worker-1"),
    "worker frozen": lambda demo: freeze(demo, "worker-1"),
    "web process killed": lambda demo: kill(demo, "web"),
    "Redis killed": lambda demo: kill(demo, "redis"),
    "Redis frozen": lambda demo: freeze(demo, "redis"),
}


@pytest.fixture(scope="module")
def watched(
    demo: Demo, api: LabelStudioClient, tmp_path_factory: pytest.TempPathFactory
) -> Watched:
    team = Team(demo, api, "reliability", list(range(PICTURES, PICTURES + TASKS)))
    team.connect()
    team.import_pictures(tmp_path_factory.mktemp("pictures"))
    settled(api, team.project, "toonhead-shipped")
    return Watched(demo, team)


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_loses_and_doubles_nothing(watched: Watched, name: str) -> None:
    team, number = watched.team, list(FAULTS).index(name)
    team.draw(number)
    until(lambda: watched.lease() is not None, "a training")
    began = time.monotonic()
    FAULTS[name](watched.demo)
    corrected = set(team.tasks[: number + 1])
    until(lambda: watched.accounted() >= corrected, "a version that knows the correction", 600)
    recovered = time.monotonic() - began
    settled(team.api, team.project, watched.versions()[-1].name, 600)
    doubled = sum(len(team.api.predictions(task)) > 1 for task in team.tasks)
    row = {
        "fault": name,
        "recovered_seconds": round(recovered, 1),
        "lost": len(corrected - watched.accounted()),
        "doubled": doubled,
    }
    print(f"\n{json.dumps(row)}")
    if folder := os.environ.get("RELIABILITY"):
        (Path(folder) / f"{name.replace(' ', '-')}.json").write_text(json.dumps(row))
    assert row["lost"] == row["doubled"] == 0
