"""A double of Label Studio that keeps projects, tasks and uploads in memory, behind real HTTP.

It has the rules that pushing depends on: uploads get digits before their names, imported
annotations are the ground truth unless they say no, ids of deleted tasks are given again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dgan_backend.labelstudio.client import LabelStudioClient
from tests.sites import Answer, Seen, serving

_RESULTS = ("annotations", "predictions")
CREATED_AT = "2026-11-24T08:00:00.5Z"
UID = "7.1795507200"  # of project 7
TOKEN = "0123456789abcdef0123456789abcdef01234567"


class Studio:
    """before: what happens once before a call whose method and path match a pattern. tries: of
    an import, of which only the last one is told; the tasks of all are there. bare: how many of
    the last tries of the first import make tasks without what they come with. passes_over: whether
    all do, as where the labeling config does not fit."""

    def __init__(self) -> None:
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.files: dict[int, dict[str, Any]] = {}
        self.backends: dict[int, list[dict[str, Any]]] = {}
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}
        self.tries, self.bare = 1, 0
        self.passes_over = False
        self.refused = ""  # a call that is answered with 400
        self.url = ""
        self._last = 0

    def add_project(self, number: int, config: str, **fields: Any) -> None:
        about = {"title": f"Project {number}", "description": "", "model_version": ""}
        about |= {"id": number, "label_config": config, "created_at": CREATED_AT, **fields}
        self.projects[number] = about

    def of(self, project: int) -> list[dict[str, Any]]:
        """A project's tasks."""
        return [task for task in self.tasks.values() if task["project"] == project]

    def annotate(self, task: int, result: list[Any], **fields: Any) -> None:
        self._last += 1
        about = {"id": self._last, "result": result, "completed_by": 2, "updated_at": "2026"}
        self.tasks[task]["annotations"].append({**about, "was_cancelled": False, **fields})

    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("GET")]

    # What it answers

    def answer(self, seen: Seen) -> Answer:
        call = f"{seen.method} {seen.path}"
        for pattern in [p for p in self.before if re.fullmatch(p, call)]:
            self.before.pop(pattern)()
        self.calls.append(call)
        if call == self.refused:
            return Answer({"validation_errors": {"label_config": ["in use"]}}, 400)
        for pattern, method in _ROUTES.items():
            if found := re.fullmatch(pattern, call):
                return getattr(self, method)(seen, *map(int, found.groups()))
        raise AssertionError(f"unknown call: {call}")

    def _list_projects(self, seen: Seen) -> Answer:
        rows = sorted(self.projects.values(), key=lambda p: -p["id"])
        page, size = int(seen.query["page"][0]), int(seen.query["page_size"][0])
        fields = seen.query["include"][0].split(",")
        shown = [{f: row[f] for f in fields} for row in rows[(page - 1) * size : page * size]]
        return Answer({"results": shown, "next": "more" if page * size < len(rows) else None})

    def _create_project(self, seen: Seen) -> Answer:
        body = seen.json()
        if not 3 <= len(body["title"]) <= 50:
            return Answer({"detail": "title"}, 400)
        number = max(self.projects) + 1
        self.add_project(number, body.pop("label_config"), **body)
        return Answer(self.projects[number], 201)

    def _project(self, seen: Seen, number: int) -> Answer:
        if number not in self.projects:
            return Answer({"detail": "Not found."}, 404)
        return Answer(self.projects[number])

    def _update_project(self, seen: Seen, number: int) -> Answer:
        body = seen.json()
        versions = {p["model_version"] for t in self.of(number) for p in t["predictions"]}
        if body.get("model_version") and body["model_version"] not in versions:
            return Answer({"model_version": ["doesn't exist"]}, 400)
        self.projects[number].update(body)
        return Answer(self.projects[number])

    def _backends(self, seen: Seen) -> Answer:
        return Answer(self.backends.get(int(seen.query["project"][0]), []))

    def _import(self, seen: Seen, number: int) -> Answer:
        if seen.headers["content-type"].startswith("multipart"):
            assert seen.query["commit_to_project"] == ["false"]
            names = re.findall(rb'filename="([^"]+)"', seen.body)
            return Answer({"file_upload_ids": [self._store(number, n.decode()) for n in names]})
        tries, bare, self.bare = self.tries, self.bare, 0
        for n in range(tries):
            whole = n < tries - bare and not self.passes_over
            made = self._made(number, seen.json(), whole)
        tasks = [self.tasks[task] for task in made]
        counts = {f"{key[:-1]}_count": sum(len(t[key]) for t in tasks) for key in _RESULTS}
        return Answer({"task_ids": made, **counts}, 201)

    def _made(self, number: int, tasks: list[dict[str, Any]], whole: bool) -> list[int]:
        made = []
        for task in tasks:
            task = task if whole else {"data": task["data"]}
            new = max(self.tasks, default=0) + 1
            predictions = [dict(p) for p in task.get("predictions", [])]
            about = {"id": new, "project": number, "data": task["data"]}
            self.tasks[new] = {**about, "predictions": predictions, "annotations": []}
            for a in task.get("annotations", []):
                self.annotate(new, a["result"], ground_truth=a.get("ground_truth", True))
            made.append(new)
        return made

    def _store(self, project: int, name: str) -> int:
        number = max(self.files, default=0) + 1
        file = f"upload/{project}/{number:08x}-{name}"
        self.files[number] = {"id": number, "project": project, "file": file, "size": 1}
        return number

    def _uploads(self, seen: Seen, number: int) -> Answer:
        ids = json.loads(seen.query.get("ids", ["[]"])[0])
        every = seen.query.get("all") == ["true"]
        rows = [f for f in self.files.values() if f["project"] == number]
        return Answer([f for f in rows if every or f["id"] in ids])

    def _delete_uploads(self, seen: Seen, number: int) -> Answer:
        ids = seen.json()["file_upload_ids"]
        assert ids, "without ids Label Studio deletes all"
        for upload in ids:
            assert self.files.pop(upload)["project"] == number
        return Answer({"deleted": len(ids)})

    def _tasks(self, seen: Seen) -> Answer:
        query = json.loads(seen.query.get("query", ["{}"])[0])
        rows = self.of(int(seen.query["project"][0]))
        if "selectedItems" in query:
            rows = [t for t in rows if t["id"] in query["selectedItems"]["included"]]
        for item in query.get("filters", {}).get("items", []):
            if (item["filter"], item["operator"]) == ("filter:tasks:id", "greater"):
                rows = [t for t in rows if t["id"] > item["value"]]
        if query.get("ordering") == ["-tasks:id"]:
            rows = rows[::-1]
        page, size = int(seen.query.get("page", ["1"])[0]), int(seen.query["page_size"][0])
        shown = rows[(page - 1) * size : page * size]
        return Answer({"tasks": [_shown(task) for task in shown], "total": len(rows)})

    def _annotations(self, seen: Seen, number: int) -> Answer:
        return Answer([a for a in self.tasks[number]["annotations"] if not a["was_cancelled"]])

    def _delete_tasks(self, seen: Seen) -> Answer:
        assert seen.query["id"] == ["delete_tasks"]
        for task in seen.json()["selectedItems"]["included"]:
            assert self.tasks.pop(task)["project"] == int(seen.query["project"][0])
        return Answer({"processed_items": 1})


def _shown(task: dict[str, Any]) -> dict[str, Any]:
    cancelled = sum(a["was_cancelled"] for a in task["annotations"])
    return {
        **task,
        "total_annotations": len(task["annotations"]) - cancelled,
        "cancelled_annotations": cancelled,
        "draft_exists": bool(task.get("draft")),
        "total_predictions": len(task["predictions"]),
        "predictions_model_versions": ",".join({p["model_version"] for p in task["predictions"]}),
    }


_ROUTES = {
    r"GET /api/projects/": "_list_projects",
    r"POST /api/projects/": "_create_project",
    r"GET /api/projects/(\d+)/": "_project",
    r"PATCH /api/projects/(\d+)/": "_update_project",
    r"GET /api/ml/": "_backends",
    r"POST /api/projects/(\d+)/import": "_import",
    r"GET /api/projects/(\d+)/file-uploads": "_uploads",
    r"DELETE /api/projects/(\d+)/file-uploads": "_delete_uploads",
    r"GET /api/tasks/": "_tasks",
    r"GET /api/tasks/(\d+)/annotations/": "_annotations",
    r"POST /api/dm/actions": "_delete_tasks",
}


@contextmanager
def studio_with(*projects: tuple[int, str]) -> Iterator[tuple[Studio, LabelStudioClient]]:
    """A double with projects (number, labeling config), and a client of it."""
    studio = Studio()
    for number, config in projects:
        studio.add_project(number, config)
    with serving(studio.answer) as site, LabelStudioClient(site.url, TOKEN) as client:
        studio.url = site.url
        yield studio, client
