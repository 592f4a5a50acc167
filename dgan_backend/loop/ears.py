"""What the web process tells the loop: projects, events, and what /predict is at.

Every call is a few commands to Redis, and none fails: without Redis, pictures are labeled on
request all the same, and what was missed is found by the next look at Label Studio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.project import project_uid, site_url
from dgan_backend.loop.board import ARMED, WORKS, Board, Work
from dgan_backend.loop.connection import Connection, bounded
from dgan_backend.records import PENDING, task_number
from dgan_backend.vault import HEADER, Vault, fingerprint, same

log = logging.getLogger(__name__)

WORK_OF: Mapping[str, tuple[Work, ...]] = {
    "ANNOTATION_CREATED": ("train",),
    "ANNOTATION_UPDATED": ("train",),
    "ANNOTATIONS_CREATED": ("train",),
    "ANNOTATIONS_DELETED": ("train", "label"),
    "START_TRAINING": ("train",),
    "PROJECT_UPDATED": ("train", "label"),
    "TASKS_CREATED": ("label",),
    "TASKS_DELETED": ("train",),
}
_CHECKED_SECONDS = 600.0  # a version that is announced makes Label Studio call /setup as well
_REFUSED_SECONDS = 30.0  # between two checks that refused webhooks ask for
_START_TRAINING = "START_TRAINING"  # Label Studio sends it by itself, with no webhook's headers
_MOST = 1000  # projects that are kept
_UNCONFIRMED = 100  # of them without a word of Label Studio's
_AFTER = 20.0  # seconds until Label Studio has surely stored what /predict answered


class Ears:
    """kick: called when there are new marks. vault: where the tokens of /setup are kept, and what
    webhooks are known by; without one all are believed."""

    def __init__(self, board: Board, kick: Callable[[], None], vault: Vault | None = None) -> None:
        self._board, self._kick, self._vault = board, kick, vault

    def connected(self, body: Mapping[str, Any]) -> None:
        """A /setup: a new project, or one with another config, is looked at from scratch; of any
        other the connection is checked, but not again and again."""
        connection = Connection.of(body)
        if connection.number is None:
            return
        with _unharmed():
            known = self._board.connection(connection.uid)
            if known is None and not self._has_room(connection.uid):
                return
            self._keep_token(connection)  # before there is a job that needs it
            if known != connection.without_token():
                self._board.remember(connection)
            now = connection.schema, connection.extra_params
            if known is None or now != (known.schema, known.extra_params):
                self._mark([connection.uid], WORKS)
            elif self._board.marked_ago(connection.uid, "check") > _CHECKED_SECONDS:
                self._mark([connection.uid], ("check",))

    def home(self, uid: str) -> str | None:
        """The address that a connected project was connected from, "" where it is not connected;
        None without Redis."""
        with _unharmed():
            known = self._board.connection(uid)
            return site_url(known.hostname) if known is not None else ""
        return None

    def _keep_token(self, connection: Connection) -> None:
        if self._vault is not None and connection.access_token:
            with _unharmed():
                hostname = site_url(connection.hostname)
                self._vault.keep_token(connection.uid, hostname, connection.access_token)

    def _has_room(self, new: str) -> bool:
        """Anybody may send a /setup; of projects that no Label Studio has told of, the newest are
        kept."""
        if len(self._board.connections()) >= _MOST:
            log.warning("Project %s is not kept: there are %d already.", new, _MOST)
            return False
        for uid in self._board.unconfirmed()[_UNCONFIRMED - 1 :]:
            log.warning("Project %s is forgotten: no Label Studio has told of it so far.", uid)
            self._board.forget(uid)
            if self._vault is not None:
                self._vault.forget(uid)
        return True

    def connected_uids(self) -> set[str]:
        """Of all projects, also of those that this process has not heard of yet; none without
        Redis."""
        with _unharmed():
            return {connection.uid for connection in self._board.connections()}
        return set()

    def refuses(self, event: Mapping[str, Any], given: str) -> bool:
        """Whether an event is not believed: the webhook of each project that it may be of surely
        carries a secret, and this is none of them. given: the secret that came with it."""
        uids = self._possible(event)
        return bool(uids) and not any(self._believes(uid, event, given) for uid in uids)

    def _possible(self, event: Mapping[str, Any]) -> list[str]:
        action, project = event.get("action"), event.get("project")
        if not (isinstance(action, str) and action in WORK_OF and isinstance(project, Mapping)):
            return []
        return self._uids(project)

    def _believes(self, uid: str, event: Mapping[str, Any], given: str) -> bool:
        if self._vault is None or event.get("action") == _START_TRAINING:
            return True
        try:
            if same(given, self._vault.known_webhook_secret(uid)):
                return True
            secret = self._vault.known_webhook_secret(uid, anew=True)
        except DganError as error:
            log.warning("A webhook is believed without its secret: %s", error)
            return True
        armed = bool(secret) and self._board.noted(uid, ARMED) == fingerprint(secret)
        return not armed or same(given, secret)

    def _refused(self, uid: str, number: object) -> None:
        """It may be Label Studio's all the same, on a webhook that somebody changed."""
        log.warning(
            "An event of project %s was refused: it came without the secret that its webhook "
            "carries (the header %s). The webhook is checked, and what changed is found anyway.",
            number,
            HEADER,
        )
        if self._board.marked_ago(uid, "check") > _REFUSED_SECONDS:
            self._mark([uid], ("check",))

    def heard(self, event: Mapping[str, Any], given: str = "") -> None:
        """A webhook's event, or Start Training. given: the secret that came with it."""
        action, project = event.get("action"), event.get("project")
        works = WORK_OF.get(action) if isinstance(action, str) else None
        if works and isinstance(project, Mapping):
            with _unharmed():
                uids = []
                for uid in self._uids(project):
                    if self._believes(uid, event, given):
                        uids.append(uid)
                    else:
                        self._refused(uid, project.get("id"))
                if action == "PROJECT_UPDATED":
                    uids = [uid for uid in uids if self._has_other_labels(uid, project)]
                self._mark(uids, works)
        number = project.get("id") if isinstance(project, Mapping) else None
        log.info("Event %.100s of project %.100s", action, number)

    def _has_other_labels(self, uid: str, project: Mapping[str, Any]) -> bool:
        """Whether its labeling config is new to us. Label Studio tells of any change of a project,
        also of those that we make ourselves. What the event says is not kept: anybody may send
        one, and the job that is asked for reads the config itself."""
        connection, config = self._board.connection(uid), project.get("label_config")
        if connection is None:
            return False  # forgotten meanwhile
        return not isinstance(config, str) or bounded(config) != connection.schema

    @contextmanager
    def serving(self, uid: str, tasks: Sequence[Any], seconds: float) -> Iterator[None]:
        """Label Studio stores what is answered to it for these tasks, within `seconds`."""
        numbers = [
            number
            for task in tasks
            if isinstance(task, Mapping) and (number := task_number(task.get("id"))) is not None
        ]
        known = True  # or not: anybody may ask for a project that there is none of
        with _unharmed():
            known = self._board.knows(uid)
            if known:
                self._board.serving(uid, numbers, seconds + _AFTER)
        yield
        with _unharmed():
            if not known:
                return
            self._board.serving(uid, numbers, _AFTER)
            if self._board.busy(uid, "label"):  # it may have given up waiting for these
                self._mark([uid], ("label",))

    def answered(
        self, uid: str, tasks: Sequence[Any], entries: Sequence[Mapping[str, Any]]
    ) -> None:
        """What /predict said of each task, in order."""
        reasons = {
            number: why_empty(entry)
            for task, entry in zip(tasks, entries, strict=True)
            if isinstance(task, Mapping) and (number := task_number(task.get("id"))) is not None
            if entry["model_version"] != PENDING  # a job labels it
        }
        with _unharmed():
            if self._board.knows(uid):
                self._board.explain(uid, reasons)

    def stored_by_others(
        self, uid: str, tasks: Sequence[Any], entries: Sequence[Mapping[str, Any]]
    ) -> set[int]:
        """Places, among these, of tasks whose prediction of that very version is being stored: by
        a job, or by Label Studio for somebody who opened the task a moment before."""
        places: dict[str, dict[int, int]] = {}  # of each task, by version
        for place, (task, entry) in enumerate(zip(tasks, entries, strict=True)):
            number = task_number(task.get("id")) if isinstance(task, Mapping) else None
            if number is not None and entry["model_version"] != PENDING:
                places.setdefault(str(entry["model_version"]), {})[number] = place
        with _unharmed():
            mine = {v: self._board.store(uid, v, list(of)) for v, of in places.items()}
            return {
                place
                for version, of in places.items()
                for number, place in of.items()
                if number not in mine[version]
            }
        return set()

    def postponed(self, uid: str) -> None:
        """Tasks got a placeholder; a job replaces it."""
        with _unharmed():
            if self._board.knows(uid):
                self._mark([uid], ("label",))

    def _mark(self, uids: Sequence[str], works: Sequence[Work]) -> None:
        known = [uid for uid in uids if self._board.knows(uid)]  # and not forgotten meanwhile
        for uid in known:
            for work in works:
                self._board.mark(uid, work)
        if known:
            self._kick()

    def _uids(self, project: Mapping[str, Any]) -> list[str]:
        """Connected projects that an event may be of; its time of creation tells them apart."""
        found = [c.uid for c in self._board.connections() if c.number == project.get("id")]
        exact = project_uid(project)
        return [exact] if exact in found else found


def why_empty(entry: Mapping[str, Any]) -> str:
    """Why a prediction has no regions; "" when it has some."""
    if entry.get("result"):
        return ""
    return str(entry.get("reason") or "No part was found in its picture; is it of the domain?")


@contextmanager
def _unharmed() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        log.warning("Redis cannot be reached (%s); what is missed now is found later.", error)
    except DganError as error:
        log.warning("%s What is missed now is found later.", error)
