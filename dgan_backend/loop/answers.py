"""Why a task is empty, or what is known of it."""

from __future__ import annotations

from collections.abc import Iterator

from dgan_backend.labelstudio.project import Project
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.overview import ACTIVE, Json, Overview
from dgan_backend.loop.wording import said_of

Sentence = tuple[str, str]  # a state, and why


def answers(overview: Overview, task: int, project: str = "") -> list[Json]:
    """Of each project that the task may be of: project, uid, state, reason, and more sentences.

    project: a number or a uid; "" = any. state: "unusable", "untrained", "empty", "paused",
    "pending", "learned" or "unknown".
    """
    named = [c for c in overview.connections if project in ("", c.uid, str(c.number))]
    found = {c.uid: _sentences(overview, c, task) for c in named}
    telling = {uid for uid, told in found.items() if any(state in _OF_TASKS for state, _ in told)}
    return [
        _answer(overview, connection, task, found[connection.uid])
        for connection in named
        if connection.uid in (telling or found)
    ]


_OF_TASKS = ("empty", "asked", "learned")  # which tell that a project has that task


def _answer(overview: Overview, connection: Connection, task: int, told: list[Sentence]) -> Json:
    project = connection.open()
    told = told or [("unknown", _unknown(overview, project, task))]
    first = told[0][1]
    return {
        "project": project.number,
        "uid": connection.uid,
        "state": "pending" if told[0][0] == "asked" else told[0][0],
        "reason": first,
        "more": [text for _, text in told[1:] if text != first],
    }


def _sentences(overview: Overview, connection: Connection, task: int) -> list[Sentence]:
    """The most telling first."""
    uid, project = connection.uid, connection.open()
    found: list[Sentence] = []
    if project.problem:
        found.append(("unusable", project.problem))
    elif untrained := overview.untrained(project):
        found.append(("untrained", untrained))
    if about := overview.reasons(uid, project).get(task):
        found.append(("empty", about["reason"]))
    if task in overview.served(uid):
        found.append(("asked", "Label Studio is asking for its parts right now."))
    job = overview.job(uid, "label")
    if overview.paused(uid):
        found.append(("paused", _PAUSED))
    elif job["state"] in ACTIVE:
        found.append(("pending", f"Pre-labeling of its project is {said_of(job)}."))
    return [*found, *_learned(overview, connection, project, task)]


_PAUSED = (
    "The project is paused: pictures are labeled when somebody opens them, and nothing is "
    "learned until it goes on."
)


def _learned(
    overview: Overview, connection: Connection, project: Project, task: int
) -> Iterator[Sentence]:
    """What became of its annotation."""
    history = overview.history(project, overview.outcome(connection.uid), "")
    for version in [v for v in history["versions"] if task in v["new"]][-1:]:
        yield "learned", f"Its annotation was new to version {version['name']}."
    for told in history["left_out"]:
        if told["task"] == task:
            yield "learned", f"Nothing is learned from its annotation: {told['reason']}"
    for told in history["learned_in_part"]:
        if told["task"] == task:
            yield "learned", f"Its annotation is learned from in part: {told['reason']}"


def _unknown(overview: Overview, project: Project, task: int) -> str:
    return (
        f"Nothing is known to be wrong with task {task} of {project.name}, which "
        f"{overview.predictor.version(project)} serves. If it shows no parts, choose its row in "
        f"Label Studio and Actions > Retrieve predictions; `dgan-backend doctor --project "
        f"{project.number}` says what keeps pre-labels from showing."
    )
