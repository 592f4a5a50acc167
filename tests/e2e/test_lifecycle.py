"""Stopping and starting again. The demo is up again, on the same state, when each test ends."""

from __future__ import annotations

import os
import signal
import socket
import time

import httpx
import pytest

from dgan_backend.labelstudio.client import LabelStudioClient
from tests.e2e.conftest import Demo


def contents(demo: Demo) -> tuple[int, list[tuple[int, str]]]:
    """The project and its pictures."""
    facts = demo.facts
    with LabelStudioClient(facts["label_studio_url"], facts["token"]) as api:
        tasks = [(task["id"], task["data"]["image"]) for task in api.tasks(demo.project)]
    return demo.project, tasks


def wait_for_none(demo: Demo) -> None:
    deadline = time.monotonic() + 15
    while demo.processes():
        assert time.monotonic() < deadline, "processes of the demo are left"
        time.sleep(0.1)


def answers(demo: Demo) -> bool:
    try:
        return httpx.get(f"{demo.facts['backend_url']}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_ctrl_c_leaves_no_process_and_the_next_start_goes_on(demo: Demo) -> None:
    before = contents(demo)
    login = {key: demo.facts[key] for key in ("email", "password", "token")}
    assert len(demo.processes()) >= 5  # the launcher, Redis, Label Studio, web, worker
    assert demo.stop() == 0
    assert demo.processes() == set()
    assert not demo.facts_file.exists()
    for port in (demo.port, demo.backend_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0

    demo.start()
    assert contents(demo) == before
    assert {key: demo.facts[key] for key in login} == login
    with LabelStudioClient(demo.facts["label_studio_url"], demo.facts["token"]) as api:
        assert len(api.request("GET", "/api/projects", params={"page_size": 100})["results"]) >= 1
        assert len(api.backends(demo.project)) == 1


def test_a_hard_kill_leaves_no_process_either(demo: Demo) -> None:
    assert len(demo.processes()) >= 5
    demo.stop(signal.SIGKILL)
    wait_for_none(demo)
    demo.facts_file.unlink()
    demo.start()
    assert len(contents(demo)[1]) == 24


@pytest.mark.parametrize("name", ["web", "worker-1", "redis"])
def test_what_dies_is_started_again_and_said(demo: Demo, name: str) -> None:
    old = demo.facts["pids"][name]
    os.kill(old, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while demo.facts["pids"][name] == old:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert f"{name} was ended by SIGKILL; starting it again in" in demo.output.read_text()
    while not answers(demo):
        assert time.monotonic() < deadline + 30, "the backend does not answer again"
        time.sleep(0.1)
