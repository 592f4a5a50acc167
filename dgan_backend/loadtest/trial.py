"""One load test from its start to what is told of it."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis
from tqdm import tqdm

from dgan_backend import __version__
from dgan_backend.demo import project as demo_project
from dgan_backend.demo import stack, studio
from dgan_backend.labelstudio.binding import bind
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.project import project_uid
from dgan_backend.loadtest import account, recorder, report
from dgan_backend.loadtest.annotators import Annotator, Office, Tally, sign_up
from dgan_backend.loadtest.answers import Span
from dgan_backend.loadtest.memory import Memory
from dgan_backend.loop.board import Board, Work
from dgan_backend.partonomy import load_partonomy
from dgan_backend.supervision import compute, services
from dgan_backend.supervision.launcher import Child, Launcher

_SLICES = 6  # pictures arrive in so many parts, in the first two thirds of the time
_ROUND = 0.2  # seconds between two looks at the processes


@dataclass(frozen=True)
class Options:
    """What the command line sets. pause: seconds that an annotator takes for a look or a stroke, on
    average. patience: minutes, after the last annotation, until all must be learned. state: a
    folder for all data, which stays; None = a temporary one."""

    annotators: int = 20
    minutes: float = 10.0
    pictures: int = 240
    pause: float = 10.0
    patience: float = 15.0
    seed: int = 0
    state: Path | None = None
    out: Path | None = None
    label_studio_python: Path = Path(".venv-label-studio/bin/python")


@dataclass
class _Trainings:
    """When a project was trained: looked at again and again."""

    board: Board
    uid: str
    spans: list[list[float]] = field(default_factory=list)
    _running: bool = False

    def look(self) -> None:
        now = time.time()
        try:
            busy = self.board.busy(self.uid, "train")
        except redis.RedisError:
            return
        if busy and not self._running:
            self.spans.append([now, now])
        elif busy:
            self.spans[-1][1] = now
        self._running = busy


class Trial:
    """One load test, in a launcher that has nothing running yet.

    command: Label Studio's. say: is told what is at hand.
    """

    def __init__(
        self,
        options: Options,
        launcher: Launcher,
        command: tuple[str, ...],
        say: Callable[[str], None],
    ) -> None:
        self._options, self._launcher, self._command, self._say = options, launcher, command, say
        self._memory, self._tally = Memory(), Tally()
        self._file = launcher.state / "answers.jsonl"
        self._models = launcher.state / "models"
        self._seconds_until_all: float | None = None
        self._troubles: list[str] = []

    def run(self) -> report.Report:
        login = studio.Login.of(self._launcher.state)
        ports = stack.Ports(*_free_ports(2))
        self._file.unlink(missing_ok=True)
        seeds = range(1, self._options.pictures + 1)
        settings = stack.start(self._launcher, ports, self._command, login, seeds, self._say)
        backend = services.url(stack.HOST, ports.backend)
        address = self._start_recorder(backend)
        site = services.url(stack.HOST, ports.label_studio)
        began = time.time()
        with (
            LabelStudioClient(site, login.token, timeout=120.0) as api,
            redis.Redis.from_url(settings.redis_url) as client,
        ):
            project = self._make_project(api, address)
            uid = project_uid(api.project(project))
            self._trainings = _Trainings(Board(client), uid)
            self._work(api, project)
            ended = time.time()
            return self._told(began, ended, *self._settle(api, project))

    def _start_recorder(self, backend: str) -> str:
        """Where Label Studio finds the backend."""
        (port,) = _free_ports(1)
        address = services.url(stack.HOST, port)
        module = "dgan_backend.loadtest.recorder"
        self._launcher.start(
            Child(
                "recorder",
                (sys.executable, "-m", module, str(port), backend, str(self._file)),
                dict(os.environ),
                services.answers(f"{address}{recorder.READY}"),
            )
        )
        return address

    def _make_project(self, api: LabelStudioClient, address: str) -> int:
        config = labeling_config(load_partonomy(demo_project.PARTONOMY), control="brush")
        project = int(api.create_project("Load test", config)["id"])
        demo_project.ensure_backend(api, project, address)
        self._binding = bind(parse_config(config), project)
        return project

    def _work(self, api: LabelStudioClient, project: int) -> None:
        """People label while pictures come and versions are trained."""
        options, closed = self._options, threading.Event()
        office = Office(project, self._binding, options.pause, self._tally, closed)
        pictures = sorted((self._launcher.state / stack.PICTURES).glob("*.png"))
        parts = [pictures[n::_SLICES] for n in range(_SLICES) if pictures[n::_SLICES]]
        self._import(api, project, parts[0])
        numbers = range(options.seed, options.seed + options.annotators)
        self._say(f"{options.annotators} annotators sign up")
        people = [Annotator(sign_up(api, n), office, n) for n in numbers]
        seconds = 60.0 * options.minutes
        arrive = threading.Thread(
            target=self._arrive, args=(api, project, parts[1:], seconds, closed), daemon=True
        )
        for one in (arrive, *people):
            one.start()
        try:
            self._watch(seconds, "labeling", lambda: False)
        finally:
            closed.set()
        for one in (arrive, *people):
            one.join(180.0)

    def _arrive(
        self,
        api: LabelStudioClient,
        project: int,
        parts: Sequence[Sequence[Path]],
        seconds: float,
        closed: threading.Event,
    ) -> None:
        for part in parts:
            if closed.wait(seconds * 2 / 3 / _SLICES):
                return
            self._import(api, project, part)

    def _import(self, api: LabelStudioClient, project: int, files: Sequence[Path]) -> None:
        """As pictures from outside: without the latents that re-create them."""
        try:
            places = api.upload_pictures(project, {file.name: file.read_bytes() for file in files})
            tasks = [{"data": {"image": place, "name": n}} for n, place in places.items()]
            self._tally.timed("import", lambda: api.import_tasks(project, tasks))
        except LabelStudioError as error:
            self._troubles.append(str(error))

    def _watch(self, seconds: float, what: str, done: Callable[[], bool]) -> bool:
        """Look after the processes for so long, or until `done` (asked every 2 s) is true; whether
        it was."""
        began, asked = time.monotonic(), 0.0
        form = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} of {postfix}"
        with tqdm(total=seconds, desc=what, bar_format=form, disable=None) as bar:
            while (passed := time.monotonic() - began) < seconds:
                self._launcher.tend()
                self._memory.sample(self._ours())
                self._trainings.look()
                if passed - asked > 2.0:
                    asked = passed
                    if done():
                        return True
                bar.n = passed
                bar.set_postfix_str(f"{seconds / 60:g} min, {self._so_far()}", refresh=True)
                time.sleep(_ROUND)
        return False

    def _ours(self) -> dict[str, int]:
        others = ("label-studio", "recorder")
        return {name: pid for name, pid in self._launcher.pids.items() if name not in others}

    def _so_far(self) -> str:
        tally, trained = self._tally, len(self._trainings.spans)
        said = f"{len(tally.submitted)} submitted, {trained} trainings"
        return said + (f", {len(tally.troubles)} troubles" if tally.troubles else "")

    def _settle(
        self, api: LabelStudioClient, project: int
    ) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]]]:
        """Wait until all is learned and each task has what it shall have, or patience ends; all
        tasks with annotations, and all tasks' predictions."""
        self._say(
            f"{len(self._tally.submitted)} annotations are submitted; what is open is learned"
        )
        tasks = list(api.annotated_tasks(project))
        patience = 60.0 * self._options.patience

        def learned() -> bool:
            last = account.Learned.last(self._models, project)
            return not account.lost(self._tally.submitted, tasks, last)

        def renewed() -> bool:
            last = account.Learned.last(self._models, project).version
            return not self._busy() and not (last and api.count_without(project, last))

        def single() -> bool:
            return not account.doubled(_predictions(api, project))

        began = time.monotonic()

        def left() -> float:
            return patience - (time.monotonic() - began)

        if self._watch(left(), "learning", learned):
            self._seconds_until_all = round(patience - left(), 1)
            self._watch(left(), "renewing", renewed)
            self._watch(
                left(), "last jobs", lambda: not account.doubled(_predictions(api, project))
            )
        self._project = project
        return tasks, _predictions(api, project)

    def _busy(self) -> bool:
        trainings = self._trainings
        works: tuple[Work, ...] = ("train", "label")
        return any(
            trainings.board.busy(trainings.uid, work)
            or trainings.board.unsettled(trainings.uid, work)
            for work in works
        )

    def _told(
        self,
        began: float,
        ended: float,
        tasks: list[dict[str, Any]],
        predictions: dict[int, list[dict[str, Any]]],
    ) -> report.Report:
        options, tally = self._options, self._tally
        spans: list[Span] = [(a, b) for a, b in self._trainings.spans]
        last = account.Learned.last(self._models, self._project)
        trained = sum(min(b, ended) - a for a, b in spans if a < ended)
        told: report.Report = {
            "release": __version__,
            "options": {k: v for k, v in asdict(options).items() if k not in _PATHS},
            "machine": {"cores": compute.cores(), "load": os.getloadavg()[1]},
            "routes": report.routes(list(recorder.recorded(self._file)), tally.answers, spans),
            "trainings": {
                "count": len(spans),
                "seconds": [round(b - a, 1) for a, b in spans],
                "share": round(trained / (ended - began), 3),
                "versions": account.count_versions(self._models, self._project),
                "last": last.version,
                "seconds_until_all": self._seconds_until_all,
            },
            "corrections": {
                "submitted": len(tally.submitted),
                "tasks": len(tasks),
                "changed_again": tally.again,
                "left_out": dict(last.left_out),
                "missing": account.missing(tally.submitted, tasks),
                "lost": account.lost(tally.submitted, tasks, last),
            },
            "predictions": {
                "tasks": len(predictions),
                "predictions": sum(map(len, predictions.values())),
                "doubled": account.doubled(predictions),
            },
            "memory": report.memory_of(self._memory),
            "troubles": [*self._troubles, *tally.troubles],
        }
        return told | {"targets": report.targets(told)}


_PATHS = ("state", "out", "label_studio_python")


def _predictions(api: LabelStudioClient, project: int) -> dict[int, list[dict[str, Any]]]:
    return {int(task["id"]): list(task["predictions"]) for task in api.tasks(project)}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind((stack.HOST, 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
