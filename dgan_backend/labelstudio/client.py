"""A thin client for the part of Label Studio's API that the backend uses.

label-studio-sdk has a client too. It is not used here because it cannot download media (its
`files.download` drops the bytes), stream with a bound, or take part in redirect checks; because
its errors are dumps of headers where people need the next step; and because its import takes a
second and 100 MB in processes that make five calls.
"""

from __future__ import annotations

import json
import mimetypes
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.addresses import NoLinkLocal
from dgan_backend.labelstudio.bounds import PLAIN, patient, read, within
from dgan_backend.labelstudio.doubles import doubles
from dgan_backend.labelstudio.tokens import Token

_PAGE = 100
_ANSWER_SECONDS = 300.0  # for a call as a whole; no part of it may keep us waiting for `timeout`
_ATTEMPTS = 3  # of a call that Label Studio has not begun with
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds between them
_WHOLE_PAGE = 20
_MOST_BYTES = 256 * 1024 * 1024  # of an answer: a page of tasks with large masks in them
_STORED = r"/(tasks|projects)/\d+/(resolve|presign)/?"  # leads on to a project's storage
_PICTURES = (  # where Label Studio 1.23 keeps pictures, and nothing else
    rf"/data/upload/.+|/data/local-files/?|/storage-data/uploaded/?|{_STORED}"
)
_OF_A_PROJECT = "id,title,description,label_config"  # in a list; counts take long


class LabelStudioError(DganError):
    """Label Studio said no or could not be reached.

    status: HTTP's, 0 if none. gone: whether Label Studio itself says that there is no such thing;
    a 404 of something between us and Label Studio says nothing about what is in it.
    """

    def __init__(self, message: str, status: int = 0, *, gone: bool = False) -> None:
        super().__init__(message)
        self.status, self.gone = status, gone


class LabelStudioClient:
    """Label Studio at `url`, with a legacy token or a personal access token.

    timeout: of one read, in seconds; a call may take five minutes.
    trusted: whether an admin named the URL (rather than a /setup request)
    """

    def __init__(
        self, url: str, token: str, timeout: float = 30.0, *, trusted: bool = True
    ) -> None:
        self.url = url.rstrip("/")
        self.trusted = trusted
        transport = None if trusted else NoLinkLocal()
        self._http = patient(
            httpx.Client(
                timeout=httpx.Timeout(timeout, connect=5.0), transport=transport, headers=PLAIN
            )
        )
        self._token = Token(token, self._exchange)

    def __enter__(self) -> LabelStudioClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def link(self, path: str) -> str:
        """The full URL of a path; a path that already has the URL's own prefix keeps it."""
        prefix = httpx.URL(self.url).path.rstrip("/")
        if prefix and path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
        return self.url + path

    def keeps(self, url: str) -> bool:
        """Whether a URL is one of this Label Studio's for pictures, which the token may go to:
        neither its API's, nor another application's on the same host."""
        return self._has(_PICTURES, url)

    def hands_on(self, url: str) -> bool:
        """Whether it is one that leads on to where a project's storage has a picture."""
        return self._has(_STORED, url)

    def _has(self, paths: str, url: str) -> bool:
        asked, own = httpx.URL(url), httpx.URL(self.url)
        path, prefix = _unquoted(asked.path), own.path.rstrip("/")
        if _origin(asked) != _origin(own) or path is None or not path.startswith(f"{prefix}/"):
            return False
        return re.fullmatch(paths, path[len(prefix) :]) is not None

    # Projects, tasks, predictions

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        body = {"title": title, "label_config": label_config, **fields}
        return self._object("POST", "/api/projects/", json=body)

    def project(self, project: int) -> dict[str, Any]:
        path = f"/api/projects/{project}/"
        about = self._object("GET", path)
        if about.get("id") != project:
            raise self._strange("GET", path, "another project than asked for")
        return about

    def update_project(self, project: int, **fields: Any) -> dict[str, Any]:
        return self._object("PATCH", f"/api/projects/{project}/", json=fields)

    def projects(self) -> Iterator[dict[str, Any]]:
        """All projects that the token's owner sees: id, title, description, label_config."""
        page = 1
        while True:
            params = {"page": page, "page_size": _PAGE, "include": _OF_A_PROJECT}
            answer = self._object("GET", "/api/projects/", params=params)
            yield from answer.get("results", [])
            page += 1
            if not answer.get("next"):
                return

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> MadeTasks:
        """Import tasks (`{"data": {...}, "predictions": [...]}`).

        Waits up to five minutes, since a locked SQLite takes long; Label Studio may then have made
        too many tasks, or bare ones: see synthesis/settling.py.
        """
        path = f"/api/projects/{project}/import?return_task_ids=true"
        made = self._object("POST", path, json=list(tasks), timeout=_ANSWER_SECONDS)
        return MadeTasks(
            list(made.get("task_ids", [])),
            int(made.get("annotation_count") or 0),
            int(made.get("prediction_count") or 0),
        )

    def upload_files(self, project: int, files: Sequence[Path]) -> list[int]:
        """Upload pictures of different names, one task each; their task ids."""
        path = f"/api/projects/{project}/import?return_task_ids=true"
        # Label Studio keeps one file of each form field, so each gets its own.
        parts = [(file.name, (file.name, file.read_bytes())) for file in files]
        return list(self._object("POST", path, files=parts).get("task_ids", []))

    def upload_pictures(self, project: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Upload picture files without making tasks of them: name -> what a task's data says of it.

        Names need letters, digits, dots and dashes only, or Label Studio changes them.
        """
        path = f"/api/projects/{project}/import"
        files = [(name, (name, data, _media_type(name))) for name, data in pictures.items()]
        sent = self._object("POST", path, params={"commit_to_project": "false"}, files=files)
        stored = self.uploads(project, sent["file_upload_ids"])
        return {name: place for name, (_, place) in stored.items()}

    def uploads(
        self, project: int, uploads: Sequence[int] | None = None
    ) -> dict[str, tuple[int, str]]:
        """Files that the token's owner has uploaded, all or of these ids: name -> id and what a
        task's data says of it; of one name the last.

        Label Studio puts eight random digits and a dash before a name.
        """
        query = {"all": "true"} if uploads is None else {"ids": json.dumps(list(uploads))}
        rows = self.request("GET", f"/api/projects/{project}/file-uploads", params=query)
        prefix = httpx.URL(self.url).path.rstrip("/")
        return {
            str(row["file"]).rpartition("/")[2].partition("-")[2]: (
                int(row["id"]),
                f"{prefix}/data/{row['file']}",
            )
            for row in sorted(rows, key=lambda row: int(row["id"]))
        }

    def delete_uploads(self, project: int, uploads: Sequence[int]) -> None:
        if uploads:  # without ids Label Studio deletes all
            path = f"/api/projects/{project}/file-uploads"
            self.request("DELETE", path, json={"file_upload_ids": list(uploads)})

    def delete_tasks(self, project: int, tasks: Sequence[int]) -> None:
        """Delete tasks with all that is in them."""
        if tasks:
            self.request(
                "POST",
                "/api/dm/actions",
                params={"id": "delete_tasks", "project": project},
                json={"selectedItems": {"all": False, "included": list(tasks)}},
            )

    def annotations(self, task: int) -> list[dict[str, Any]]:
        """The submitted annotations of a task, but for cancelled ones."""
        return self._list("GET", f"/api/tasks/{task}/annotations/")

    def tasks(self, project: int, tasks: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
        """All tasks of a project, or those of these ids, with their annotations and predictions,
        page by page."""
        query = {"fields": "all"}
        if tasks is not None:
            query["query"] = json.dumps({"selectedItems": {"all": False, "included": list(tasks)}})
        yield from self._pages(project, query)

    def newest_task(self, project: int) -> int:
        """The highest id of a project's tasks, 0 if there is none."""
        found = self._page_of_one(project, {"ordering": ["-tasks:id"]})["tasks"]
        return int(found[0]["id"]) if found else 0

    def _pages(self, project: int, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        query = {"project": project, "page_size": _PAGE, **query}
        seen, page = 0, 1
        while True:
            answer = self._page({**query, "page": page})
            found = answer["tasks"]
            yield from found
            seen, page = seen + len(found), page + 1
            if not found or seen >= answer["total"]:
                return

    def _page(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """An answer without tasks must not be taken for a project without any: what is learned
        from would be forgotten."""
        answer = self._object("GET", "/api/tasks/", params=query)
        if not isinstance(answer.get("tasks"), list) or not isinstance(answer.get("total"), int):
            raise self._strange("GET", "/api/tasks/", "no list of tasks")
        return answer

    def summaries(
        self,
        project: int,
        *,
        annotated: bool | None = None,
        tasks: Sequence[int] = (),
        after: int | None = None,
    ) -> Iterator[TaskSummary]:
        """Tasks of a project without the regions of their annotations and predictions.

        annotated: only those with, or only those without, a submitted annotation. tasks: only
        these ids. after: only those of higher ids.
        """
        hidden = [f"tasks:{name}" for name in ("annotations_results", "predictions_results")]
        query: dict[str, Any] = {"hiddenColumns": {"explore": hidden, "labeling": hidden}}
        if tasks:
            query["selectedItems"] = {"all": False, "included": list(tasks)}
        conditions = [] if annotated is None else _annotated(annotated)["items"]
        if after is not None:
            higher = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number"}
            conditions.append({**higher, "value": after})
        if conditions:
            query["filters"] = {"conjunction": "and", "items": conditions}
        for task in self._pages(project, {"query": json.dumps(query)}):
            yield TaskSummary.of(task)

    def with_predictions(
        self, project: int, tasks: Sequence[int]
    ) -> Iterator[tuple[TaskSummary, list[dict[str, Any]]]]:
        """These tasks with all their predictions, the oldest first."""
        query = {"selectedItems": {"all": False, "included": list(tasks)}}
        for task in self._pages(project, {"query": json.dumps(query), "fields": "all"}):
            found = sorted(task["predictions"], key=lambda prediction: int(prediction["id"]))
            yield TaskSummary.of(task), found

    def fingerprint(self, project: int) -> str:
        """Of all submitted annotations: differs when one was added, changed or deleted."""
        query = {"filters": _annotated(True), "ordering": ["-tasks:updated_at"]}
        return self._first_of(project, query)

    def count_without(self, project: int, version: str) -> int:
        """Tasks without a submitted annotation that have no prediction of a version."""
        lacking = {
            "filter": "filter:tasks:predictions_model_versions",
            "operator": "not_contains",
            "type": "List",
            "value": [version],  # of a bare string it takes each letter for a version
        }
        filters = _annotated(False)
        filters["items"].append(lacking)
        return int(self._first_of(project, {"filters": filters}).partition(" ")[0])

    def _first_of(self, project: int, query: Mapping[str, Any]) -> str:
        """How many tasks there are, and when the first one was changed."""
        answer = self._page_of_one(project, query)
        first: dict[str, Any] = next(iter(answer["tasks"]), {})
        return f"{answer['total']} {answer.get('total_annotations')} {first.get('updated_at', '')}"

    def _page_of_one(self, project: int, query: Mapping[str, Any]) -> dict[str, Any]:
        return self._page({"project": project, "page_size": 1, "query": json.dumps(query)})

    def annotated_tasks(self, project: int) -> Iterator[dict[str, Any]]:
        """Tasks with a submitted annotation, whole, page by page."""
        query = json.dumps({"filters": _annotated(True)})
        few = {"page_size": _WHOLE_PAGE}  # regions of large pictures are long
        yield from self._pages(project, {"query": query, "fields": "all", **few})

    def task(self, task: int) -> dict[str, Any]:
        """One task with its annotations and predictions. Label Studio asks the project's backend
        for a prediction when the task has none."""
        return self._object("GET", f"/api/tasks/{task}/")

    def import_predictions(self, project: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Store predictions (`task`, `result`, `score`, `model_version`); how many were taken.

        Label Studio passes over those that do not fit the labeling config without a word, so
        compare the number.
        """
        path = f"/api/projects/{project}/import/predictions"
        return int(self._object("POST", path, json=list(predictions)).get("created", 0))

    def predictions(self, task: int) -> list[dict[str, Any]]:
        """All predictions of a task, the oldest first."""
        found = self._list("GET", "/api/predictions/", params={"task": task})
        return sorted(found, key=lambda prediction: int(prediction["id"]))

    def update_prediction(self, prediction: int, **fields: Any) -> None:
        self.request("PATCH", f"/api/predictions/{prediction}/", json=fields)

    def delete_prediction(self, prediction: int) -> None:
        """Delete one; one that is gone already is no error."""
        self._delete(f"/api/predictions/{prediction}/")

    # The ML backend

    def connect_backend(
        self,
        project: int,
        url: str,
        title: str = "dgan-backend",
        *,
        extra_params: Mapping[str, Any] | None = None,
        basic_auth: tuple[str, str] | None = None,
        interactive: bool = False,
    ) -> dict[str, Any]:
        """Connect an ML backend; Label Studio calls its /health and /setup at once.

        Returns it as Label Studio has it, once, however often it has stored it.
        """
        body: dict[str, Any] = {"project": project, "url": url, "title": title}
        body["is_interactive"] = interactive
        if extra_params:
            body["extra_params"] = dict(extra_params)
        if basic_auth:
            user, password = basic_auth
            body.update(auth_method="BASIC_AUTH", basic_auth_user=user, basic_auth_pass=password)
        made = self._object("POST", "/api/ml/", json=body, timeout=_ANSWER_SECONDS)
        return self.disconnect_doubles(project, doubles(self.backends(project), made))

    def disconnect_doubles(self, project: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Of several rows for one backend keep the first, which Label Studio asks; returns it.

        Label Studio forgets the project's choice of predictions with a backend of that title; it
        is set again.
        """
        first, *others = rows
        chosen = self.project(project)["model_version"] if others else ""
        for row in others:
            self._delete(f"/api/ml/{row['id']}")
        if chosen and chosen in [row["title"] for row in others]:
            self.update_project(project, model_version=first["title"])
        return dict(first)

    def backends(self, project: int) -> list[dict[str, Any]]:
        return self._list("GET", "/api/ml/", params={"project": project})

    def update_backend(self, backend: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        """Change a backend, as `backends` gave it."""
        body = backend_body(backend, **fields)
        return self._object("PATCH", f"/api/ml/{backend['id']}", json=body)

    def webhooks(self, project: int) -> list[dict[str, Any]]:
        return self._list("GET", "/api/webhooks/", params={"project": project})

    # Anything

    def get_bytes(self, path: str) -> bytes:
        """What lies at a path of Label Studio, `/data/upload/1/x.png` say."""
        return self._send("GET", path).content

    def request(self, method: str, path: str, **options: Any) -> Any:
        """One call; the JSON of its answer, None when it has none. Options as httpx has them."""
        response = self._send(method, path, **options)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise LabelStudioError(
                f"{self.url} answered {method} {path} without JSON; is LABEL_STUDIO_URL right?",
                response.status_code,
            ) from None

    @contextmanager
    def stream(self, url: str) -> Iterator[httpx.Response]:
        """GET one of this Label Studio's pictures (see `keeps`), answers and redirects as they
        come.

        The token goes along, so the caller must check where a redirect leads.
        """
        for renew in (False, True):
            with self._http.stream("GET", url, headers=self._token.header(renew)) as response:
                if response.status_code == 401 and self._token.renewable and not renew:
                    continue
                yield response
                return

    def _delete(self, path: str) -> None:
        try:
            self.request("DELETE", path)
        except LabelStudioError as error:
            if not error.gone:
                raise

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self.request(method, path, **options)
        if not isinstance(answer, dict):
            raise self._strange(method, path, "no object")
        return answer

    def _list(self, method: str, path: str, **options: Any) -> list[dict[str, Any]]:
        answer = self.request(method, path, **options)
        if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
            raise self._strange(method, path, "no list of objects")
        return answer

    def _strange(self, method: str, path: str, what: str) -> LabelStudioError:
        """Something else than Label Studio has answered, as far as one can tell."""
        return LabelStudioError(
            f"{self.url} answered {method} {path} with {what}; is LABEL_STUDIO_URL right, and does "
            "nothing in between answer for it?"
        )

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self._patiently(method, path, self._token.header(), **options)
        if response.status_code == 401 and self._token.renewable:
            response = self._patiently(method, path, self._token.header(renew=True), **options)
        if response.is_success:
            return response
        status, gone = response.status_code, _says_gone(response)
        raise LabelStudioError(self._refusal(method, path, response), status, gone=gone)

    def _patiently(
        self, method: str, path: str, headers: Mapping[str, str], **options: Any
    ) -> httpx.Response:
        """A call that Label Studio has not begun with, because it has too much to do, is made again
        a few times; jobs that fail for any other reason are done again as a whole."""
        for attempt in range(_ATTEMPTS - 1):
            response = self._once(method, path, headers, **options)
            pause = _pause(method, response, attempt)
            if pause is None:
                return response
            time.sleep(pause)
        return self._once(method, path, headers, **options)

    def _once(
        self, method: str, path: str, headers: Mapping[str, str], **options: Any
    ) -> httpx.Response:
        url = self.link(path)
        try:
            with (
                within(_ANSWER_SECONDS),
                self._http.stream(method, url, headers=headers, **options) as response,
            ):
                body = read(response, _MOST_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} cannot be reached ({say(error)}); check that it runs "
                "and that LABEL_STUDIO_URL is right."
            ) from error
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    def _exchange(self, token: str) -> str:
        response = self._once("POST", "/api/token/refresh", {}, json={"refresh": token})
        if response.status_code in (400, 401, 403):
            raise LabelStudioError(f"{refused_token(self.url)}.", 401)
        path = "/api/token/refresh"
        if not response.is_success:
            raise LabelStudioError(self._refusal("POST", path, response), response.status_code)
        try:
            return str(response.json()["access"])
        except (ValueError, KeyError, TypeError):
            raise self._strange("POST", path, "no access token") from None

    def _refusal(self, method: str, path: str, response: httpx.Response) -> str:
        if response.status_code == 401:
            return f"{refused_token(self.url)}."
        if response.is_redirect:
            where = response.headers.get("location", "")
            return f"{self.url} redirects {path} to {where}; set LABEL_STUDIO_URL to where it is."
        said = f"Label Studio answered {response.status_code} to {method} {path}"
        return f"{said}: {_detail(response)}"


def _pause(method: str, response: httpx.Response, attempt: int) -> float | None:
    """Seconds until a call is made again: as the answer asks for, or twice as long each time.

    None when it is not to be made again: it was done, or it may have been begun, or the answer
    asks for more patience than is kept within a call.
    """
    if response.status_code != 429 and not (response.status_code == 503 and method == "GET"):
        return None
    asked = response.headers.get("retry-after", "").strip()
    seconds = float(asked) if asked.isascii() and asked.isdigit() else _FIRST_PAUSE * 2**attempt
    return None if seconds > _LONGEST_PAUSE else seconds * random.uniform(1.0, 1.5)


def _says_gone(response: httpx.Response) -> bool:
    """Whether a 404 is in the words of Label Studio's API, rather than of a proxy."""
    if response.status_code != 404:
        return False
    try:
        body = response.json()
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("status_code") == 404


def backend_body(backend: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A PATCH of a backend. Label Studio 1.23 connects anew with what stands in the body and fails
    without `url` and `project`; an empty password means the one that it has."""
    kept = ("project", "url", "extra_params", "auth_method")
    body = {key: backend[key] for key in kept if key in backend}
    if body.get("auth_method") == "BASIC_AUTH":
        body |= {"basic_auth_user": backend["basic_auth_user"], "basic_auth_pass": ""}
    return {**body, **changes}


@dataclass(frozen=True)
class MadeTasks:
    """What Label Studio says that it made: tasks, in order, and how much with them in all."""

    ids: list[int]
    annotations: int
    predictions: int


@dataclass(frozen=True)
class TaskSummary:
    """A task and how far it is, without any regions.

    annotations: submitted ones. skipped: cancelled ones. draft: somebody has begun. predictions:
    how many it has. versions: of its predictions, each named once; the last may be cut short where
    there are dozens.
    """

    id: int
    data: dict[str, Any]
    updated_at: str
    annotations: int
    skipped: int
    draft: bool
    predictions: int
    versions: tuple[str, ...]

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> TaskSummary:
        versions = str(task.get("predictions_model_versions") or "")
        return cls(
            id=int(task["id"]),
            data=dict(task["data"]),
            updated_at=str(task.get("updated_at", "")),
            annotations=int(task.get("total_annotations") or 0),
            skipped=int(task.get("cancelled_annotations") or 0),
            draft=bool(task.get("draft_exists") or task.get("drafts")),
            predictions=int(task.get("total_predictions") or 0),
            versions=tuple(v.strip() for v in versions.split(",") if v.strip()),
        )

    @property
    def touched(self) -> bool:
        """Whether a person has begun with it."""
        return bool(self.annotations or self.skipped or self.draft)


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "image/png"


def _annotated(yes: bool) -> dict[str, Any]:
    condition = {
        "filter": "filter:tasks:total_annotations",
        "operator": "greater" if yes else "equal",
        "type": "Number",
        "value": 0,
    }
    return {"conjunction": "and", "items": [condition]}


def refused_token(url: str) -> str:
    """What a 401 means and what to do, for the middle of a sentence."""
    return (
        f"Label Studio at {url} refused the token (401); set LABEL_STUDIO_URL, and "
        "LABEL_STUDIO_API_KEY to a personal access token (Account & Settings > Personal Access "
        "Token), or to a legacy token where the organization allows them (Organization > Access "
        "Token Settings, or start Label Studio with --enable-legacy-api-token)"
    )


def say(error: Exception) -> str:
    """An httpx error in a few words; some have no message of their own."""
    return str(error) or type(error).__name__


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _unquoted(path: str) -> str | None:
    """A path as the last of several servers may read it; None where they may differ."""
    while (plain := unquote(path)) != path:
        path = plain
    dots = any(part.partition(";")[0] in (".", "..") for part in path.split("/"))
    return None if dots or re.search(r"[\\\x00-\x1f\x7f]|//", path) else path


def _detail(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:200]
    if isinstance(body, dict):
        found = body.get("validation_errors") or body.get("detail") or body
        return str(found)[:1000]
    return str(body)[:1000]
