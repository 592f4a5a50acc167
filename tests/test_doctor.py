"""The doctor, against a small server with Label Studio's rules; e2e/test_doctor.py has the real
one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dgan_backend import doctor_command
from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError
from dgan_backend.labelstudio.doctor import Case, Finding, examine
from dgan_backend.labelstudio.project import project_uid
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.vault import HEADER, Vault
from tests.sites import Answer, Seen, Site, serving

PASSWORD = "a secret: word"
SECURED = Settings(basic_auth_user="team", basic_auth_pass=PASSWORD)
BASIC = "Basic dGVhbTphIHNlY3JldDogd29yZA=="
SECRET = "5ec" * 21 + "0"
VERSION = "toonhead-shipped"
BRUSH = (
    '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i"><Label value="face"/>'
    "</BrushLabels></View>"
)
HEALTHY = [
    "project", "token", "connection", "connection once", "state", "health", "webhook",
    "webhook once", "webhook delivery", "webhook password", "pre-labels", "title", "task lists",
    "picture size",
]  # fmt: skip


class Studio:
    """A Label Studio with one healthy project, 7, whose backend is this very server."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []
        self.legacy = True
        self.ssrf_protection = self.block_local = False
        self.refuse: dict[str, Answer | None] = {}  # by "METHOD path"; None: hang up
        self.calls: list[str] = []
        self.told: list[bytes] = []  # bodies of what was written

    def begin(self, url: str) -> None:
        self.url = url
        self.project: dict[str, Any] = {
            "id": 7,
            "created_at": "2026-11-24T17:14:30.000000Z",
            "title": "Heads",
            "label_config": BRUSH,
            "model_version": VERSION,
            "show_collab_predictions": True,
            "evaluate_predictions_automatically": False,
        }
        self.backends = [self.backend(1, url)]
        self.webhooks = [self.webhook(1, f"{url}/webhook")]

    def backend(self, number: int, url: str, **more: Any) -> dict[str, Any]:
        return {
            "id": number,
            "project": 7,
            "url": url,
            "title": VERSION,
            "model_version": VERSION,
            "state": "CO",
            "error_message": None,
            "auto_update": True,
            "auth_method": "NONE",
            "basic_auth_user": "",
            "extra_params": {"a": 1},
            "created_at": "2026-11-24T17:14:34.336421Z",
            **more,
        }

    def webhook(self, number: int, url: str, **more: Any) -> dict[str, Any]:
        return {
            "id": number,
            "project": 7,
            "url": url,
            "send_payload": True,
            "send_for_all_actions": True,
            "headers": {},
            "is_active": True,
            "actions": [],
            "created_at": "2026-11-24T17:14:34.420537Z",
            **more,
        }

    def answer(self, seen: Seen) -> Answer:
        call = f"{seen.method} {seen.path}"
        if seen.path == "/health":
            return Answer({"status": "UP"})
        if seen.method != "GET" and not self._rehearsal(seen):
            self.calls.append(call)
            self.told.append(seen.body)
        if call in self.refuse:
            refusal = self.refuse[call]
            if refusal is None:
                raise ConnectionAbortedError
            return refusal
        _, _, kind, number, *_ = [*seen.path.split("/"), ""]
        routes: dict[str, Callable[[Seen, str], Answer]] = {
            "jwt": lambda *_: Answer({"legacy_api_tokens_enabled": self.legacy}),
            "projects": self._projects,
            "tasks": lambda *_: Answer({"tasks": self.tasks, "total": len(self.tasks)}),
            "ml": self._ml,
            "webhooks": self._webhooks,
        }
        return routes[kind](seen, number)

    def _rehearsal(self, seen: Seen) -> bool:
        return b"never valid" in seen.body

    def _projects(self, seen: Seen, number: str) -> Answer:
        if number != "7":
            return Answer({"detail": "Not found."}, 404)
        if seen.method == "PATCH":
            self.project |= seen.json()
        return Answer(self.project)

    def _ml(self, seen: Seen, number: str) -> Answer:
        if seen.method == "POST":
            return self._refused(seen, self.block_local) or Answer({"detail": "timeout"}, 400)
        if seen.method == "PATCH":
            if not {"project", "url"} <= set(seen.json()):
                return Answer({"detail": "setup_() missing 1 required positional argument"}, 500)
            (row,) = [row for row in self.backends if row["id"] == int(number)]
            row |= seen.json()
        if seen.method == "DELETE":
            self.backends = [row for row in self.backends if row["id"] != int(number)]
            self.project["model_version"] = ""  # if it is the title of the one that goes
        return Answer(self.backends)

    def _webhooks(self, seen: Seen, number: str) -> Answer:
        if seen.method == "GET":
            return Answer(self.webhooks)
        if seen.method == "DELETE":
            self.webhooks = [hook for hook in self.webhooks if hook["id"] != int(number)]
            return Answer(b"", 204)
        if refused := self._refused(seen, self.ssrf_protection):
            return refused
        if self._rehearsal(seen):
            return Answer({"validation_errors": {"actions": ["not a valid choice"]}}, 400)
        if seen.method == "POST":
            made = self.webhook(9, **{"created_at": "2026-11-25T00:00:00Z", **seen.json()})
            self.webhooks.append(made)
            return Answer(made, 201)
        (hook,) = [hook for hook in self.webhooks if hook["id"] == int(number)]
        hook |= {"actions": [], **seen.json()}
        return Answer(hook)

    def _refused(self, seen: Seen, protected: bool) -> Answer | None:
        url = seen.json().get("url", "")
        host = urlsplit(url).hostname or "localhost"
        if "." not in host and host != "localhost":
            return Answer({"validation_errors": {"url": ["Enter a valid URL."]}}, 400)
        if host == "nowhere.example":
            return Answer({"detail": f"Can't resolve hostname {host}"}, 500)
        if protected and host == "127.0.0.1":
            text = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
            return Answer({"detail": text}, 403)
        return None


@pytest.fixture
def studio() -> Iterator[Studio]:
    rules = Studio()
    with serving(rules.answer) as site:
        rules.begin(site.url)
        yield rules


@pytest.fixture
def look(studio: Studio) -> Iterator[Callable[..., dict[str, Finding]]]:
    """Examine project 7; its findings by check. Looking alone changes nothing."""
    with LabelStudioClient(studio.url, "token") as site:

        def examined(settings: Settings | None = None, **options: Any) -> dict[str, Finding]:
            before = len(studio.calls)
            known = settings or Settings()
            if not known.backend_url:
                known = replace(known, backend_url=tuple(b["url"] for b in studio.backends))
            findings = examine(site, 7, settings=known, **options)
            assert options.get("mend") or len(studio.calls) == before
            assert all(f.remedy for f in findings if f.state == "wrong")
            assert all(PASSWORD not in str(f) and BASIC not in str(f) for f in findings)
            return {finding.check: finding for finding in findings}

        yield examined


Look = Callable[..., dict[str, Finding]]


def faults(findings: dict[str, Finding]) -> dict[str, str]:
    return {f.check: f.state for f in findings.values() if f.state != "ok"}


def check_mended(studio: Studio, look: Look, check: str, **options: Any) -> None:
    """Wrong when looked at, fixed when mended, and then all is well."""
    found = look(**options)
    assert faults(found) == {check: "wrong"}
    assert faults(look(mend=True, **options)) == {check: "fixed"}
    assert faults(look(**options)) == {}


def test_a_healthy_project(look: Look) -> None:
    found = look(mend=True)
    assert list(found) == HEALTHY
    assert faults(found) == {}


# Project and token


def test_no_such_project(studio: Studio) -> None:
    with LabelStudioClient(studio.url, "token") as site:
        (finding,) = examine(site, 8)
    assert (finding.check, finding.state) == ("project", "wrong")


def test_a_refused_token(studio: Studio, look: Look) -> None:
    studio.refuse["GET /api/projects/7/"] = Answer({"detail": "Invalid token."}, 401)
    with LabelStudioClient(studio.url, "token") as site:
        (finding,) = examine(site, 7)
    assert (finding.check, finding.state) == ("token", "wrong")
    assert "personal access token" in str(finding)


def test_legacy_tokens_off(studio: Studio, look: Look) -> None:
    studio.legacy = False
    token = look()["token"]
    assert token.state == "unknown" and "LABEL_STUDIO_API_KEY" in token.remedy
    studio.refuse["GET /api/jwt/settings"] = Answer({"detail": "Not found."}, 404)
    assert look()["token"].state == "unknown"


def test_an_unreachable_label_studio_is_an_error() -> None:
    with (
        LabelStudioClient("http://127.0.0.1:9", "token") as site,
        pytest.raises(LabelStudioError, match="cannot be reached"),
    ):
        examine(site, 7)


# The backend


def test_no_backend(studio: Studio, look: Look) -> None:
    studio.backends = []
    found = look()
    assert faults(found) == {"connection": "wrong"}
    assert "has no ML backend" in found["connection"].text


def test_only_the_first_backend_is_used(studio: Studio, look: Look) -> None:
    other = studio.backend(1, "http://sam.example:9090", title="SAM", model_version="sam")
    studio.backends = [studio.backend(2, studio.url), other]
    found = look()["connection"]
    assert found.state == "wrong" and "SAM at http://sam.example:9090" in found.text
    studio.backends = [other]
    assert look()["connection"].state == "unknown"
    found = look(url=studio.url)["connection"]
    assert found.state == "wrong" and "but SAM" in found.text


def test_a_backend_that_was_stored_several_times_stays_once(studio: Studio, look: Look) -> None:
    """The first one, which Label Studio asks; and so does the choice of predictions."""
    (first,) = studio.backends
    first["model_version"] = ""  # as one is stored before what /setup answered
    again = {"created_at": "2026-11-24T17:20:00.5Z"}
    studio.backends = [*(studio.backend(n, studio.url, **again) for n in (2, 3)), first]
    assert look()["connection once"].state == "wrong"
    assert look(mend=True)["connection once"].state == "fixed"
    assert studio.backends == [first]
    assert studio.project["model_version"] == VERSION


@pytest.mark.parametrize(
    "other",
    [
        {"url": "http://sam.example:9090"},
        {"is_interactive": True},
        {"extra_params": {"seed_tasks": 3}},
        {"auth_method": "BASIC_AUTH", "basic_auth_user": "team"},
        {"created_at": "2026-11-25T17:14:34.5Z"},
    ],
    ids=["elsewhere", "smart tools", "other params", "with a password", "another day"],
)
def test_what_a_person_connected_a_second_time_stays(
    studio: Studio, look: Look, other: dict[str, Any]
) -> None:
    studio.backends.append(studio.backend(2, **{"url": studio.url, **other}))
    assert look(mend=True)["connection once"].state == "ok"
    assert len(studio.backends) == 2


def test_a_double_that_may_not_be_deleted_is_told(studio: Studio, look: Look) -> None:
    studio.backends.append(studio.backend(2, studio.url))
    studio.refuse["DELETE /api/ml/2"] = Answer({"detail": "no"}, 403)
    found = look(mend=True)["connection once"]
    assert found.state == "wrong" and "answered 403" in found.text and "token" in found.remedy


def test_the_password_goes_to_no_other_backend(studio: Studio, look: Look) -> None:
    studio.backends[0]["model_version"] = studio.backends[0]["title"] = "sam"
    found = look(settings=SECURED, mend=True)
    assert "webhook password" not in found and studio.calls == []


def test_an_address_with_a_slash_is_the_same(studio: Studio, look: Look) -> None:
    studio.backends[0]["url"] += "/"
    assert faults(look(url=f"{studio.url}/")) == {}


@pytest.mark.parametrize(
    ("block", "auth", "said"),
    [(False, {}, "--host 0.0.0.0"), (True, {}, "ML_BLOCK_LOCAL_IP=false"),
     (False, {"settings": SECURED}, "choose Basic Authentication")],
    ids=["unreachable", "blocked", "password"],
)  # fmt: skip
def test_a_disconnected_backend(
    studio: Studio, look: Look, block: bool, auth: dict[str, Any], said: str
) -> None:
    studio.backends[0]["state"] = "DI"
    studio.block_local = block
    found = look(**auth)["state"]
    assert found.state == "wrong" and said in found.remedy


def test_a_backend_that_refuses_the_project(studio: Studio, look: Look) -> None:
    studio.backends[0] |= {"state": "ER", "error_message": "no labels at http://a:b@c/setup"}
    assert look()["state"].text.endswith("no labels at http://c/setup")


@pytest.mark.parametrize(
    ("status", "settings", "state", "said"),
    [
        (401, SECURED, "ok", "answered in"),
        (401, Settings(), "unknown", "wants a user"),
        (500, SECURED, "unknown", "answered 500"),
    ],
    ids=["password", "unknown password", "broken"],
)
def test_health_from_here(
    studio: Studio, look: Look, status: int, settings: Settings, state: str, said: str
) -> None:
    def answer(_: Seen) -> Answer:
        return Answer({}, status)

    with serving(answer) as backend:
        studio.backends[0]["url"] = backend.url
        studio.webhooks[0]["url"] = f"{backend.url}/webhook"
        found = look(settings=settings)["health"]
        assert [seen.path for seen in backend.seen] == ["/health"]
        assert "authorization" not in backend.seen[0].headers
    assert found.state == state and said in found.text
    gone = look(settings=SECURED)["health"]
    assert gone.state == "unknown" and "cannot be reached from here" in gone.text


# An address that no admin has named


@pytest.fixture
def elsewhere() -> Iterator[Site]:
    """A server that is not the backend."""
    with serving(lambda _: Answer({"status": "UP"})) as site:
        yield site


@pytest.mark.parametrize("settings", [SECURED, replace(SECURED, backend_url=("http://b:9090",))])
def test_an_address_that_no_admin_named_gets_no_secret_and_no_request(
    studio: Studio, elsewhere: Site, settings: Settings
) -> None:
    """Whoever may change a project's settings can write any address into the backend's row."""
    studio.backends = [studio.backend(1, elsewhere.url, auth_method="BASIC_AUTH")]
    carried = {"Authorization": BASIC, HEADER: SECRET, "X-Team": "a"}
    for hooks in (
        [],
        [studio.webhook(1, f"{elsewhere.url}/webhook")],
        [studio.webhook(1, f"{studio.url}/webhook", headers=carried)],  # it is moved
    ):
        studio.webhooks = hooks
        with LabelStudioClient(studio.url, "token") as site:
            found = {
                f.check: f for f in examine(site, 7, settings=settings, mend=True, secret=SECRET)
            }
        (hook,) = studio.webhooks
        assert hook["url"] == f"{elsewhere.url}/webhook"
        assert hook["headers"] in ({}, {"X-Team": "a"})
        for check, state in (("webhook password", "wrong"), ("webhook secret", "unknown")):
            assert found[check].state == state
            assert f"BACKEND_URL={elsewhere.url}" in found[check].remedy
        assert found["health"].state == "unknown" and "not asked" in found["health"].text
    sent = b"".join(studio.told)
    assert BASIC.encode() not in sent and SECRET.encode() not in sent
    assert elsewhere.seen == []


def test_what_a_webhook_carries_already_is_well_wherever_it_goes(
    studio: Studio, elsewhere: Site
) -> None:
    carried = {"Authorization": BASIC, HEADER: SECRET}
    studio.backends = [studio.backend(1, elsewhere.url, auth_method="BASIC_AUTH")]
    studio.webhooks = [studio.webhook(1, f"{elsewhere.url}/webhook", headers=carried)]
    with LabelStudioClient(studio.url, "token") as site:
        found = {f.check: f for f in examine(site, 7, settings=SECURED, mend=True, secret=SECRET)}
    assert found["webhook password"].state == found["webhook secret"].state == "ok"
    assert studio.calls == []


def test_an_address_that_an_admin_gives_gets_them(studio: Studio, elsewhere: Site) -> None:
    studio.backends = [studio.backend(1, elsewhere.url, auth_method="BASIC_AUTH")]
    studio.webhooks = []
    with LabelStudioClient(studio.url, "token") as site:
        examine(site, 7, settings=SECURED, url=elsewhere.url, mend=True, secret=SECRET)
    assert studio.webhooks[0]["headers"] == {"Authorization": BASIC, HEADER: SECRET}
    assert [seen.headers.get("authorization") for seen in elsewhere.seen] == [None]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(port=9191), {"http://127.0.0.1:9191", "http://localhost:9191/"}),
        (Settings(port=9191, backend_url=("http://b.c:9",)), {"http://b.c:9", "http://b.c:9/"}),
    ],
    ids=["this machine", "set"],
)
def test_which_addresses_are_named(settings: Settings, named: set[str]) -> None:
    """Nothing that only looks like one; of this machine only where Label Studio is on it."""
    addresses = [
        "http://127.0.0.1:9191", "http://localhost:9191/", "http://b.c:9", "http://b.c:9/",
        "http://127.0.0.1:9192", "http://127.0.0.1:9191/x", "https://127.0.0.1:9191",
        "http://127.0.0.1:9191@evil.example", "http://b.c:9@evil.example", "http://b.c:90",
    ]  # fmt: skip
    for url in addresses:
        for at in ("http://127.0.0.1:8080", "http://ls.example"):
            with LabelStudioClient(at, "token") as site:
                case = Case(site, {"id": 7}, {"url": url}, [], [], settings, None)
                here = at.endswith(":8080") or settings.backend_url
                assert case.named is bool(url in named and here)


# The webhook


def test_no_webhook(studio: Studio, look: Look) -> None:
    studio.webhooks = []
    check_mended(studio, look, "webhook")
    assert studio.calls == ["POST /api/webhooks/"]


def test_a_new_webhook_has_the_password(studio: Studio, look: Look) -> None:
    studio.webhooks = []
    studio.backends[0]["auth_method"] = "BASIC_AUTH"
    check_mended(studio, look, "webhook", settings=SECURED)
    assert studio.webhooks[0]["headers"] == {"Authorization": BASIC}


@pytest.mark.parametrize(
    ("host", "said"),
    [("ml-backend", "host.docker.internal"), ("ml_backend", "network alias"),
     ("nowhere.example", "can look up")],
)  # fmt: skip
def test_names_that_get_no_webhook(studio: Studio, look: Look, host: str, said: str) -> None:
    studio.webhooks = []
    studio.backends[0]["url"] = f"http://{host}:9090"
    found = look(mend=True)["webhook"]
    assert found.state == "wrong" and said in found.remedy
    assert studio.calls == []


@pytest.mark.parametrize("there", [False, True], ids=["none made", "not delivered"])
def test_ssrf_protection(studio: Studio, look: Look, there: bool) -> None:
    studio.ssrf_protection = True
    studio.webhooks = studio.webhooks if there else []
    found = look(mend=True)["webhook"]
    assert found.state == "wrong" and "SSRF_PROTECTION_ENABLED=false" in found.remedy


def test_the_address_was_changed(studio: Studio, look: Look) -> None:
    studio.webhooks[0] |= {"url": "http://old.example:9090/webhook", "is_active": False}
    found = look()
    assert faults(found) == {"webhook": "wrong"} and "old.example" in found["webhook"].text
    assert faults(look(mend=True)) == {"webhook": "fixed", "webhook delivery": "fixed"}
    assert faults(look()) == {} and len(studio.webhooks) == 1


def test_a_webhook_of_others_is_left_alone(studio: Studio, look: Look) -> None:
    theirs = studio.webhook(
        1, "http://ci.example/webhook", created_at="2026-10-01T00:00:00Z", is_active=False
    )
    studio.webhooks = [dict(theirs), studio.webhook(2, "http://chat.example/hooks/1")]
    found = look(mend=True)
    assert faults(found) == {"webhook": "fixed", "other webhooks": "unknown"}
    assert studio.webhooks[0] == theirs and len(studio.webhooks) == 3


@pytest.mark.parametrize("key", ["is_active", "send_for_all_actions", "send_payload"])
def test_a_webhook_that_says_too_little(studio: Studio, look: Look, key: str) -> None:
    studio.webhooks[0] |= {key: False, "actions": ["TASKS_CREATED"]}
    check_mended(studio, look, "webhook delivery")
    assert studio.webhooks[0]["actions"] == ["TASKS_CREATED"]


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Basic wrong"}], ids=["missing", "wrong"]
)
def test_a_webhook_without_the_password(
    studio: Studio, look: Look, headers: dict[str, str]
) -> None:
    studio.webhooks[0]["headers"] = {**headers, "X-Team": "a"}
    check_mended(studio, look, "webhook password", settings=SECURED)
    assert studio.webhooks[0]["headers"] == {"X-Team": "a", "Authorization": BASIC}


def test_a_password_that_is_not_known_here(studio: Studio, look: Look) -> None:
    studio.backends[0]["auth_method"] = "BASIC_AUTH"
    assert faults(look(mend=True)) == {"webhook password": "unknown"}
    studio.webhooks[0]["headers"] = {"Authorization": "Basic x"}
    assert faults(look(mend=True)) == {}


@pytest.mark.parametrize("headers", [{}, {HEADER.lower(): "stale"}], ids=["missing", "stale"])
def test_a_webhook_without_the_secret(studio: Studio, look: Look, headers: dict[str, str]) -> None:
    studio.webhooks[0]["headers"] = {**headers, "X-Team": "a"}
    check_mended(studio, look, "webhook secret", secret=SECRET)
    assert studio.webhooks[0]["headers"] == {"X-Team": "a", HEADER: SECRET}


def test_password_and_secret_are_mended_together(studio: Studio, look: Look) -> None:
    studio.backends[0]["auth_method"] = "BASIC_AUTH"
    found = look(settings=SECURED, secret=SECRET, mend=True)
    assert faults(found) == {"webhook password": "fixed", "webhook secret": "fixed"}
    assert studio.webhooks[0]["headers"] == {"Authorization": BASIC, HEADER: SECRET}
    assert faults(look(settings=SECURED, secret=SECRET)) == {}


def test_a_new_webhook_has_the_secret(studio: Studio, look: Look) -> None:
    studio.webhooks = []
    check_mended(studio, look, "webhook", secret=SECRET)
    assert studio.webhooks[0]["headers"] == {HEADER: SECRET}


def test_findings_do_not_tell_the_secret(studio: Studio, look: Look) -> None:
    studio.refuse["PATCH /api/webhooks/1/"] = Answer({"headers": [f"{SECRET} is odd"]}, 403)
    found = look(secret=SECRET, mend=True)
    assert found["webhook secret"].state == "wrong"
    assert all(SECRET not in str(finding) for finding in found.values())


def test_duplicates(studio: Studio, look: Look) -> None:
    first = studio.webhook(1, f"{studio.url}/webhook", is_active=False)
    studio.webhooks = [first, *(studio.webhook(n, f"{studio.url}/webhook") for n in (2, 3))]
    check_mended(studio, look, "webhook once")
    assert [hook["id"] for hook in studio.webhooks] == [2]


def test_what_label_studio_refuses_to_mend(studio: Studio, look: Look) -> None:
    studio.refuse["PATCH /api/webhooks/1/"] = Answer({"headers": [f"{BASIC} is odd"]}, 403)
    found = look(settings=SECURED, mend=True)["webhook password"]
    assert found.state == "wrong" and "answered 403" in found.text


@pytest.mark.parametrize("call", ["GET /api/jwt/settings", "PATCH /api/webhooks/1/"])
def test_a_label_studio_that_goes_away(studio: Studio, look: Look, call: str) -> None:
    studio.refuse[call] = None
    with pytest.raises(LabelStudioError, match="cannot be reached"):
        look(settings=SECURED, mend=True)


# What people see


def test_a_title_that_is_not_the_version(studio: Studio, look: Look) -> None:
    studio.backends[0] |= {"title": "mine", "auth_method": "BASIC_AUTH", "basic_auth_user": "team"}
    studio.webhooks[0]["headers"] = {"Authorization": BASIC}
    studio.project["model_version"] = "mine"
    check_mended(studio, look, "title", settings=SECURED)
    assert studio.project["model_version"] == studio.backends[0]["title"] == VERSION
    assert studio.backends[0]["basic_auth_pass"] == ""
    assert studio.backends[0]["extra_params"] == {"a": 1}


def test_a_choice_of_people_survives_a_new_title(studio: Studio, look: Look) -> None:
    studio.backends[0]["title"] = "mine"
    studio.project["model_version"] = "p7-own-v0001"
    assert faults(look(mend=True)) == {"title": "fixed", "pre-labels": "unknown"}
    assert studio.project["model_version"] == "p7-own-v0001"


def test_a_version_that_is_not_known(studio: Studio, look: Look) -> None:
    studio.backends[0]["auto_update"] = False
    assert faults(look(mend=True)) == {"title": "unknown"}


def test_pre_labels_that_are_switched_off(studio: Studio, look: Look) -> None:
    studio.project |= {"show_collab_predictions": False, "model_version": ""}
    found = look(mend=True)
    assert faults(found) == {"pre-labels": "wrong"} and "Settings" in found["pre-labels"].remedy


def test_no_choice_shows_no_pre_labels(studio: Studio, look: Look) -> None:
    studio.project["model_version"] = ""
    check_mended(studio, look, "pre-labels")


@pytest.mark.parametrize(
    ("chosen", "state"),
    [("p7-own-v0001", "unknown"), ("p8-own-v0001", "wrong"), ("sam", "wrong"), (VERSION, "ok")],
)
def test_which_pre_labels_are_shown(studio: Studio, look: Look, chosen: str, state: str) -> None:
    studio.project["model_version"] = chosen
    found = look(mend=True)["pre-labels"]
    assert found.state == state
    assert studio.calls == []


def test_slow_lists(studio: Studio, look: Look) -> None:
    studio.project["evaluate_predictions_automatically"] = True
    check_mended(studio, look, "task lists")


@pytest.mark.parametrize(
    ("width", "control", "state"),
    [(4000, "BrushLabels", "ok"), (4001, "BrushLabels", "wrong"), (4001, "BitmaskLabels", "ok")],
)
@pytest.mark.parametrize("kind", ["annotations", "predictions"])
def test_large_pictures(
    studio: Studio, look: Look, width: int, control: str, state: str, kind: str
) -> None:
    studio.project["label_config"] = BRUSH.replace("BrushLabels", control)
    region = {"original_width": width, "original_height": 2000}
    studio.tasks = [{"id": 1}, {"id": 2, kind: [{"result": [{}, region]}]}]
    found = look()["picture size"]
    assert found.state == state
    if state == "wrong":
        assert "4001 x 2000 pixels" in found.text and "30 MiB" in found.text


def test_a_config_that_cannot_be_read(studio: Studio, look: Look) -> None:
    studio.project["label_config"] = "<View/>"
    assert look()["picture size"].state == "unknown"


# The command


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    doctor_command.add_command(parser.add_subparsers())
    args = parser.parse_args(["doctor", *arguments])
    return int(args.run(args))


def test_the_command(
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "token")
    monkeypatch.delenv("BASIC_AUTH_USER", raising=False)
    monkeypatch.setenv("BACKEND_URL", studio.url)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    studio.webhooks = []
    assert command("--project", "7") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("wrong")] == [
        f"wrong       webhook: There is no webhook to {studio.url}/webhook, so the backend hears "
        "of no annotation. Run this again with --fix."
    ]
    assert command("--project", "7", "--url", studio.url, "--fix") == 0
    assert "\nfixed       webhook: " in capsys.readouterr().out
    assert command("--project", "7") == 0
    assert "webhook secret" not in capsys.readouterr().out  # the backend has made none yet
    secret = Vault(Storage(tmp_path)).webhook_secret(project_uid(studio.project))
    assert command("--project", "7") == 1
    assert command("--project", "7", "--fix") == 0
    assert studio.webhooks[0]["headers"] == {HEADER: secret}
    assert secret not in capsys.readouterr().out


def test_the_command_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    with pytest.raises(DganError, match="LABEL_STUDIO_API_KEY"):
        command("--project", "7")


def test_findings_are_one_line_each() -> None:
    assert str(Finding("a", "unknown", "b.", "c.")) == "cannot tell a: b. c."
    assert json.dumps(str(Finding("a", "ok", "b."))) == '"ok          a: b."'
