"""The clock of the loop: what is marked becomes jobs, and what nobody announced becomes marks."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import redis

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.project import Project, is_project
from dgan_backend.loop.board import SPELLED, TITLE, WORKS, Board, Work
from dgan_backend.loop.connection import Connection, bounded
from dgan_backend.loop.identity import generator_now
from dgan_backend.loop.wording import NAMES

log = logging.getLogger(__name__)

EVERY = 2.0  # seconds between two passes
_START_SECONDS = 12.0  # that a job may take from its queue to its lease
_SETTLING_SECONDS = 5.0  # after /setup, until Label Studio has stored backend and webhook
_AGAIN_SECONDS = 600.0  # before what could not be labeled is tried once more
_ONE, _LOOKING = "sweeper", "looker"


class Sweeper:
    """Runs in every web process; one of them is at it at a time. A Label Studio that hangs keeps
    no job waiting: it is asked in a thread of its own.

    enqueue: a project's uid, a kind of work and a job's id -> a job in the queue. state_of: a
    job's id -> its state and the seconds since it began. site: a project -> its Label Studio.
    version: a project -> the version that serves it, "" when there is none. look_seconds: how
    often each Label Studio is asked for what no webhook told. forgotten: called with the uid of a
    project that is gone. damaged: a project -> its versions that were put aside.

    It also remembers the projects that it has seen, for when Redis is emptied.
    """

    def __init__(
        self,
        board: Board,
        enqueue: Callable[[str, Work, str], None],
        state_of: Callable[[str], tuple[str, float]],
        site: Callable[[Project], LabelStudioClient | None],
        version: Callable[[Project], str],
        look_seconds: float = 60.0,
        forgotten: Callable[[str], None] = lambda uid: None,
        damaged: Callable[[Project], Sequence[str]] = lambda project: (),
    ) -> None:
        self._board, self._enqueue, self._state_of = board, enqueue, state_of
        self._site, self._version = site, version
        self._look_seconds, self._forgotten, self._damaged = look_seconds, forgotten, damaged
        self._birth, self._seen = "", list[tuple[Connection, bool]]()
        self._away: set[str] = set()  # projects whose Label Studio failed to answer
        self._looked: dict[str, float] = {}
        self._kicked, self._ended = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for name, step, wait in (
            (_ONE, self.ensure, self._await_kick),
            (_LOOKING, self.look, self._await_end),
        ):
            thread = threading.Thread(target=self._run, args=(step, wait), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._kicked.set()

    def kick(self) -> None:
        """There are new marks: do not wait for the next pass."""
        self._kicked.set()

    def sweep(self) -> None:
        """Both passes over all projects, and jobs for what the second one marked."""
        self.ensure()
        self.look()
        self.ensure()

    def ensure(self) -> None:
        """See to it that jobs are under way."""
        self._remember()
        with self._board.only_one(_ONE, 10.0) as mine:
            for connection in self._going_on() if mine else ():
                for work in WORKS:
                    self._ensure(connection.uid, work)

    def look(self) -> None:
        """Ask each Label Studio whose turn it is what has changed."""
        with self._board.only_one(_LOOKING, 60.0) as mine:
            for connection in self._going_on() if mine else ():
                now, looked = time.monotonic(), self._looked.get(connection.uid)
                if looked is None or now - looked > self._look_seconds:
                    self._looked[connection.uid] = now
                    self._look(connection)

    def _remember(self) -> None:
        """Nothing on Redis is the only copy of anything: the projects are here, too."""
        board = self._board
        now = [(c, board.paused(c.uid)) for c in board.connections()]
        birth = board.birth()  # after them: what an emptied one has shown does not count
        if self._birth in ("", birth):
            self._birth, self._seen = birth, now
            return
        log.warning("Redis was emptied; %d projects are told to it again.", len(self._seen))
        for connection, paused in self._seen:
            self._tell_again(connection, paused)
        self._birth = birth

    def _tell_again(self, connection: Connection, paused: bool) -> None:
        board, uid = self._board, connection.uid
        if board.connection(uid) is not None:
            return  # another web process, or a /setup, was faster
        if paused:
            board.pause(uid, True)
        board.remember(connection)
        for work in WORKS:
            board.mark(uid, work)

    def _going_on(self) -> list[Connection]:
        return [c for c in self._board.connections() if not self._board.paused(c.uid)]

    def _run(self, step: Callable[[], None], wait: Callable[[], None]) -> None:
        while not self._ended.is_set():
            try:
                step()
            except redis.RedisError as error:
                log.warning("Redis cannot be reached (%s); jobs wait until it can.", error)
            except Exception:
                log.exception("A pass over the projects failed")
            wait()

    def _await_kick(self) -> None:
        self._kicked.wait(EVERY)
        self._kicked.clear()

    def _await_end(self) -> None:
        self._ended.wait(EVERY)

    def _ensure(self, uid: str, work: Work) -> None:
        """See to it that a job is under way when there is something to do."""
        board = self._board
        begun = board.begun(uid, work)  # asked first: those that end before the next are not there
        if board.busy(uid, work):
            return
        if board.died(uid, work, begun):
            self._mourn(uid, work)
        if not board.unsettled(uid, work) or board.waits(uid, work):
            return
        if work == "check" and board.marked_ago(uid, work) < _SETTLING_SECONDS:
            return
        before = board.job(uid, work)
        if before is not None:
            state, seconds = self._state_of(before)
            if state in ("queued", "deferred") or (state == "started" and seconds < _START_SECONDS):
                return
            if state == "failed":  # it died, or could not even look at its project
                board.clear(uid, work)
                before = None
                self._mourn(uid, work)
                if board.waits(uid, work):
                    return
        job = uuid.uuid4().hex
        if board.claim(uid, work, before, job):
            self._enqueue(uid, work, job)

    def _mourn(self, uid: str, work: Work) -> None:
        """A job died. The next one is tried at once, since workers may be killed for good reasons;
        when that one dies, too, people are told, and the next ones wait."""
        board = self._board
        board.count(work, "died")
        if board.count_death(uid, work) > 1:
            board.complain(
                uid,
                f"{NAMES[work]}: its process ended without a word; out of memory? The worker's log "
                "may say more. It is tried again.",
            )
            board.failed(uid, work)

    def _look(self, connection: Connection) -> None:
        """Ask Label Studio what has changed; a project that is gone is forgotten."""
        project = connection.open()
        site = self._site(project)
        if site is None or project.number is None:
            return
        uid, board = connection.uid, self._board
        self._look_at_disk(uid, project)
        try:
            now = site.project(project.number)
            self._is_back(uid)
            if not is_project(uid, now):
                self._forget(uid, f"The number of {project.name} is another project's now")
                return
            board.note(uid, TITLE, str(now.get("title") or ""))
            if self._has_other_labels(connection, now):
                return  # all of it is marked
            if project.binding is None:
                return  # its config cannot be used, and is the one that Label Studio has
            if site.fingerprint(project.number) != board.noted(uid, "annotations"):
                self._mark(uid, "train")
            self._look_at_generator(uid, project)
            if version := self._version(project):
                count = site.count_without(project.number, version)
                renamed = board.noted(uid, SPELLED) != project.binding.spelling
                self._look_for_unlabeled(uid, version, count, renamed)
        except LabelStudioError as error:
            if error.gone:
                self._forget(uid, f"{project.name} is not in Label Studio any more")
            else:
                log.warning("%s: %s", project.name, error)
                board.complain(uid, str(error))
                self._away.add(uid)
        except DganError as error:
            log.warning("%s: %s", project.name, error)

    def _is_back(self, uid: str) -> None:
        """Label Studio answers again: jobs that have failed meanwhile are tried at once."""
        if uid in self._away:
            self._away.discard(uid)
            for work in WORKS:
                self._board.hurry(uid, work)
            self.kick()

    def _look_at_disk(self, uid: str, project: Project) -> None:
        """What a version that was put aside had learned is to be learned again."""
        damaged, board = ", ".join(self._damaged(project)), self._board
        if damaged == board.noted(uid, "damaged"):
            return
        board.note(uid, "damaged", damaged)
        if damaged:
            board.complain(
                uid,
                f"Found damaged on disk and put aside: {damaged}. What it had learned is learned "
                "again by itself; look after the disk.",
            )
            for work in ("train", "label"):
                self._mark(uid, cast(Work, work))

    def _forget(self, uid: str, why: str) -> None:
        log.warning("%s; it is forgotten.", why)
        self._board.forget(uid)
        self._forgotten(uid)
        self._looked.pop(uid, None)

    def _has_other_labels(self, connection: Connection, now: Mapping[str, Any]) -> bool:
        """Whether the labeling config has changed and nobody has told."""
        config = now.get("label_config")
        if not isinstance(config, str) or bounded(config) == connection.schema:
            return False
        self._board.update(connection.with_schema(config))
        for work in ("train", "label"):
            self._mark(connection.uid, cast(Work, work))
        return True

    def _look_at_generator(self, uid: str, project: Project) -> None:
        """One that was given a backbone, or trained on, is to be learned on anew."""
        now, before = generator_now(project), self._board.noted(uid, "generator")
        if now and now != before:
            self._board.note(uid, "generator", now)
            if before:
                self._mark(uid, "train")

    def _look_for_unlabeled(self, uid: str, version: str, count: int, renamed: bool) -> None:
        """renamed: predictions may show labels that are called otherwise now."""
        board = self._board
        known = board.noted(uid, "unlabeled") == f"{version} {count}"
        tried = float(board.noted(uid, "tried") or 0)
        if renamed and time.time() - tried > _AGAIN_SECONDS:
            known, count = False, count + 1
        if count and (not known or time.time() - tried > _AGAIN_SECONDS):
            board.note(uid, "tried", str(time.time()))
            self._mark(uid, "label")

    def _mark(self, uid: str, work: Work) -> None:
        """Unless there is a mark: one more would end a failed job's wait at every look, and have
        a job that runs followed by one with nothing to do."""
        if not self._board.unsettled(uid, work):
            self._board.mark(uid, work)
            self.kick()
