"""A backend beside the demo's, whose way to the demo's Label Studio leads through a gate."""

from __future__ import annotations

import os
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dgan_backend.supervision import processes, services
from tests.e2e.conftest import free_ports
from tests.e2e.test_loop import until


class Gate(socketserver.ThreadingTCPServer):
    """A way to Label Studio, for one backend, on which deletions of predictions are noticed.

    ambush: what is done, each once and in that order, instead of letting one through.
    """

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Traffic)
        self.target = target
        self.ambush: list[Callable[[], None]] = []

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.server_address)


class _Traffic(socketserver.BaseRequestHandler):
    """One connection: bytes go through as they come."""

    server: Gate

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as there, suppress(OSError):
            threading.Thread(target=_pump, args=(there, self.request), daemon=True).start()
            while data := self.request.recv(65536):
                if data.startswith(b"DELETE /api/predictions/") and self.server.ambush:
                    self.server.ambush.pop(0)()
                    return
                there.sendall(data)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)  # Label Studio ends some answers by hanging up


@dataclass(frozen=True)
class Aside:
    """`dgan-backend start`: a backend beside the demo's, behind a gate."""

    state: Path
    url: str
    gate: Any

    @classmethod
    @contextmanager
    def started(
        cls, folder: Path, site: str, token: str, kind: type[Any] = Gate, **more: str
    ) -> Iterator[Aside]:
        """site: Label Studio's address. kind: of gate. more: of the backend's environment."""
        (port,), address = free_ports(1), httpx.URL(site)
        with kind((address.host, int(address.port or 80))) as gate:
            threading.Thread(target=gate.serve_forever, daemon=True).start()
            aside = cls(folder / "state", f"http://127.0.0.1:{port}", gate)
            options = ("--state", str(aside.state), "--port", str(port))
            env = {"MODEL_DIR": str(aside.models), "LABEL_STUDIO_URL": gate.url}
            env = {**os.environ, **env, "LABEL_STUDIO_API_KEY": token, **more}
            with subprocess.Popen(services.dgan_backend("start", *options), env=env) as process:
                try:
                    until(lambda: services.answers(f"{aside.url}/health")(), "a backend")
                    yield aside
                finally:
                    process.send_signal(signal.SIGINT)
            gate.shutdown()

    @property
    def models(self) -> Path:
        return self.state.parent / "models"

    def kill(self, *command: str) -> None:
        """SIGKILL the process of that command; returns when it is gone."""
        pid = self.pids(*command)[0]
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in self._pids(), f"the end of {pid}", 10, pause=0.05)

    def pids(self, *command: str) -> list[int]:
        """Of the processes of that command; of jobs: `dgan_backend.jobs`."""
        return [p for p in self._pids() if [*command] in (_command(p)[2:4], _command(p)[2:3])]

    def _pids(self) -> list[int]:
        return processes.marked(str(self.state))


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:  # gone meanwhile
        return []


def parent(pid: int) -> int:
    """0 when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
