"""What the demo puts into Label Studio: a project, the backend's connection, 24 pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dgan_backend.demo.studio import write_private
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.partonomy import load_partonomy
from dgan_backend.synthesis.importing import import_drafts

TITLE = "Toon heads (dgan-backend demo)"
BACKEND = "dgan-backend"
_DESCRIPTION = "Heads labeled down to their parts, pre-labeled by dgan-backend."
PARTONOMY = "toonhead"
# The columns of the Data Manager: those that a first look needs, the prediction's score among them.
_HIDDEN = [
    "data.latent",
    "inner_id",
    "completed_at",
    "cancelled_annotations",
    "annotators",
    "annotations_results",
    "annotations_ids",
    "predictions_results",
    "file_upload",
    "storage_filename",
    "created_at",
    "updated_at",
    "updated_by",
    "avg_lead_time",
    "draft_exists",
]
_ONLY_WIDE = ("data.name", "id", "total_predictions", "predictions_score")
_VIEW = {
    "title": "Default",
    "type": "list",
    "target": "tasks",
    "gridWidth": 4,
    "hiddenColumns": {
        "explore": [f"tasks:{name}" for name in _HIDDEN],
        "labeling": [
            f"tasks:{name}" for name in (*_HIDDEN, *_ONLY_WIDE, "predictions_model_versions")
        ],
    },
}
_OUTSIDE = Path(__file__).parent.parent / "shipped" / "demo"


@dataclass(frozen=True)
class Picture:
    """A file to upload and what goes into its task's data beside the picture: a task's draft."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return self.path.name

    def file(self) -> bytes:
        return self.path.read_bytes()

    def told(self) -> dict[str, Any]:
        return {"name": self.path.name, **self.data}

    @property
    def about(self) -> dict[str, Any]:
        return {}


def outside() -> list[Picture]:
    """The shipped pictures that the generator has never seen."""
    return [Picture(path) for path in sorted(_OUTSIDE.glob("*.png"))]


def sampled(folder: Path) -> list[Picture]:
    """What `samples` wrote: generated pictures with the latent that re-creates each."""
    return [
        Picture(path, {"latent": json.loads(path.with_suffix(".json").read_text())})
        for path in sorted(folder.glob("*.png"))
    ]


class Record:
    """What this state folder has done already, so that a second run repeats nothing."""

    def __init__(self, path: Path, project_id: int | None, imported: bool) -> None:
        self._path = path
        self.project_id = project_id
        self.imported = imported

    @classmethod
    def of(cls, state: Path) -> Record:
        path = state / "project.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        return cls(path, known.get("project_id"), bool(known.get("imported")))

    def begin(self, project_id: int) -> None:
        """A new project, still without pictures."""
        self.project_id, self.imported = project_id, False
        self._write()

    def finish(self) -> None:
        """All pictures are in; those that a person deletes later stay deleted."""
        self.imported = True
        self._write()

    def _write(self) -> None:
        known = {"project_id": self.project_id, "imported": self.imported}
        write_private(self._path, json.dumps(known))


def ensure_project(api: LabelStudioClient, record: Record) -> int:
    """The id of the demo's project; made anew when there is none or it was deleted."""
    there = api.request("GET", "/api/projects", params={"page_size": 1000})["results"]
    if record.project_id in [project["id"] for project in there]:
        return int(record.project_id or 0)
    config = labeling_config(load_partonomy(PARTONOMY), control="brush")
    project = int(api.create_project(TITLE, config, description=_DESCRIPTION)["id"])
    api.request("POST", "/api/dm/views", json={"project": project, "data": _VIEW})
    record.begin(project)
    return project


def ensure_backend(api: LabelStudioClient, project: int, address: str) -> None:
    """Connect the backend; one that was connected at another port is replaced.

    Its webhook is replaced too: Label Studio makes one for a new backend, but neither moves it
    with the backend's address nor removes it with the backend.
    """
    ours = None
    for backend in api.backends(project):
        if backend["url"] == address:
            ours = ours or backend
        elif backend["description"] == BACKEND:
            api.request("DELETE", f"/api/ml/{backend['id']}")
            _delete_webhooks(api, project, backend["url"])
    _name_after_version(api, project, ours or api.connect_backend(project, address, BACKEND))


def _name_after_version(api: LabelStudioClient, project: int, backend: dict[str, Any]) -> None:
    """Give the backend the title of its version; the project's choice of predictions follows.

    Label Studio takes predictions live from the backend whose *title* a project has chosen, but
    shows and sorts by the scores of those whose *version* it has chosen. Only where both are
    the same does it do both.
    """
    version = backend["model_version"]
    if version and backend["title"] != version:
        body = {"project": project, "url": backend["url"], "title": version}
        api.request("PATCH", f"/api/ml/{backend['id']}", json={**body, "description": BACKEND})


def _delete_webhooks(api: LabelStudioClient, project: int, address: str) -> None:
    for webhook in api.webhooks(project):
        if webhook["url"] == f"{address.rstrip('/')}/webhook":
            api.request("DELETE", f"/api/webhooks/{webhook['id']}/")


def import_pictures(api: LabelStudioClient, project: int, pictures: list[Picture]) -> None:
    """Upload the files, and make one task of each that is not there yet, in this order."""
    there = {task["data"].get("name") for task in api.tasks(project)}
    missing = [picture for picture in pictures if picture.path.name not in there]
    import_drafts(api, project, "image", missing)
