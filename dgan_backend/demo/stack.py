"""Label Studio, Redis, web process, workers and sampled pictures, started side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dgan_backend.demo import studio
from dgan_backend.settings import Settings
from dgan_backend.supervision import compute, services
from dgan_backend.supervision.launcher import Child, Launcher

HOST = "127.0.0.1"
PICTURES = "samples"  # a folder of the state folder
_TUNING = ("DEVICE", "PRECISION", "THREADS", "WORKERS", "LOG_LEVEL")
_REPLACED = ("BASIC_AUTH_USER", "BASIC_AUTH_PASS", "ALLOWED_IMAGE_HOSTS", "BACKEND_URL")


@dataclass(frozen=True)
class Ports:
    """Where the two listen, on this machine only."""

    label_studio: int
    backend: int


def talk_directly() -> None:
    """Keep what we and our children say to each other from an admin's HTTP proxy."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    direct = ",".join(part for part in (named, HOST, "localhost") if part)
    os.environ.update(no_proxy=direct, NO_PROXY=direct)


def start(
    launcher: Launcher,
    ports: Ports,
    command: tuple[str, ...],
    login: studio.Login,
    seeds: Sequence[int],
    say: Callable[[str], None],
) -> Settings:
    """Start all processes side by side; the slowest, Label Studio, sets the pace. Returns the
    backend's settings.

    command: Label Studio's. seeds: of the pictures that are sampled into the state folder.
    """
    redis, settings = services.embedded_redis(
        _settings(ports, login, launcher.state), launcher.state
    )
    launcher.start(redis)
    first = "" if studio.has_data(launcher.state) else " and making its database (about 30 s)"
    launcher.spawn(studio.child(launcher.state, ports.label_studio, command, login))
    env = _backend_env(settings)
    launcher.spawn(services.web(settings, HOST, env))
    for number in range(1, settings.workers + 1):
        launcher.spawn(services.worker(number, settings, env))
    launcher.spawn(_sampler(launcher.state / PICTURES, seeds, env))
    say(f"Sampling {len(seeds)} pictures")
    launcher.finish("sampler")
    say("The backend is starting")
    launcher.wait_ready("web")
    say(f"Label Studio is starting{first}")
    launcher.wait_ready("label-studio")
    return settings


def _settings(ports: Ports, login: studio.Login, state: Path) -> Settings:
    """Their own: an admin's production settings in the environment are none of their business.

    Only what tunes the computation is taken over (DEVICE, PRECISION, THREADS, WORKERS, LOG_LEVEL).
    """
    return replace(
        Settings.from_env({key: os.environ[key] for key in _TUNING if key in os.environ}),
        label_studio_url=services.url(HOST, ports.label_studio),
        label_studio_api_key=login.token,
        model_dir=state / "models",
        port=ports.backend,
    )


def _backend_env(settings: Settings) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if key not in _REPLACED},
        **services.child_env(settings),
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": settings.label_studio_api_key,
    }


def _sampler(folder: Path, seeds: Sequence[int], env: dict[str, str]) -> Child:
    numbers = [str(seed) for seed in seeds]
    command = (sys.executable, "-m", "dgan_backend.demo.samples", str(folder), *numbers)
    return Child("sampler", command, {**env, **compute.environment(1)})
