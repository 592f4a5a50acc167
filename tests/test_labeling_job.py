"""Pre-labels, against a double of Label Studio's client that keeps its rules in memory."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgan_backend.labelstudio.client import LabelStudioError, TaskSummary
from dgan_backend.labelstudio.project import open_project
from dgan_backend.loop import labeling
from dgan_backend.loop.board import Lost
from dgan_backend.loop.labeling import CHUNK, Labeled, Labeler
from dgan_backend.records import PENDING
from tests.labeling import CONFIG

PROJECT = open_project("7.1795491060", CONFIG)
OLD, NEW = "p7-toonhead-v0001", "p7-toonhead-v0002"
WRITES = ("import_predictions", "update_prediction", "delete_prediction")


class Studio:
    """Tasks and predictions with Label Studio's ids, and a log of the calls that change them.

    before, after: what others do around a call of that name, once.
    """

    def __init__(self, tasks: int = 3) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.stored: dict[int, dict[str, Any]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.before: dict[str, list[Callable[[], None]]] = {}
        self.after: dict[str, list[Callable[[], None]]] = {}
        self.refused: set[int] = set()
        self._next = 100
        for number in range(1, tasks + 1):
            self.tasks[number] = {"id": number, "data": {"image": f"/{number}.png"}}

    # What others do

    def has(self, task: int, version: str, **fields: Any) -> int:
        """Store a prediction, as Label Studio does with what /predict answers."""
        self._next += 1
        about = {"task": task, "model_version": version, "result": ["theirs"], "score": 0.0}
        self.stored[self._next] = {"id": self._next, **about, **fields}
        return self._next

    def touch(self, task: int, how: str) -> None:
        self.tasks[task][how] = self.tasks[task].get(how, 0) + 1

    def versions(self, task: int) -> list[str]:
        return [p["model_version"] for p in self.stored.values() if p["task"] == task]

    def ours(self, task: int) -> list[dict[str, Any]]:
        return [p for p in self.stored.values() if p["task"] == task and "made" in p["result"]]

    def writes(self, name: str) -> list[Any]:
        return [about for call, about in self.calls if call == name]

    # The client

    def summaries(
        self, project: int, *, annotated: bool | None = None, tasks: Sequence[int] = ()
    ) -> Iterator[TaskSummary]:
        assert project == 7 and annotated in (None, False) and len(tasks) <= 100
        self._around(self.before, "summaries")
        for number, task in list(self.tasks.items()):
            if (tasks and number not in tasks) or (annotated is False and task.get("annotations")):
                continue
            versions = self.versions(number)
            yield TaskSummary.of(
                {
                    **task,
                    "total_annotations": task.get("annotations"),
                    "cancelled_annotations": task.get("skipped"),
                    "draft_exists": bool(task.get("draft")),
                    "total_predictions": len(versions),
                    "predictions_model_versions": ", ".join(set(versions)),  # one each, any order
                }
            )
        self._around(self.after, "summaries")

    def with_predictions(
        self, project: int, tasks: Sequence[int]
    ) -> list[tuple[TaskSummary, list[dict[str, Any]]]]:
        return [(task, self.predictions(task.id)) for task in self.summaries(project, tasks=tasks)]

    def predictions(self, task: int) -> list[dict[str, Any]]:
        return [dict(p) for p in self.stored.values() if p["task"] == task]

    def import_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        self._around(self.before, "import_predictions")
        taken = [p for p in predictions if p["task"] not in self.refused]
        for p in taken:
            self.has(p["task"], p["model_version"], result=p["result"], score=p["score"])
        self.calls.append(("import_predictions", [p["task"] for p in predictions]))
        self._around(self.after, "import_predictions")
        return len(taken)

    def update_prediction(self, prediction: int, **fields: Any) -> None:
        self._around(self.before, "update_prediction")
        if prediction not in self.stored:
            raise LabelStudioError("Label Studio answered 404", 404, gone=True)
        self.stored[prediction].update(fields)
        self.calls.append(("update_prediction", prediction))
        self._around(self.after, "update_prediction")

    def delete_prediction(self, prediction: int) -> None:
        self._around(self.before, "delete_prediction")
        self.stored.pop(prediction, None)
        self.calls.append(("delete_prediction", prediction))

    def _around(self, what: dict[str, list[Callable[[], None]]], call: str) -> None:
        if what.get(call):
            what[call].pop(0)()


def predict(task: Mapping[str, Any]) -> dict[str, Any]:
    return {"result": ["made", task["data"]["image"]], "score": 0.5, "model_version": NEW}


def run(studio: Studio, predict: Callable[[Any], Any] = predict, **options: Any) -> Labeled:
    return Labeler(studio, PROJECT, NEW, predict, **options).run()  # type: ignore[arg-type]


def kill() -> None:
    raise Lost


# What is labeled


def test_every_task_gets_one_prediction_that_is_its_own() -> None:
    studio = Studio(2 * CHUNK + 3)
    done: list[tuple[int, int]] = []
    assert run(studio, progress=lambda *at: done.append(at)) == Labeled(2 * CHUNK + 3, ())
    for number in studio.tasks:
        (only,) = studio.predictions(number)
        assert (only["result"], only["model_version"]) == (["made", f"/{number}.png"], NEW)
    assert [len(tasks) for tasks in studio.writes("import_predictions")] == [CHUNK, CHUNK, 3]
    assert done[-1] == (23, 23) and done == sorted(done)
    before = dict(studio.stored)
    assert run(studio) == Labeled(0, ())
    assert studio.stored == before


@pytest.mark.parametrize("how", ["", "draft"])
def test_what_label_studio_is_storing_is_not_written_beside_it(how: str) -> None:
    """Somebody opens task 2: Label Studio stores what /predict answered once this job has looked,
    and nothing may be deleted where the person has begun."""
    studio = Studio(3)

    def opened() -> None:
        studio.has(2, NEW)
        if how:
            studio.touch(2, how)

    served = iter([set(), {2}])
    studio.after["import_predictions"] = [opened]
    run(studio, store=lambda tasks: set(tasks) - {2}, served=lambda: next(served, set()))
    assert [studio.versions(n) for n in (1, 2, 3)] == [[NEW]] * 3
    assert not studio.writes("delete_prediction")


def test_what_nobody_stored_after_all_is_written() -> None:
    studio = Studio(3)
    assert run(studio, store=lambda tasks: set()) == Labeled(3, ())
    assert [studio.versions(n) for n in (1, 2, 3)] == [[NEW]] * 3


@pytest.mark.parametrize("old", [OLD, PENDING, "toonhead-shipped", "toonhead-untrained"])
def test_a_replaced_prediction_keeps_its_id(old: str) -> None:
    studio = Studio(1)
    number = studio.has(1, old)
    assert run(studio).written == 1
    assert studio.predictions(1) == [
        {"id": number, "task": 1, "result": ["made", "/1.png"], "score": 0.5, "model_version": NEW}
    ]
    assert not studio.writes("import_predictions") and not studio.writes("delete_prediction")


def test_predictions_that_are_outdated_are_written_anew() -> None:
    studio = Studio(tasks=5)
    first, _, _, _ = (studio.has(n, v) for n, v in ((1, NEW), (2, NEW), (3, OLD), (4, NEW)))
    studio.touch(2, "draft")
    fresh = studio.has(5, NEW, result=["made", "/5.png"])
    assert run(studio, outdated=_theirs).written == 1  # 3; nothing says that others are outdated
    assert run(studio, outdated=_theirs, look_at_all=True).written == 2  # 1 and 4
    assert not studio.writes("delete_prediction")
    assert [studio.versions(task) for task in (1, 2, 3, 4, 5)] == [[NEW]] * 5
    assert [bool(studio.ours(task)) for task in (1, 2, 3, 4, 5)] == [True, False, True, True, True]
    assert studio.stored[first]["result"] == ["made", "/1.png"]
    assert fresh not in studio.writes("update_prediction")


def test_an_interrupted_renewal_goes_on_where_it_was() -> None:
    studio = Studio(2 * CHUNK)
    for n in studio.tasks:
        studio.has(n, NEW)
    calls = iter(range(CHUNK + 5))

    def check() -> None:
        if studio.writes("update_prediction") and next(calls, None) is None:
            raise Lost

    with contextlib.suppress(Lost):
        run(studio, outdated=_theirs, look_at_all=True, check=check)
    done = len(studio.writes("update_prediction"))
    assert 0 < done < 2 * CHUNK
    assert run(studio, outdated=_theirs, look_at_all=True).written == 2 * CHUNK - done
    assert all(studio.ours(n) for n in studio.tasks)


def test_what_predict_stored_with_older_labels_meanwhile_is_written_anew() -> None:
    studio = Studio(1)
    studio.has(1, OLD)
    studio.before["update_prediction"] = [lambda: studio.has(1, NEW) and None]
    served = iter([set(), {1}, set(), set()])
    run(studio, outdated=_theirs, look_at_all=True, served=lambda: next(served, set()))
    assert studio.versions(1) == [NEW] and studio.ours(1)


def _theirs(prediction: Mapping[str, Any]) -> bool:
    return "made" not in prediction["result"]


def test_predictions_of_others_are_not_touched() -> None:
    studio = Studio(2)
    foreign = [studio.has(1, v) for v in ("their-model", "p8-toonhead-v0001", "")]
    foreign += [studio.has(2, "their-model"), studio.has(2, "their-model")]
    studio.has(2, OLD)
    before = {number: dict(studio.stored[number]) for number in foreign}
    assert run(studio).written == 2
    assert {number: studio.stored[number] for number in foreign} == before
    assert [len(studio.ours(task)) for task in (1, 2)] == [1, 1]
    assert run(studio).written == 0


@pytest.mark.parametrize("how", ["annotations", "skipped", "draft"])
def test_a_task_that_a_person_has_begun_with_is_left_alone(how: str) -> None:
    studio = Studio(3)
    studio.touch(1, how)
    studio.has(1, OLD)
    studio.touch(2, how)
    studio.has(2, OLD), studio.has(2, NEW), studio.has(2, NEW)
    assert run(studio).written == 1
    assert studio.versions(1) == [OLD] and studio.versions(2) == [OLD, NEW, NEW]


def test_tasks_without_prediction_come_first_then_placeholders_then_older_versions() -> None:
    studio = Studio(5)
    studio.has(1, OLD), studio.has(2, PENDING), studio.has(3, OLD), studio.has(3, PENDING)
    asked: list[int] = []
    run(studio, lambda task: asked.append(task["id"]) or predict(task))
    assert asked == [4, 5, 2, 3, 1]


def test_a_picture_out_of_reach_is_postponed_and_keeps_what_it_has() -> None:
    studio = Studio(3)
    studio.has(2, OLD)

    def partly(task: Mapping[str, Any]) -> dict[str, Any]:
        entry = predict(task)
        return entry if task["id"] == 3 else {"score": 0.0, "model_version": NEW, "reason": "gone"}

    assert run(studio, partly) == Labeled(1, (1, 2))
    assert [studio.versions(task) for task in (1, 2, 3)] == [[], [OLD], [NEW]]


def test_predictions_that_label_studio_does_not_take_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    studio = Studio(3)
    studio.refused = {2}
    run(studio)
    assert "took 2 of 3 predictions" in caplog.text


# Races: Label Studio stores what /predict answers


@pytest.mark.parametrize("version", [NEW, OLD, PENDING])
@pytest.mark.parametrize("before", [None, OLD, PENDING])
@pytest.mark.parametrize(
    ("when", "call"),
    [
        ("before", "import_predictions"),
        ("after", "import_predictions"),
        ("before", "update_prediction"),
        ("after", "update_prediction"),
    ],
    ids=[
        "between check and import",
        "between import and check",
        "between check and update",
        "between update and check",
    ],
)
def test_what_predict_stores_meanwhile_leaves_one_prediction(
    when: str, call: str, before: str | None, version: str
) -> None:
    studio = Studio(2)
    if before is not None:
        studio.has(1, before), studio.has(2, before)
    getattr(studio, when)[call] = [lambda: studio.has(1, version) and None]
    run(studio)
    assert [studio.versions(task) for task in (1, 2)] == [[NEW], [NEW]]


def test_what_predict_stored_while_the_job_computed_stays() -> None:
    studio = Studio(1)
    stored: list[int] = []

    def slowly(task: Mapping[str, Any]) -> dict[str, Any]:
        stored.append(studio.has(1, NEW))
        return predict(task)

    assert run(studio, slowly).written == 0
    assert [p["id"] for p in studio.predictions(1)] == stored


@pytest.mark.parametrize("versions", [(NEW, NEW), (OLD, NEW), (NEW, PENDING, NEW, OLD)])
def test_of_several_of_ours_the_oldest_of_this_version_stays(versions: tuple[str, ...]) -> None:
    studio = Studio(1)
    numbers = [studio.has(1, version) for version in versions]
    run(studio)
    assert [p["id"] for p in studio.predictions(1)] == [numbers[versions.index(NEW)]]


def test_tasks_that_are_being_served_are_done_last(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Studio(2 * CHUNK)
    served, waits = {1, CHUNK + 1}, []
    asked: list[int] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        served.discard(1 if 1 in served else CHUNK + 1)

    monkeypatch.setattr(labeling.time, "sleep", sleep)
    run(studio, lambda task: asked.append(task["id"]) or predict(task), served=lambda: set(served))
    assert asked[-2:] == [1, CHUNK + 1] and len(asked) == 2 * CHUNK
    assert len(waits) == 2, "until Label Studio has stored them all"
    assert all(studio.versions(task) == [NEW] for task in studio.tasks)


def test_what_predict_answered_for_served_tasks_is_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio = Studio(3)
    served = {2}
    asked: list[int] = []
    monkeypatch.setattr(labeling.time, "sleep", lambda _: (studio.has(2, NEW), served.clear()))
    run(studio, lambda task: asked.append(task["id"]) or predict(task), served=lambda: set(served))
    assert asked == [1, 3] and studio.versions(2) == [NEW] and not studio.ours(2)


def test_a_task_that_is_asked_for_while_it_is_written_is_looked_at_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """/predict began before our write and is stored after our check."""
    studio = Studio(2)
    served: set[int] = set()
    studio.before["import_predictions"] = [lambda: served.add(1)]
    monkeypatch.setattr(labeling.time, "sleep", lambda _: (studio.has(1, NEW), served.clear()))
    run(studio, served=lambda: set(served))
    assert not served, "it was waited for"
    assert studio.versions(1) == [NEW] and len(studio.ours(1)) == 1


def test_many_served_tasks_are_asked_for_in_short_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their ids stand in a URL."""
    studio = Studio(250)
    served = set(studio.tasks)
    monkeypatch.setattr(labeling.time, "sleep", lambda _: served.clear())
    assert run(studio, served=lambda: set(served)).written == 250


def test_a_task_that_is_served_for_ever_does_not_hold_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio, now = Studio(2), [0.0]
    monkeypatch.setattr(labeling.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        labeling.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    run(studio, served=lambda: {1})
    assert now[0] == pytest.approx(30.0)
    assert studio.versions(1) == [NEW]


# Races: people


@pytest.mark.parametrize("how", ["annotations", "skipped", "draft"])
@pytest.mark.parametrize("had", [(), (OLD,), (OLD, OLD)], ids=["none", "one", "two"])
def test_a_person_who_begins_while_the_job_computes_keeps_all(
    had: tuple[str, ...], how: str
) -> None:
    studio = Studio(2)
    for version in had:
        studio.has(1, version)
    before = studio.predictions(1)

    def slowly(task: Mapping[str, Any]) -> dict[str, Any]:
        if task["id"] == 1:
            studio.touch(1, how)
        return predict(task)

    assert run(studio, slowly).written == 1
    assert studio.predictions(1) == before


@pytest.mark.parametrize("how", ["annotations", "skipped", "draft"])
@pytest.mark.parametrize("call", ["import_predictions", "update_prediction"])
def test_a_person_who_begins_between_check_and_write_loses_no_prediction(
    call: str, how: str
) -> None:
    """An annotation is refused when the prediction that it began from is gone."""
    studio = Studio(1)
    if call == "update_prediction":
        studio.has(1, OLD)
    opened = []

    def begin() -> None:
        opened.append(studio.has(1, NEW))  # /predict answered when the task was opened
        opened.extend(studio.stored)
        studio.touch(1, how)

    studio.before[call] = [begin]
    run(studio)
    assert set(opened) <= set(studio.stored) and not studio.writes("delete_prediction")


# Killed


@pytest.mark.parametrize("had", [(), (OLD,), (PENDING,), (OLD, PENDING, OLD)])
@pytest.mark.parametrize("call", WRITES)
def test_a_killed_job_that_runs_again_leaves_one_prediction(
    call: str, had: tuple[str, ...]
) -> None:
    studio = Studio(2 * CHUNK)
    for version in had:
        for number in studio.tasks:
            studio.has(number, version)

    def die() -> None:
        studio.has(1, NEW)  # and Label Studio stores one more meanwhile
        raise Lost

    moments: dict[str, list[Callable[[], None]]] = studio.before
    if call != "delete_prediction":
        moments = studio.after
    moments[call] = [die]
    with contextlib.suppress(Lost):
        run(studio)
    moments.clear()
    run(studio)
    assert {tuple(studio.versions(task)) for task in studio.tasks} == {(NEW,)}


@settings(max_examples=60, deadline=None)
@given(
    had=st.lists(st.sampled_from([OLD, NEW, PENDING, "foreign"]), max_size=4),
    deaths=st.lists(st.integers(0, 12), max_size=3),
    stored=st.sampled_from([OLD, NEW, PENDING]),
)
def test_wherever_it_is_killed_one_prediction_is_left_in_the_end(
    had: list[str], deaths: list[int], stored: str
) -> None:
    studio = Studio(2)
    for version in had:
        studio.has(1, version)
    for steps in deaths:
        left = [steps]

        def check(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                studio.has(1, stored)
                raise Lost

        with contextlib.suppress(Lost):
            run(studio, check=check)
    run(studio)
    found = Counter(studio.versions(1))
    assert found[NEW] == 1 and set(found) <= {NEW, "foreign"}
    assert found["foreign"] == had.count("foreign")
    assert studio.versions(2) == [NEW]


@pytest.mark.parametrize("had", [(), (OLD,), (OLD, OLD), (NEW, NEW)])
def test_who_lost_the_lease_writes_nothing(had: tuple[str, ...]) -> None:
    studio = Studio(1)
    for version in had:
        studio.has(1, version)
    with pytest.raises(Lost):
        run(studio, check=kill)
    assert studio.calls == []


def test_a_lease_that_is_lost_while_the_job_computes_ends_it_before_the_write() -> None:
    studio, lost = Studio(1), []

    def check() -> None:
        if lost:
            raise Lost

    with pytest.raises(Lost):
        run(studio, lambda task: lost.append(1) or predict(task), check=check)
    assert studio.calls == []


def test_a_prediction_that_somebody_deletes_meanwhile_ends_nothing() -> None:
    studio = Studio(3)
    for task in studio.tasks:
        studio.has(task, OLD)
    studio.before["update_prediction"] = [lambda: studio.stored.clear()]
    run(studio)
    assert run(studio).written == 3
    assert {tuple(studio.versions(task)) for task in studio.tasks} == {(NEW,)}
