"""`dgan-backend demo`: a real Label Studio with this backend and 24 pictures, in one command."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgan_backend.demo import project, stack, studio
from dgan_backend.demo.stack import HOST
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.supervision import services
from dgan_backend.supervision.launcher import Launcher
from dgan_backend.supervision.processes import check_port

SEEDS = tuple(range(1, 13))


@dataclass(frozen=True)
class Options:
    """What the command line sets."""

    state: Path
    port: int = 8080
    backend_port: int = 9090
    label_studio_python: Path = Path(".venv-label-studio/bin/python")
    browser: bool = False


def run(options: Options) -> int:
    """Start everything, stay until a signal, leave no process behind."""
    command = studio.command(options.label_studio_python)
    check_port(HOST, options.port, "Label Studio", "choose another with --port (make: PORT=)")
    check_port(
        HOST,
        options.backend_port,
        "the backend",
        "choose another with --backend-port (make: BACKEND_PORT=)",
    )
    stack.talk_directly()
    with Launcher(options.state, report=_say) as launcher:
        login = studio.Login.of(launcher.state)
        facts = launcher.state / "demo.json"
        facts.unlink(missing_ok=True)
        try:
            _start(launcher, options, command, login)
            project_id = _fill(launcher.state, options, login)
            launcher.check()
            launcher.after_restart = lambda: _write(facts, launcher, options, login, project_id)
            launcher.after_restart()
            _greet(options, launcher, login, project_id)
            launcher.watch()
        finally:
            facts.unlink(missing_ok=True)
    _say("Stopped; nothing is left running.")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _start(
    launcher: Launcher, options: Options, command: tuple[str, ...], login: studio.Login
) -> None:
    ports = stack.Ports(options.port, options.backend_port)
    stack.start(launcher, ports, command, login, SEEDS, _say)


def _fill(state: Path, options: Options, login: studio.Login) -> int:
    """Project, backend and pictures, each only where missing; returns the project's id."""
    with LabelStudioClient(services.url(HOST, options.port), login.token) as api:
        record = project.Record.of(state)
        project_id = project.ensure_project(api, record)
        project.ensure_backend(api, project_id, services.url(HOST, options.backend_port))
        if not record.imported:
            _say("Importing 24 pictures")
            project.import_pictures(
                api, project_id, [*project.outside(), *project.sampled(state / "samples")]
            )
            record.finish()
    return project_id


def _write(
    path: Path, launcher: Launcher, options: Options, login: studio.Login, project_id: int
) -> None:
    """Say where everything is, for programs; whole or not at all, and for this user only."""
    facts: dict[str, Any] = {
        "label_studio_url": services.url(HOST, options.port),
        "backend_url": services.url(HOST, options.backend_port),
        "project_id": project_id,
        "email": login.email,
        "password": login.password,
        "token": login.token,
        "pids": {"launcher": os.getpid(), **launcher.pids},
    }
    studio.write_private(path, json.dumps(facts, indent=2))


def _greet(options: Options, launcher: Launcher, login: studio.Login, project_id: int) -> None:
    page = f"http://localhost:{options.port}/projects/{project_id}/data"
    _say(
        f"\n  Label Studio  {page}\n"
        f"  login         {login.email}\n"
        f"  password      {login.password}\n"
        f"  backend       {services.url(HOST, options.backend_port)}\n"
        f"  logs          {launcher.logs}\n\n"
        f"Open a picture: its parts are masked when it shows. Ctrl-C stops everything."
    )
    if options.browser and not _open(page):
        _say("No browser could be opened here; open the page yourself.")


def _open(page: str) -> bool:
    """Open the page in a graphical browser (one in the terminal would sit on top of us)."""
    if sys.platform == "linux" and not (os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}):
        return False
    return webbrowser.open(page)
