"""People who label: each is a user of Label Studio, and does what its pages do."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import numpy as np

from dgan_backend.errors import DganError
from dgan_backend.labelstudio import brush
from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.corrections import regions_hash
from dgan_backend.labelstudio.regions import read_mask, to_regions
from dgan_backend.loadtest.answers import Answer

_PATIENCE = 120.0  # seconds for an answer of Label Studio
_CORRECTED = 0.6  # of submitted annotations differ from the prediction
_AGAIN = 0.2  # of all turns change an earlier annotation
_OPENED = 0.3  # of the tasks are also opened from the list
_FURTHEST = 3  # px that a corrected part is moved by
Region = dict[str, Any]
_Found = TypeVar("_Found")


@dataclass
class Tally:
    """What all of them did. submitted: annotation id -> its task and the hash of its regions as
    they were last acknowledged. answers: of Label Studio. troubles: what it refused, in words."""

    submitted: dict[int, tuple[int, str]] = field(default_factory=dict)
    again: int = 0
    answers: list[Answer] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, route: str, call: Callable[[], _Found]) -> _Found:
        at, began, good = time.time(), time.perf_counter(), False
        try:
            found = call()
            good = True
            return found
        finally:
            with self._lock:
                self.answers.append(Answer(at, route, time.perf_counter() - began, good))

    def keep(self, annotation: int, task: int, regions: list[Region], again: bool) -> None:
        with self._lock:
            self.submitted[annotation] = task, regions_hash(regions)
            self.again += again

    def trouble(self, said: str) -> None:
        with self._lock:
            self.troubles.append(said)


@dataclass(frozen=True)
class Office:
    """Where they work. pause: seconds that one takes to look, or to paint, on average."""

    project: int
    binding: Binding
    pause: float
    tally: Tally
    closed: threading.Event


class Annotator(threading.Thread):
    """One person, who takes task after task as Label Studio deals them, until the office closes."""

    def __init__(self, site: LabelStudioClient, office: Office, seed: int) -> None:
        super().__init__(name=f"annotator-{seed}", daemon=True)
        self._site, self._office, self._dice = site, office, random.Random(seed)
        self._mine: list[tuple[int, int, list[Region]]] = []  # annotation, task, regions

    def run(self) -> None:
        while not self._pause():
            try:
                self._turn()
            except LabelStudioError as error:
                self._office.tally.trouble(str(error))
            except Exception as error:  # told, not a thread that ends in silence
                self._office.tally.trouble(f"{self.name}: {error!r}")
        self._site.close()

    def _pause(self) -> bool:
        """Think; True when the office has closed meanwhile."""
        return self._office.closed.wait(self._dice.expovariate(1.0 / self._office.pause))

    def _turn(self) -> None:
        if self._mine and self._dice.random() < _AGAIN:
            self._change_one()
            return
        task = self._next()
        if task is not None:
            self._label(task)
        elif self._mine:  # there is no task left: people look at what they did
            self._change_one()

    def _next(self) -> dict[str, Any] | None:
        path = f"/api/projects/{self._office.project}/next"
        try:
            task: dict[str, Any] = self._timed("next task", "GET", path)
        except LabelStudioError as error:
            if error.status == 404:
                return None
            raise
        if self._dice.random() < _OPENED:
            return dict(self._timed("open task", "GET", f"/api/tasks/{task['id']}"))
        return task

    def _label(self, task: dict[str, Any]) -> None:
        number = int(task["id"])
        predictions = [p for p in task.get("predictions") or [] if p["result"]]
        begun = predictions[-1] if predictions else None
        if begun is None:
            regions = drawn(self._office.binding, self._dice)
        elif self._dice.random() < _CORRECTED:
            regions = changed(begun["result"], self._dice)
        else:
            regions = list(begun["result"])
        told: dict[str, Any] = {"result": regions, "lead_time": self._office.pause}
        where = f"/api/tasks/{number}"
        draft = self._timed("save draft", "POST", f"{where}/drafts", json=told)
        self._pause()
        told |= {"draft_id": draft["id"], "parent_prediction": begun["id"] if begun else None}
        made = self._timed("submit", "POST", f"{where}/annotations/", json=told)
        self._keep(int(made["id"]), number, regions)

    def _change_one(self) -> None:
        at = self._dice.randrange(len(self._mine))
        annotation, task, regions = self._mine[at]
        regions = changed(regions, self._dice)
        self._timed("update", "PATCH", f"/api/annotations/{annotation}/", json={"result": regions})
        del self._mine[at]
        self._keep(annotation, task, regions, again=True)

    def _keep(self, annotation: int, task: int, regions: list[Region], again: bool = False) -> None:
        self._mine.append((annotation, task, regions))
        self._office.tally.keep(annotation, task, regions, again)

    def _timed(self, route: str, method: str, path: str, **options: Any) -> Any:
        return self._office.tally.timed(route, lambda: self._site.request(method, path, **options))


def changed(regions: list[Region], dice: random.Random) -> list[Region]:
    """With one part moved a little, as if painted anew. regions: brush strokes, at least one."""
    n = dice.randrange(len(regions))
    region = regions[n]
    height, width = region["original_height"], region["original_width"]
    mask = read_mask(region, "brush", height, width)
    step = (dice.randint(-_FURTHEST, _FURTHEST), dice.choice((-2, -1, 1, 2)))
    value = {**region["value"], "rle": brush.encode(np.roll(mask, step, (0, 1)))}
    return [*regions[:n], {**region, "value": value}, *regions[n + 1 :]]


def drawn(binding: Binding, dice: random.Random, side: int = 64) -> list[Region]:
    """One part, painted on an empty picture of `side` px."""
    mask = np.zeros((side, side), np.uint8)
    top, left = dice.randrange(side // 2), dice.randrange(side // 2)
    mask[top : top + side // 3, left : left + side // 3] = dice.choice(sorted(binding.label_of))
    regions: list[Region] = to_regions(mask, None, binding)
    return regions or drawn(binding, dice, side)


def sign_up(site: LabelStudioClient, number: int) -> LabelStudioClient:
    """A new user of Label Studio, as somebody who was sent the link; a client with its token."""
    link = str(site.request("GET", "/api/invite")["invite_url"])
    email = f"annotator-{number}-{secrets.token_hex(4)}@example.com"
    with httpx.Client(timeout=_PATIENCE, trust_env=False, follow_redirects=True) as browser:
        url = site.link(link) if link.startswith("/") else link
        browser.get(url).raise_for_status()
        form = {
            "email": email,
            "password": secrets.token_urlsafe(12),
            "csrfmiddlewaretoken": browser.cookies.get("csrftoken", ""),
        }
        browser.post(url, data=form, headers={"Referer": url}).raise_for_status()
        answer = browser.get(site.link("/api/current-user/token"))
        if not answer.is_success:
            raise DganError(f"Label Studio made no user {email}: {answer.status_code}.")
        return LabelStudioClient(site.url, str(answer.json()["token"]), timeout=_PATIENCE)
