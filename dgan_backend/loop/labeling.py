"""Pre-labels: every task that nobody has begun with gets one prediction of the current version."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError, TaskSummary
from dgan_backend.labelstudio.project import Project
from dgan_backend.records import PENDING, is_own_version

log = logging.getLogger(__name__)

CHUNK = 10  # tasks that are checked and written together
_LONGEST_WAIT = 30.0  # seconds, for predictions that Label Studio is storing
_PAUSE = 1.0
_WRITERS = 2  # changes of predictions at a time: 70 ms each on sqlite, one at a time 105

Entry = Mapping[str, Any]
Prediction = Mapping[str, Any]


@dataclass(frozen=True)
class Labeled:
    """What became of a project's tasks: how many were written, and which could not be labeled
    for now (a picture out of reach)."""

    written: int
    postponed: tuple[int, ...]


@dataclass(frozen=True)
class Looked:
    """A task and those of its predictions that are ours, the oldest first."""

    task: TaskSummary
    ours: list[Prediction]


class Labeler:
    """Brings one project's predictions up to one version.

    Before every write it looks again at what is there, and after it once more, since Label Studio
    may store a prediction of its own at any time (a person opens a task, /predict answers). A
    prediction that is replaced keeps its id: a person may have it open, and Label Studio refuses
    an annotation whose prediction is gone.

    predict: a task -> its entry, as `Predictor.predict`. served: tasks that Label Studio is asking
    /predict for right now. store: tasks -> those whose prediction nobody else is storing. check:
    called before anything is written; raises when this process has to stop. idle: called while
    Label Studio is waited for; may raise, too. progress: told how many of how many tasks are done.
    outdated: whether a prediction of this very version is to be written again, such as for labels
    that are called otherwise now; look_at_all: also where nothing else is wrong.
    """

    def __init__(
        self,
        site: LabelStudioClient,
        project: Project,
        version: str,
        predict: Callable[[Mapping[str, Any]], Entry],
        served: Callable[[], set[int]] = set,
        store: Callable[[Sequence[int]], set[int]] = set,
        check: Callable[[], None] = lambda: None,
        idle: Callable[[], None] = lambda: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        outdated: Callable[[Prediction], bool] = lambda prediction: False,
        look_at_all: bool = False,
    ) -> None:
        assert project.number is not None
        self._site, self._number, self._version = site, project.number, version
        self._predict, self._served, self._store = predict, served, store
        self._check, self._idle, self._progress = check, idle, progress
        self._outdated, self._look_at_all = outdated, look_at_all

    def run(self) -> Labeled:
        """Label what needs it: tasks without a prediction first, then placeholders, then those
        of older versions."""
        found = list(self._site.summaries(self._number, annotated=False))
        todo = [task for task in found if self._needs(task)]
        if self._look_at_all:
            todo += self._outdated_ones([t for t in found if not t.touched and not self._needs(t)])
        several = [t.id for t in found if t.predictions > 1 and not self._needs(t)]
        for some in _chunks(several):
            self._tidy(some)
        todo.sort(key=lambda task: (self._rank(task), task.id))
        done, written, postponed, racing = 0, 0, [], []
        for chunk, entries in self._ahead(todo):
            postponed += [task for task, entry in entries.items() if "result" not in entry]
            mine = self._store([task for task, entry in entries.items() if "result" in entry])
            written += self._write({t: entry for t, entry in entries.items() if t in mine})
            served = self._served()
            left = entries.keys() - mine - set(postponed)
            racing += [t for t in chunk if t.id in served or t.id not in entries or t.id in left]
            done += len(chunk)
            self._progress(done, len(todo))
        self._await([task.id for task in racing])
        for chunk in _chunks(racing):
            ids = [task.id for task in chunk]
            entries = self._entries([found.task for found in self._still(ids)])
            postponed += [task for task, entry in entries.items() if "result" not in entry]
            self._store(list(entries))  # whoever had begun to had its time
            written += self._write(entries)
            self._tidy(ids)
        return Labeled(written, tuple(postponed))

    def _ahead(
        self, todo: Sequence[TaskSummary]
    ) -> Iterator[tuple[list[TaskSummary], dict[int, Entry]]]:
        """Chunks of tasks with the entries of those that are not being served; each is computed
        while the one before is written."""
        with ThreadPoolExecutor(1, "labeling") as pool:
            before: tuple[list[TaskSummary], Future[dict[int, Entry]]] | None = None
            for chunk in _chunks(todo):
                after = chunk, pool.submit(self._entries_of_free, chunk)
                if before is not None:
                    yield before[0], before[1].result()
                before = after
            if before is not None:
                yield before[0], before[1].result()

    def _entries_of_free(self, chunk: Sequence[TaskSummary]) -> dict[int, Entry]:
        served = self._served()
        return self._entries([task for task in chunk if task.id not in served])

    def _needs(self, task: TaskSummary) -> bool:
        return not task.touched and _own(task, self._number) != [self._version]

    def _outdated_ones(self, tasks: Sequence[TaskSummary]) -> Iterator[TaskSummary]:
        for chunk in _chunks(tasks):
            self._check()
            yield from (found.task for found in self._still([task.id for task in chunk]))

    def _rank(self, task: TaskSummary) -> int:
        own = _own(task, self._number)
        return 0 if not own else 1 if PENDING in own else 2

    def _still(self, tasks: Sequence[int]) -> list[Looked]:
        return [
            found
            for found in self._looked(tasks)
            if self._needs(found.task)
            or (not found.task.touched and any(map(self._outdated, self._current(found))))
        ]

    def _current(self, found: Looked) -> list[Prediction]:
        return [p for p in found.ours if p["model_version"] == self._version]

    def _looked(self, tasks: Sequence[int]) -> list[Looked]:
        """How these tasks are now. Label Studio's own count of predictions is not gone by: it is
        off after races."""
        found = self._site.with_predictions(self._number, tasks) if tasks else []
        return [
            Looked(
                task,
                [p for p in predictions if is_own_version(str(p["model_version"]), self._number)],
            )
            for task, predictions in found
        ]

    def _entries(self, tasks: Sequence[TaskSummary]) -> dict[int, Entry]:
        entries = {}
        for task in tasks:
            self._check()
            entries[task.id] = self._predict({"id": task.id, "data": task.data})
        return entries

    def _write(self, entries: Mapping[int, Entry]) -> int:
        """Check, write, check again; returns how many were written."""
        ready = {task: entry for task, entry in entries.items() if "result" in entry}
        if not ready:
            return 0
        now = self._still(list(ready))
        self._check()
        new = [found.task.id for found in now if not found.ours]
        self._import([{"task": task, **_fields(ready[task])} for task in new])
        with ThreadPoolExecutor(_WRITERS, "writing") as pool:
            old = [found for found in now if found.ours]
            list(pool.map(lambda found: self._replace(found, ready[found.task.id]), old))
        self._tidy(list(ready))
        return len(now)

    def _import(self, predictions: list[dict[str, Any]]) -> None:
        if not predictions:
            return
        stored = self._site.import_predictions(self._number, predictions)
        if stored < len(predictions):
            log.warning(
                "Project %s: Label Studio took %d of %d predictions; the labeling config has "
                "changed, perhaps.",
                self._number,
                stored,
                len(predictions),
            )

    def _replace(self, found: Looked, entry: Entry) -> None:
        """Put an entry into the place of our first prediction, or of the one of this version;
        `_tidy` removes the others."""
        current = self._current(found)
        if current and not any(map(self._outdated, current)):
            return
        self._check()
        try:
            place = (current or found.ours)[0]
            self._site.update_prediction(int(place["id"]), **_fields(entry))
        except LabelStudioError as error:
            if error.status != 400 and not error.gone:  # gone: somebody deleted it just now
                raise
            log.warning("Project %s: a prediction stays as it was: %s", self._number, error)

    def _tidy(self, tasks: Sequence[int]) -> None:
        """Of several predictions of ours keep one: of this version, and of those the oldest."""
        for found in self._looked(tasks):
            if found.task.touched:
                continue
            keep = (self._current(found) or found.ours)[:1]
            for prediction in found.ours:
                if prediction not in keep:
                    self._check()
                    self._site.delete_prediction(int(prediction["id"]))

    def _await(self, tasks: Sequence[int]) -> None:
        """Until Label Studio has stored what /predict answered, or long enough."""
        until = time.monotonic() + _LONGEST_WAIT
        while set(tasks) & self._served() and time.monotonic() < until:
            self._check()
            self._idle()
            time.sleep(_PAUSE)


def _own(task: TaskSummary, project: int) -> list[str]:
    return [v for v in task.versions if is_own_version(v, project)]


def _fields(entry: Entry) -> dict[str, Any]:
    return {key: entry[key] for key in ("result", "score", "model_version")}


def _chunks(items: Sequence[Any]) -> Iterable[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
