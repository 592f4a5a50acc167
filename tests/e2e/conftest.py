"""The real demo: real Label Studio, real Redis, real backend, for all end-to-end tests together.

LABEL_STUDIO_PYTHON   the Python that has Label Studio installed (make test sets it)
CHROMIUM              the browser [/usr/bin/chromium]
SCREENSHOT_DIR        where the browser tests leave what they saw [a temporary folder]
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.supervision import processes

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# The sandbox needs rights that a container lacks; the others keep Chromium from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TALL = 1600  # pixels: the list of regions holds only those that fit the window
START_SECONDS = 300.0
_SPENT = {"collected at": 0.0, "end to end": 0.0}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and run it last: the quick tests find most faults sooner."""
    _SPENT["collected at"] = time.monotonic()
    for item in items:
        if HERE in item.path.parents:
            soak = item.get_closest_marker("soak") is not None
            item.add_marker("soak" if soak else "e2e")
            item.add_marker(pytest.mark.timeout(3600 if soak else 900))
    items.sort(key=lambda item: HERE in item.path.parents)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the end-to-end tests: only theirs come by here."""
    _SPENT["end to end"] += report.duration


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _SPENT["end to end"]:
        quick = time.monotonic() - _SPENT["collected at"] - _SPENT["end to end"]
        terminalreporter.write_line(f"== quick tests: {quick:.0f} s")
        terminalreporter.write_line(f"== end-to-end tests: {_SPENT['end to end']:.0f} s")


@dataclass
class Demo:
    """`dgan-backend demo` on free ports, in a state folder of its own."""

    state: Path
    port: int
    backend_port: int
    starts: list[float] = field(default_factory=list)
    _told: set[int] = field(default_factory=set)
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it says that all is up."""
        began = time.monotonic()
        command = [sys.executable, "-m", "dgan_backend.cli", "demo"]
        command += ["--state", str(self.state), "--port", str(self.port)]
        command += ["--backend-port", str(self.backend_port)]
        command += ["--label-studio-python", os.environ["LABEL_STUDIO_PYTHON"]]
        with self.output.open("a") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while not self.facts_file.exists():
            assert self._process.poll() is None, f"the demo ended:\n{self.output.read_text()}"
            assert time.monotonic() - began < START_SECONDS, self.output.read_text()
            time.sleep(0.2)
        self.starts.append(time.monotonic() - began)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """What Ctrl-C does; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    @property
    def output(self) -> Path:
        return self.state.parent / "demo.out"

    @property
    def facts_file(self) -> Path:
        return self.state / "demo.json"

    @property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads(self.facts_file.read_text()))

    @property
    def project(self) -> int:
        return int(self.facts["project_id"])

    def processes(self) -> set[int]:
        """Pids of all that the demo has started and that is still there.

        Redis shows no environment to find it by, so the pids that the demo told count too.
        """
        if self.facts_file.exists():
            self._told |= set(self.facts["pids"].values())
        told = {pid for pid in self._told if Path(f"/proc/{pid}").exists()}
        return told | set(processes.marked(str(self.state.resolve())))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The running demo."""
    if not os.environ.get("LABEL_STUDIO_PYTHON"):
        pytest.skip("LABEL_STUDIO_PYTHON is not set; `make test` sets it")
    demo = Demo(tmp_path_factory.mktemp("demo") / "state", *free_ports(2))
    try:
        demo.start()
        yield demo
    finally:
        demo.stop()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def settled(api: LabelStudioClient, project: int, version: str, seconds: float = 240.0) -> None:
    """Wait until each task has one prediction, of that version, whoever asked for them when.

    Label Studio's own count of a task's predictions is too high after a race; the predictions
    themselves are counted.
    """
    began = time.monotonic()
    while True:
        tasks = list(api.summaries(project))
        found = {task.versions for task in tasks}
        if found == {(version,)} and all(len(api.predictions(task.id)) == 1 for task in tasks):
            return
        assert time.monotonic() - began < seconds, found
        time.sleep(1)


@pytest.fixture(scope="session")
def api(demo: Demo) -> Iterator[LabelStudioClient]:
    """The demo's Label Studio."""
    with LabelStudioClient(
        demo.facts["label_studio_url"], demo.facts["token"], timeout=120
    ) as client:
        yield client


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for what the browser tests saw."""
    named = os.environ.get("SCREENSHOT_DIR")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(demo: Demo) -> Iterator[Page]:
    """A browser in which the demo's user is logged in."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}; `make test` installs it, or set CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": TALL})
        page.goto(f"{demo.facts['label_studio_url']}/user/login")
        page.fill("input[name=email]", demo.facts["email"])
        page.fill("input[name=password]", demo.facts["password"])
        page.click("button[type=submit]")
        page.wait_for_load_state("networkidle")
        yield page
        browser.close()
