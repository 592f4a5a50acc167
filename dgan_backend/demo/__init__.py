"""`dgan-backend demo`: a real Label Studio with this backend and 24 pictures, in one command."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgan_backend.demo import project, studio
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.settings import Settings
from dgan_backend.supervision import compute, services
from dgan_backend.supervision.launcher import Child, Launcher
from dgan_backend.supervision.processes import check_port

SEEDS = tuple(range(1, 13))
_HOST = "127.0.0.1"


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
    check_port(_HOST, options.port, "Label Studio", "choose another with --port (make: PORT=)")
    check_port(
        _HOST,
        options.backend_port,
        "the backend",
        "choose another with --backend-port (make: BACKEND_PORT=)",
    )
    _talk_directly()
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


def _talk_directly() -> None:
    """Keep what we and our children say to each other from an admin's HTTP proxy."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    direct = ",".join(part for part in (named, _HOST, "localhost") if part)
    os.environ.update(no_proxy=direct, NO_PROXY=direct)


def _start(
    launcher: Launcher, options: Options, command: tuple[str, ...], login: studio.Login
) -> None:
    """Start all processes side by side; the slowest, Label Studio, sets the pace."""
    redis, settings = services.embedded_redis(
        _settings(options, login, launcher.state), launcher.state
    )
    launcher.start(redis)
    first = "" if studio.has_data(launcher.state) else " and making its database (about 30 s)"
    launcher.spawn(studio.child(launcher.state, options.port, command, login))
    env = _backend_env(settings)
    launcher.spawn(services.web(settings, _HOST, env))
    for number in range(1, settings.workers + 1):
        launcher.spawn(services.worker(number, settings, env))
    pictures = launcher.state / "samples"
    launcher.spawn(_sampler(pictures, env))
    _say(f"Sampling {len(SEEDS)} pictures")
    launcher.finish("sampler")
    _say("The backend is starting")
    launcher.wait_ready("web")
    _say(f"Label Studio is starting{first}")
    launcher.wait_ready("label-studio")


def _settings(options: Options, login: studio.Login, state: Path) -> Settings:
    """The demo's own: an admin's production settings in the environment are none of its business.

    Only what tunes the computation is taken over (DEVICE, PRECISION, THREADS, WORKERS, LOG_LEVEL).
    """
    return replace(
        Settings.from_env({key: os.environ[key] for key in _TUNING if key in os.environ}),
        label_studio_url=services.url(_HOST, options.port),
        label_studio_api_key=login.token,
        model_dir=state / "models",
        port=options.backend_port,
    )


_TUNING = ("DEVICE", "PRECISION", "THREADS", "WORKERS", "LOG_LEVEL")
_REPLACED = ("BASIC_AUTH_USER", "BASIC_AUTH_PASS", "ALLOWED_IMAGE_HOSTS", "PORT")


def _backend_env(settings: Settings) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if key not in _REPLACED},
        **services.child_env(settings),
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": settings.label_studio_api_key,
    }


def _sampler(folder: Path, env: dict[str, str]) -> Child:
    seeds = [str(seed) for seed in SEEDS]
    command = (sys.executable, "-m", "dgan_backend.demo.samples", str(folder), *seeds)
    return Child("sampler", command, {**env, **compute.environment(1)})


def _fill(state: Path, options: Options, login: studio.Login) -> int:
    """Project, backend and pictures, each only where missing; returns the project's id."""
    with LabelStudioClient(services.url(_HOST, options.port), login.token) as api:
        record = project.Record.of(state)
        project_id = project.ensure_project(api, record)
        project.ensure_backend(api, project_id, services.url(_HOST, options.backend_port))
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
        "label_studio_url": services.url(_HOST, options.port),
        "backend_url": services.url(_HOST, options.backend_port),
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
        f"  backend       {services.url(_HOST, options.backend_port)}\n"
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
