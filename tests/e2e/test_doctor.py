"""The doctor and a real Label Studio, which gets things wrong in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from dgan_backend.cli import main
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.doctor import examine
from dgan_backend.settings import Settings
from dgan_backend.vault import HEADER
from tests.e2e.conftest import Demo
from tests.e2e.test_loop import until
from tests.e2e.test_predictions import setup_version

Faults = Callable[..., dict[str, str]]


@pytest.fixture
def project(demo: Demo, api: LabelStudioClient) -> Iterator[int]:
    """A project of its own, connected as an admin should."""
    config = api.project(demo.project)["label_config"]
    number = int(api.create_project("doctor", config)["id"])
    api.connect_backend(number, demo.facts["backend_url"], setup_version(demo, api))
    until(lambda: checked(demo, number), "the check after /setup")
    yield number
    api.request("DELETE", f"/api/projects/{number}/")


def told(demo: Demo, project: int) -> dict[str, Any]:
    """What /status tells of a project."""
    answer = httpx.get(f"{demo.facts['backend_url']}/status", trust_env=False)
    projects = answer.raise_for_status().json()["projects"]
    return next((dict(p) for p in projects if p["project"] == project), {})


def checked(demo: Demo, project: int) -> bool:
    """Whether the job has looked that comes with /setup, and would mend what tests break."""
    states = {job["work"]: job["state"] for job in told(demo, project).get("jobs", ())}
    return states.get("check") == "idle"


def ours(demo: Demo, **more: str) -> Settings:
    """The backend's own, as far as they count here."""
    return Settings(port=demo.backend_port, **more)  # type: ignore[arg-type]


@pytest.fixture
def faults(demo: Demo, api: LabelStudioClient, project: int) -> Faults:
    """What the doctor finds that is not well: check -> state."""

    def found(settings: Settings | None = None, mend: bool = False) -> dict[str, str]:
        findings = examine(api, project, settings=settings or ours(demo), mend=mend)
        assert {"connection", "webhook", "title"} <= {finding.check for finding in findings}
        return {f.check: f.state for f in findings if f.state != "ok"}

    return found


def address(demo: Demo) -> str:
    return f"{demo.facts['backend_url']}/webhook"


def test_a_healthy_project(faults: Faults) -> None:
    assert faults() == faults(mend=True) == {}


def test_what_can_be_mended_is_mended_when_the_project_is_connected(
    demo: Demo, api: LabelStudioClient
) -> None:
    """A webhook that somebody turned off before the check that comes with /setup."""
    config = api.project(demo.project)["label_config"]
    number = int(api.create_project("doctor at once", config)["id"])
    api.connect_backend(number, demo.facts["backend_url"], setup_version(demo, api))
    (hook,) = api.webhooks(number)
    api.request("PATCH", f"/api/webhooks/{hook['id']}/", json={"is_active": False})
    until(lambda: api.webhooks(number)[0]["is_active"], "a mended webhook")
    until(lambda: told(demo, number)["findings"], "findings")
    (finding,) = told(demo, number)["findings"]
    assert (finding["check"], finding["state"]) == ("webhook delivery", "fixed")


def test_the_demo_is_healthy(demo: Demo, api: LabelStudioClient) -> None:
    assert {f.state for f in examine(api, demo.project, settings=ours(demo))} == {"ok"}


def test_looking_makes_nothing(api: LabelStudioClient, project: int, faults: Faults) -> None:
    """Not even the rehearsals, which post something that Label Studio must refuse."""
    before = (api.webhooks(project)[0], len(api.backends(project)))
    faults()
    assert (*api.webhooks(project), len(api.backends(project))) == before


def test_a_removed_webhook(
    demo: Demo, api: LabelStudioClient, project: int, faults: Faults
) -> None:
    (hook,) = api.webhooks(project)
    api.request("DELETE", f"/api/webhooks/{hook['id']}/")
    assert faults() == {"webhook": "wrong"}
    assert faults(mend=True) == {"webhook": "fixed"}
    assert faults() == {}
    assert [hook["url"] for hook in api.webhooks(project)] == [address(demo)]


def test_a_webhook_without_password(
    demo: Demo, api: LabelStudioClient, project: int, faults: Faults
) -> None:
    secured = ours(demo, basic_auth_user="team", basic_auth_pass="word")
    unnamed = replace(secured, backend_url=("http://backend.example:9090",))
    unknown = {"webhook password": "wrong", "health": "unknown"}
    assert faults(unnamed, mend=True) == unknown
    assert faults(secured) == {"webhook password": "wrong"}
    assert faults(secured, mend=True) == {"webhook password": "fixed"}
    assert faults(secured) == {}
    headers = dict(api.webhooks(project)[0]["headers"])
    headers.pop(HEADER, None)  # the job that comes with /setup may have set it by now
    assert headers == {"Authorization": "Basic dGVhbTp3b3Jk"}
    assert faults(replace(secured, basic_auth_pass="other")) == {"webhook password": "wrong"}


def test_a_changed_address(
    demo: Demo, api: LabelStudioClient, project: int, faults: Faults
) -> None:
    (row,) = api.backends(project)
    moved = demo.facts["backend_url"].replace("127.0.0.1", "localhost")
    api.request("PATCH", f"/api/ml/{row['id']}", json={"project": project, "url": moved})
    assert faults() == {"webhook": "wrong"}
    assert faults(mend=True) == {"webhook": "fixed"}
    assert faults() == {}
    assert [hook["url"] for hook in api.webhooks(project)] == [f"{moved}/webhook"]


def test_a_webhook_that_was_spoilt(api: LabelStudioClient, project: int, faults: Faults) -> None:
    (hook,) = api.webhooks(project)
    spoilt = {"is_active": False, "send_for_all_actions": False, "send_payload": False}
    api.request("PATCH", f"/api/webhooks/{hook['id']}/", json=spoilt)
    assert faults(mend=True) == {"webhook delivery": "fixed"}
    api.request("POST", "/api/webhooks/", json={"project": project, "url": hook["url"]})
    assert faults(mend=True) == {"webhook once": "fixed"}
    assert faults() == {}
    assert [hook["id"] for hook in api.webhooks(project)] == [hook["id"]]


def test_a_title_of_people(api: LabelStudioClient, project: int, faults: Faults) -> None:
    (row,) = api.backends(project)
    version = row["title"]
    body = {"project": project, "url": row["url"], "title": "ours"}
    api.request("PATCH", f"/api/ml/{row['id']}", json=body)
    assert api.project(project)["model_version"] == "ours"
    assert faults() == {"title": "wrong"}
    assert faults(mend=True) == {"title": "fixed"}
    assert faults() == {}
    assert api.project(project)["model_version"] == version


def test_pre_labels_off_and_on_again(api: LabelStudioClient, project: int, faults: Faults) -> None:
    """Label Studio forgets what was chosen, and then shows nothing in the label stream."""
    api.update_project(project, show_collab_predictions=False)
    assert faults() == {"pre-labels": "wrong"}
    api.update_project(project, show_collab_predictions=True)
    assert api.project(project)["model_version"] == ""
    assert faults(mend=True) == {"pre-labels": "fixed"}
    assert faults() == {}


def test_the_command(
    demo: Demo,
    project: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", demo.facts["label_studio_url"])
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", demo.facts["token"])
    monkeypatch.setenv("BACKEND_URL", demo.facts["backend_url"])
    assert main(["doctor", "--project", str(project)]) == 0
    assert "ok          title" in capsys.readouterr().out
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    assert main(["doctor", "--project", str(project)]) == 2


def test_the_webhook_is_known_by_a_secret(demo: Demo, api: LabelStudioClient, project: int) -> None:
    """Set by the check that comes with /setup; an event of somebody else is refused then, and what
    the webhook delivers is not."""
    until(lambda: HEADER in api.webhooks(project)[0]["headers"], "the secret of a webhook")
    until(lambda: checked(demo, project), "the end of the check")
    event = {"action": "ANNOTATION_CREATED", "project": api.project(project)}
    assert httpx.post(address(demo), json=event, trust_env=False).status_code == 403
    (hook,) = api.webhooks(project)
    known = httpx.post(address(demo), json=event, headers=hook["headers"], trust_env=False)
    assert known.status_code == 200
    assert hook["headers"][HEADER] not in json.dumps(told(demo, project))
