"""The demo's Label Studio: its process, its login, and a way to talk to it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from dgan_backend.errors import DganError
from dgan_backend.supervision.launcher import Child
from dgan_backend.supervision.services import url

VERSION = "1.23.2"
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


@dataclass(frozen=True)
class Login:
    """The one user of the demo; made once for each state folder."""

    email: str
    password: str
    token: str

    @classmethod
    def of(cls, state: Path) -> Login:
        """Read the login of a state folder, or make one."""
        path = state / "login.json"
        if not path.exists():
            fresh = cls("demo@example.com", secrets.token_urlsafe(9), secrets.token_hex(20))
            write_private(path, json.dumps(asdict(fresh)))
        try:
            return cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise DganError(
                f"{path} is damaged ({error}); remove the folder {state} to begin afresh."
            ) from error


def write_private(path: Path, text: str) -> None:
    """Write a file whole, in one step, readable by this user only."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)


def command(python: Path) -> tuple[str, ...]:
    """The program that starts Label Studio, from the environment of that Python."""
    python = python.expanduser().absolute()  # not resolved: a link in a venv is the venv
    program = python.parent / "label-studio"
    if not python.exists() or not program.exists():
        raise DganError(
            f"There is no Label Studio beside {python}. `make demo` installs one; by hand: "
            f"python3 -m venv .venv-label-studio && .venv-label-studio/bin/pip install "
            f"label-studio=={VERSION}, then pass --label-studio-python."
        )
    return (str(python), str(program))


def has_data(state: Path) -> bool:
    """Whether Label Studio has run in this state folder before."""
    return (state / "label-studio" / "label_studio.sqlite3").exists()


def child(state: Path, port: int, program: tuple[str, ...], login: Login) -> Child:
    """Label Studio on sqlite, on this machine only, with nothing to ask and nobody to call."""
    options = ("start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port))
    (state / "label-studio").mkdir(exist_ok=True)
    return Child(
        "label-studio",
        (*program, *options),
        environment(state, login),
        _knows(url("127.0.0.1", port), login),
        ready_seconds=300.0,
    )


def environment(state: Path, login: Login) -> dict[str, str]:
    """A short environment, so that no setting of another Label Studio slips in."""
    home = str(state / "label-studio")
    return {
        **{key: os.environ[key] for key in _KEPT if key in os.environ},
        "HOME": home,
        "PYTHONUNBUFFERED": "1",
        "LABEL_STUDIO_BASE_DATA_DIR": home,
        "DJANGO_DB": "sqlite",
        "LABEL_STUDIO_USERNAME": login.email,
        "LABEL_STUDIO_PASSWORD": login.password,
        "LABEL_STUDIO_USER_TOKEN": login.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        # The backend is on this machine, which Label Studio refuses unless both are off: with
        # only the first, the backend is saved but gets no webhook.
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        # Nothing leaves the machine: no version check, analytics or error reports; and whatever
        # has no switch (the tips it reads from GitHub) meets a proxy where nobody answers.
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "HTTP_PROXY": _NOBODY,
        "HTTPS_PROXY": _NOBODY,
        "NO_PROXY": "127.0.0.1,localhost",
        "LOG_LEVEL": "WARNING",
    }


def _knows(address: str, login: Login) -> Callable[[], bool]:
    """A check that this very Label Studio (not another one on that port) is up."""

    def ready() -> bool:
        try:
            answer = httpx.get(
                f"{address}/api/current-user/whoami",
                headers={"Authorization": f"Token {login.token}"},
                timeout=5,
                trust_env=False,
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    return ready
