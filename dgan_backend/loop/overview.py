"""One look at all projects: the board, the cards of versions, and what this process has seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dgan_backend.labelstudio.project import Project
from dgan_backend.loop.board import TITLE, WORKS, Board, Work
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.outcome import FINDINGS, NOTE, read_outcome

if TYPE_CHECKING:
    from dgan_backend.predictor import Predictor
    from dgan_backend.registry import Kept, Registry

VERSIONS = 50  # the last ones of a project that are told
TASKS = 50  # of each list of tasks
ACTIVE = ("running", "queued", "failed")  # states of jobs that something comes of by itself

Json = dict[str, Any]


@dataclass(frozen=True)
class Jobs:
    """What RQ knows. state_of: a job's id -> its state and the seconds since it began. workers:
    how many there are."""

    state_of: Callable[[str], tuple[str, float]]
    workers: Callable[[], int]


@dataclass(frozen=True)
class Overview:
    """connections: the projects. board, jobs: None without Redis. url: where links to Label
    Studio lead; "" = to where /setup came from."""

    registry: Registry
    predictor: Predictor
    connections: Sequence[Connection]
    board: Board | None = None
    jobs: Jobs | None = None
    url: str = ""

    @cached_property
    def _kept(self) -> list[Kept]:
        return self.registry.versions()

    def projects(self) -> list[Json]:
        """Those that are connected, then those that there are only versions of."""
        uids = {connection.uid for connection in self.connections}
        numbers = {connection.number for connection in self.connections}
        others = {
            (kept.project, kept.uid)
            for kept in self._kept
            if kept.uid not in uids and (kept.uid or kept.project not in numbers)
        }
        connected = [self._connected(connection) for connection in self.connections]
        return connected + [self._unconnected(number, uid) for number, uid in sorted(others)]

    def _connected(self, connection: Connection) -> Json:
        project, uid = connection.open(), connection.uid
        outcome = self.outcome(uid)
        version, untrained = self.predictor.version(project), self.untrained(project)
        return {
            "project": project.number,
            "uid": uid,
            "title": self._noted(uid, TITLE),
            "url": self._link(project),
            "connected": True,
            "paused": self.paused(uid),
            "problem": project.problem or untrained,
            "trained": not untrained,
            "version": version,
            "partonomy": project.binding.partonomy.name if project.binding else "",
            "jobs": [self.job(uid, work) for work in WORKS],
            **self.history(project, outcome, version),
            "findings": json.loads(self._noted(uid, FINDINGS) or "[]"),
            "removed_labels": outcome.get("removed_labels", {}),
            "effort": outcome.get("effort"),
            "empty": [] if untrained else self._empty(uid, project),
            "errors": self.board.complaints(uid) if self.board else [],
        }

    def _unconnected(self, number: int, uid: str) -> Json:
        kept = [k for k in self._kept if (k.project, k.uid) == (number, uid)]
        serving = next((k.name for k in reversed(kept) if self.registry.serving(k)), "")
        return {
            "project": number,
            "uid": uid or str(number),
            "title": "",
            "url": "",
            "connected": False,
            "paused": False,
            "problem": "There are versions of it, but Label Studio has not told of it: press "
            "Validate and Save in its Settings > Model, or open one of its tasks.",
            "trained": bool(serving),
            "version": serving,
            "partonomy": kept[-1].partonomy,
            "jobs": [],
            **self._told(kept, {}, serving),
            "findings": [],
            "removed_labels": {},
            "effort": None,
            "empty": [],
            "errors": [],
        }

    # Versions and what was learned

    def history(self, project: Project, outcome: Json, serving: str) -> Json:
        """What the versions tell, and the last training, which may have made none."""
        uids = ("", project.uid)
        kept = [k for k in self._kept if k.project == project.number and k.uid in uids]
        return self._told(kept, outcome, serving)

    def _told(self, kept: Sequence[Kept], outcome: Json, serving: str) -> Json:
        last = kept[-1].training if kept else {}
        sources = self.registry.sources(kept[-1].name) if kept else ()
        return {
            "corrections": outcome.get("corrections", len(last.get("corrections", ()))),
            "usual_seconds": last.get("seconds"),
            "last_training": {k: outcome[k] for k in ("time", "version", "said") if k in outcome},
            "versions": [_version(k, serving) for k in kept[-VERSIONS:]],
            "left_out": (outcome.get("left_out") or last.get("left_out") or [])[:TASKS],
            "learned_in_part": [
                {"task": source.task, "reason": source.reason}
                for source in sources
                if source.task is not None and source.reason
            ][:TASKS],
        }

    def outcome(self, uid: str) -> Json:
        return read_outcome(self._noted(uid, NOTE))

    def untrained(self, project: Project) -> str:
        """Why no version serves a project; "" when one does."""
        return self.predictor.untrained(project)

    # What is on the board

    def paused(self, uid: str) -> bool:
        return bool(self.board and self.board.paused(uid))

    def served(self, uid: str) -> set[int]:
        return self.board.served(uid) if self.board else set()

    def job(self, uid: str, work: Work) -> Json:
        """state: "idle", "queued", "running", "failed" (tried again in `retry_seconds`), or
        "unknown" without Redis. what, done, total, seconds_left: of a running one that told."""
        job: Json = {"work": work, "state": "unknown"}
        if self.board is None or self.jobs is None:
            return job
        job["state"] = self._state(self.board, self.jobs, uid, work)
        progress = self.board.progress(uid, work)
        if job["state"] == "failed":
            job["retry_seconds"] = self.board.retry_seconds(uid, work)
        if job["state"] == "running" and progress is not None:
            job |= {"what": progress.what, "done": progress.done, "total": progress.total}
            job["seconds_left"] = progress.seconds_left
        return job

    @staticmethod
    def _state(board: Board, jobs: Jobs, uid: str, work: Work) -> str:
        if board.busy(uid, work):
            return "running"
        if not board.unsettled(uid, work):
            return "idle"
        if board.waits(uid, work):
            return "failed"
        job = board.job(uid, work)
        return "running" if job and jobs.state_of(job)[0] == "started" else "queued"

    def reasons(self, uid: str, project: Project) -> dict[int, Json]:
        """Tasks without regions: when that was, and why."""
        if self.board is not None:
            return self.board.explained(uid)
        return {
            told["task"]: {"time": told["time"], "reason": told["reason"]}
            for told in self.predictor.failures()
            if told["project"] == project.number
        }

    def _empty(self, uid: str, project: Project) -> list[Json]:
        found = [{"task": task, **told} for task, told in self.reasons(uid, project).items()]
        return sorted(found, key=lambda told: -float(told["time"]))[:TASKS]

    def _noted(self, uid: str, key: str) -> str:
        return self.board.noted(uid, key) if self.board else ""

    def _link(self, project: Project) -> str:
        base = self.url or project.hostname
        return f"{base}/projects/{project.number}/data" if base else ""


def _version(kept: Kept, serving: str) -> Json:
    """What a version's card tells; versions fitted by hand tell little."""
    told = kept.training
    return {
        "name": kept.name,
        "number": kept.number,
        "serves": kept.name == serving,
        "held_back": kept.held_back,
        "time": told.get("time"),
        "seconds": told.get("seconds"),
        "pictures": told.get("pictures"),
        "corrections": len(told.get("corrections", ())),
        "new": list(told.get("new", ())),
        "classes": list(told.get("classes", ())),
        "validation": told.get("validation"),
        "corrected": told.get("corrected") or None,
    }
