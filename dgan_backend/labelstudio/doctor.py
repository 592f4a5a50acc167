"""What Label Studio gets wrong without a word about a project and this backend, and its mending.

`examine` looks at one project through Label Studio's API and returns findings; with `mend` it also
repairs what can be repaired there. `dgan-backend doctor` prints them; whenever a project is
connected, a job looks, and mends.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient, LabelStudioError, backend_body, say
from dgan_backend.labelstudio.config import parse_config
from dgan_backend.labelstudio.doubles import doubles
from dgan_backend.records import is_own_version
from dgan_backend.settings import Settings
from dgan_backend.vault import HEADER, same

State = Literal["ok", "fixed", "wrong", "unknown"]
Row = Mapping[str, Any]

SECRET = "webhook secret"  # the name of that check
HEALTH_SECONDS = 1.0  # Label Studio's own patience
LARGE_PIXELS = 8_000_000  # each brush region is width x height x 4 bytes in the browser
_TASKS_LOOKED_AT = 10
_SAME_MOMENT = 10.0  # seconds between a backend and the webhook that Label Studio made for it
_WORDS: dict[State, str] = {
    "ok": "ok",
    "fixed": "fixed",
    "wrong": "wrong",
    "unknown": "cannot tell",
}
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_RUN_FIX = "Run this again with --fix."


@dataclass(frozen=True)
class Finding:
    """check: what was looked at. text: how it is. remedy: what to do about it, in plain words;
    empty where nothing is to be done."""

    check: str
    state: State
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{_WORDS[self.state]:<11} {self.check}: {self.text} {self.remedy}".rstrip()


@dataclass(frozen=True)
class Case:
    """One project and its connection to this backend, as Label Studio's API describes them.

    row: this backend among the project's ML backends. webhooks: all of the project's. hand: the
    site where things are to be mended, None where they are only looked at. secret: what the
    webhook has to carry; "" where it is not known. url: the address that an admin gave for this
    backend, beside those of the settings.
    """

    site: LabelStudioClient
    project: Row
    row: Row
    backends: Sequence[Row]
    webhooks: Sequence[Row]
    settings: Settings
    hand: LabelStudioClient | None
    secret: str = field(default="", repr=False)
    url: str = ""

    @property
    def number(self) -> int:
        return int(self.project["id"])

    @property
    def address(self) -> str:
        return _bare(self.row["url"])

    @property
    def hook_address(self) -> str:
        return f"{self.address}/webhook"

    @property
    def hooks(self) -> list[Row]:
        """The webhooks to this backend, those that work first."""
        found = [hook for hook in self.webhooks if _bare(hook["url"]) == self.hook_address]
        return sorted(found, key=lambda hook: (not hook["is_active"], hook["id"]))

    @property
    def strays(self) -> list[Row]:
        """Webhooks to a .../webhook at which no backend of the project is connected."""
        connected = {f"{_bare(row['url'])}/webhook" for row in self.backends}
        addresses = [(hook, _bare(hook["url"])) for hook in self.webhooks]
        return [h for h, url in addresses if url.endswith("/webhook") and url not in connected]

    @property
    def named(self) -> bool:
        """Whether an admin says that this backend is at that address. Who may change a project's
        settings can write any there, and no other than an admin's gets our secrets or a request.

        Without BACKEND_URL that is our port of this machine, if Label Studio is on it as well.
        """
        given = [_bare(url) for url in (self.url, *self.settings.backend_url) if url]
        if not self.settings.backend_url and _host(self.site.url) in _LOOPBACK:
            given += [f"http://{host}:{self.settings.port}" for host in _LOOPBACK]
        return self.address in given

    @property
    def say_named(self) -> str:
        """What an admin does so that it is."""
        here = _plain(self.address)
        return (
            f"If {here} is this backend, set BACKEND_URL={here} for it and its workers, or run "
            f"`dgan-backend doctor --project {self.number} --url {here} --fix`."
        )

    @property
    def password(self) -> str:
        """The Authorization header that this backend asks for; empty where it asks for none."""
        user, password = self.settings.basic_auth_user, self.settings.basic_auth_pass
        if not (user and password):
            return ""
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    @property
    def headers(self) -> dict[str, str]:
        """What the webhook has to bring along, and nothing where others might get it."""
        wanted = {"Authorization": self.password, HEADER: self.secret} if self.named else {}
        return {name: value for name, value in wanted.items() if value}

    def anew(self) -> Case:
        """With the webhooks as they are by now."""
        return replace(self, webhooks=self.site.webhooks(self.number))


def examine(
    site: LabelStudioClient,
    project: int,
    *,
    settings: Settings | None = None,
    url: str = "",
    mend: bool = False,
    secret: str = "",
) -> list[Finding]:
    """Look at a project, and with `mend` repair what can be repaired.

    settings: the backend's own (user and password are compared). url: the backend's address as
    it stands in Label Studio, from an admin; without, the project's backend that serves a version
    of ours, which gets no secrets unless the settings name its address.
    secret: what the project's webhook has to carry; without, that is not looked at.
    Raises LabelStudioError when Label Studio cannot be reached.
    """
    settings = settings or Settings()
    try:
        about = site.project(project)
    except LabelStudioError as error:
        return [_no_entry(error, project)]
    findings = [
        Finding("project", "ok", f"{project} ({about['title']}) is there, the token is accepted."),
        tokens(site),
    ]
    hand = site if mend else None
    backends = sorted(site.backends(project), key=lambda row: int(row["id"]))
    row = find_backend(backends, project, url)
    findings.append(connection(backends, row, url))
    if row is not None:
        webhooks = site.webhooks(project)
        case = Case(site, about, row, backends, webhooks, settings, hand, secret, url)
        findings += _of_backend(case)
    return [*findings, slow_lists(about, hand), large_pictures(site, about)]


def _of_backend(case: Case) -> list[Finding]:
    checks = [connected_once(case), backend_state(case), health(case), webhook(case)]
    if checks[-1].state == "fixed":  # what was moved may have other faults
        case = case.anew()
    if case.hooks:
        checks += [duplicates(case), delivery(case), password(case)]
        if case.secret:
            checks.append(secret(case.anew() if checks[-1].state == "fixed" else case))
    return [*checks, *strays(case), prelabels(case), title(case)]


def _no_entry(error: LabelStudioError, project: int) -> Finding:
    if error.status == 401:
        return Finding("token", "wrong", str(error))
    if error.status in (403, 404):
        return Finding(
            "project",
            "wrong",
            f"There is no project {project} that the token's owner may see.",
            "Take the number from the project's URL, and a token of a member of its organization.",
        )
    raise error


# The token


def tokens(site: LabelStudioClient) -> Finding:
    """Whether the token that Label Studio sends to /setup is of use."""
    try:
        allowed = bool(site.request("GET", "/api/jwt/settings")["legacy_api_tokens_enabled"])
    except (LabelStudioError, KeyError, TypeError) as error:
        _unless_reached(error)
        return Finding("token", "unknown", "This Label Studio does not say which tokens it takes.")
    if allowed:
        return Finding("token", "ok", "Legacy tokens are on, so the one sent to /setup works.")
    return Finding(
        "token",
        "unknown",
        "Legacy tokens are off in this organization, so the one that Label Studio sends to /setup "
        "is refused.",
        "Start the backend with LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY (a personal access "
        "token), as here; nothing is to be done if it was.",
    )


# The backend


def find_backend(backends: Sequence[Row], project: int, url: str = "") -> Row | None:
    """The row at that address; without one, the first that serves a version of ours."""
    for row in backends:
        own = is_own_version(str(row["model_version"] or ""), project)
        if _bare(row["url"]) == _bare(url) if url else own:
            return doubles(backends, row)[0]
    return None


def connection(backends: Sequence[Row], row: Row | None, url: str = "") -> Finding:
    """Label Studio uses the first backend of a project only."""
    check = "connection"
    if not backends:
        text = "The project has no ML backend."
        return Finding(check, "wrong", text, "Connect it at Settings > Model > Connect Model.")
    there = ", ".join(f"{one['title']} at {_plain(one['url'])}" for one in backends)
    if row is None and url:
        text = f"No backend is connected at {_plain(url)}, but {there}."
        return Finding(check, "wrong", text, "Correct its URL at Settings > Model, or --url here.")
    if row is None:
        text = f"None of the backends serves a version of dgan-backend: {there}."
        return Finding(check, "unknown", text, "Say which one it is with --url.")
    if row["id"] != backends[0]["id"]:
        text = f"Label Studio uses a project's first backend only, which is another: {there}."
        return Finding(check, "wrong", text, "Delete those before it at Settings > Model.")
    return Finding(check, "ok", f"It is connected at {_plain(row['url'])}.")


def connected_once(case: Case) -> Finding:
    """Label Studio may store a backend several times, and then asks all on every look at a list."""
    check, rows = "connection once", doubles(case.backends, case.row)
    if len(rows) == 1:
        return Finding(check, "ok", "It is connected once.")
    text = f"It is connected {len(rows)} times, which Label Studio does when its SQLite is locked."
    if case.hand is None:
        return Finding(check, "wrong", text, _RUN_FIX)
    try:
        case.hand.disconnect_doubles(case.number, rows)
    except LabelStudioError as error:
        _unless_reached(error)
        return _not_mended(check, text, f"Label Studio answered {error.status}.")
    return Finding(check, "fixed", text)


def backend_state(case: Case) -> Finding:
    """Label Studio has just asked for /health and /setup, to answer with this state."""
    check, state = "state", case.row["state"]
    if state == "ER":
        text = _plain(f"The backend refuses the project: {case.row['error_message']}")
        return Finding(check, "wrong", text, "Do what it says, then reload Settings > Model.")
    if state != "DI":
        return Finding(check, "ok", "Label Studio reaches it.")
    text = f"Label Studio does not get an answer from {_plain(case.address)}/health within 1 s."
    if case.password and case.row["auth_method"] != "BASIC_AUTH":
        remedy = (
            "The backend wants BASIC_AUTH_USER and BASIC_AUTH_PASS: choose Basic Authentication at "
            "Settings > Model > Edit and give both."
        )
        return Finding(check, "wrong", text, remedy)
    refused = _rehearse(case, "/api/ml/", url=case.address, timeout="never valid")
    remedy = _remedy(refused, "ML_BLOCK_LOCAL_IP") or (
        "Start it, with --host 0.0.0.0 where Label Studio is on another machine or in a container; "
        "and use an address that Label Studio's machine can reach."
    )
    return Finding(check, "wrong", text, remedy)


def health(case: Case) -> Finding:
    """Asked from here, which need not be where Label Studio asks from; without the password, whose
    refusal is an answer as well."""
    check, where = "health", f"{_plain(case.address)}/health"
    if not case.named:
        text = f"{where} is not asked: no admin has named that address."
        return Finding(check, "unknown", text, case.say_named)
    try:
        answer = httpx.get(f"{case.address}/health", timeout=HEALTH_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        text = f"{where} cannot be reached from here ({say(error)})."
        return Finding(check, "unknown", text, "It need not be, if Label Studio is elsewhere.")
    seconds = answer.elapsed.total_seconds()
    if answer.status_code == 401 and not case.password:
        text = f"{where} wants a user and a password, and here are none."
        return Finding(check, "unknown", text, "Run this in the backend's own environment.")
    if not (answer.is_success or answer.status_code == 401) or seconds > HEALTH_SECONDS:
        text = f"{where} answered {answer.status_code} after {seconds:.1f} s."
        remedy = "Label Studio drops pre-labels after 1 s: set THREADS below the number of cores."
        return Finding(check, "unknown", text, remedy)
    return Finding(check, "ok", f"{where} answered in {seconds:.2f} s.")


# The webhook


def webhook(case: Case) -> Finding:
    """Label Studio makes one with the backend, but none where it dislikes the address, and does
    not move it when the backend's address is changed."""
    check, there = "webhook", bool(case.hooks)
    refused = _rehearse(case, "/api/webhooks/", url=case.hook_address, actions=["never valid"])
    where = _plain(case.hook_address)
    if refused:
        kept = f"a webhook to {where}, so no events arrive: {refused}"
        text = f"Label Studio {'does not deliver' if there else 'accepts no'} {kept}"
        return Finding(check, "wrong", text, _remedy(refused, "SSRF_PROTECTION_ENABLED"))
    if there:
        return Finding(check, "ok", f"Events go to {where}.")
    left = _left_behind(case)
    if left is not None:
        text = f"The webhook still goes to {_plain(left['url'])}; the backend is at {where}."
        body = _keeping(left, url=case.hook_address)
        if not case.named:
            body["headers"] = _others(left)
        return _mended(case.hand, check, text, "PATCH", _hook(left), body)
    body = {
        "project": case.number,
        "url": case.hook_address,
        "send_payload": True,
        "send_for_all_actions": True,
        "headers": case.headers,
    }
    text = f"There is no webhook to {where}, so the backend hears of no annotation."
    return _mended(case.hand, check, text, "POST", "/api/webhooks/", body)


def duplicates(case: Case) -> Finding:
    """Each event is delivered once for every webhook, while the annotator waits."""
    check, extra = "webhook once", case.hooks[1:]
    if not extra:
        return Finding(check, "ok", "Each event is sent once.")
    text = f"{len(case.hooks)} webhooks go to the same address."
    done = [_mended(case.hand, check, text, "DELETE", _hook(hook)) for hook in extra]
    return next((finding for finding in done if finding.state != "fixed"), done[0])


def delivery(case: Case) -> Finding:
    """The backend needs every event of the project, with what it is about."""
    check, hook = "webhook delivery", case.hooks[0]
    wanted = {
        "is_active": "is inactive",
        "send_for_all_actions": "is not sent for all actions",
        "send_payload": "is sent without its payload",
    }
    faults = [text for key, text in wanted.items() if not hook[key]]
    if not faults:
        return Finding(check, "ok", "Active, for all actions, with payload.")
    body = _keeping(hook, **dict.fromkeys(wanted, True))
    return _mended(
        case.hand, check, f"The webhook {', '.join(faults)}.", "PATCH", _hook(hook), body
    )


def password(case: Case) -> Finding:
    """Label Studio sends user and password with everything but webhooks."""
    check, hook = "webhook password", case.hooks[0]
    others = {k: v for k, v in hook["headers"].items() if k.lower() != "authorization"}
    given = [v for k, v in hook["headers"].items() if k.lower() == "authorization"]
    if not case.password:
        if case.row["auth_method"] == "BASIC_AUTH" and not given:
            text = "The backend is connected with a password, and its webhook has none."
            remedy = "Set BASIC_AUTH_USER and BASIC_AUTH_PASS here as for the backend; then --fix."
            return Finding(check, "unknown", text, remedy)
        return Finding(check, "ok", "None is needed.")
    if given == [case.password]:
        return Finding(check, "ok", "It is the backend's.")
    text = (
        "The webhook's Authorization header is not the backend's user and password."
        if given
        else "The webhook has no Authorization header, and the backend wants user and password."
    )
    if not case.named:
        return Finding(check, "wrong", text, case.say_named)
    body = _keeping(hook, headers={**others, "Authorization": case.password})
    return _mended(case.hand, check, text, "PATCH", _hook(hook), body)


def secret(case: Case) -> Finding:
    """Label Studio signs nothing, so this is what the backend knows its webhook by."""
    hook = case.hooks[0]
    others = {k: v for k, v in hook["headers"].items() if k.lower() != HEADER.lower()}
    given = [str(v) for k, v in hook["headers"].items() if k.lower() == HEADER.lower()]
    if len(given) == 1 and same(given[0], case.secret):
        return Finding(SECRET, "ok", f"It is carried (the header {HEADER}).")
    text = f"The webhook does not carry the backend's secret (the header {HEADER})."
    if not case.named:
        return Finding(
            SECRET, "unknown", f"{text} So anybody's events are believed.", case.say_named
        )
    body = _keeping(hook, headers={**others, HEADER: case.secret})
    return _mended(case.hand, SECRET, text, "PATCH", _hook(hook), body)


def strays(case: Case) -> list[Finding]:
    """Others that look like a backend's, where none is: each may cost an annotator 1 s."""
    moved = [] if case.hooks else [_left_behind(case)]
    return [
        Finding(
            "other webhooks",
            "unknown",
            f"A webhook goes to {_plain(hook['url'])}, where no backend of the project is.",
            "If nothing answers there, every submission waits 1 s for it: delete it at "
            "Settings > Webhooks.",
        )
        for hook in case.strays
        if hook not in moved
    ]


def _left_behind(case: Case) -> Row | None:
    """The webhook that Label Studio made together with the backend, at an older address."""
    for hook in case.strays:
        apart = _time(hook["created_at"]) - _time(case.row["created_at"])
        if 0 <= apart.total_seconds() < _SAME_MOMENT:
            return hook
    return None


# What people see


def prelabels(case: Case) -> Finding:
    """The label stream shows the predictions that the project has chosen, a backend's by its title
    or those of one version; where the choice names neither, it shows none."""
    check, chosen = "pre-labels", case.project["model_version"] or ""
    if not case.project["show_collab_predictions"]:
        remedy = 'Switch on "Use predictions to prelabel tasks" at Settings > Annotation.'
        return Finding(check, "wrong", "They are not shown to people.", remedy)
    serving, title = str(case.row["model_version"]), str(case.row["title"])
    if chosen in (title, serving):
        return Finding(check, "ok", f"The project shows those of {chosen}.")
    choose = f"Choose {title} at Settings > Annotation > Prelabeling."
    if not chosen:
        text = "The project has chosen no predictions, so the label stream shows none."
        path, body = f"/api/projects/{case.number}/", {"model_version": title}
        return _mended(case.hand, check, text, "PATCH", path, body, choose)
    if is_own_version(chosen, case.number):
        text = f"The project shows those of {chosen} only, while {serving} serves it."
        return Finding(
            check, "unknown", text, f"Unless that is meant: {choose[0].lower()}{choose[1:]}"
        )
    text = f"The project shows those of {chosen!r}, which is neither this backend nor its version."
    return Finding(check, "wrong", text, choose)


def title(case: Case) -> Finding:
    """Label Studio asks the backend whose *title* a project has chosen, but shows and sorts scores
    of predictions whose *version* it has chosen. Only where both are the same does it do both.

    The version is the one that Label Studio has just got from /setup. Asking /setup ourselves
    would replace the address and the token that the backend knows Label Studio by.
    """
    check, old, serving = "title", str(case.row["title"]), str(case.row["model_version"] or "")
    if not case.row["auto_update"] or not is_own_version(serving, case.number):
        text = f"Which version serves is not known; Label Studio has noted {serving!r}."
        return Finding(check, "unknown", text, "See what the backend's log says about /setup.")
    if old == serving:
        return Finding(check, "ok", f"It is the serving version, {serving}.")
    text = f"It is {old!r} while {serving} serves, so scores are neither shown nor sorted by."
    remedy = f"{_RUN_FIX} Or title the backend {serving} at Settings > Model > Edit."
    path, body = f"/api/ml/{case.row['id']}", backend_body(case.row, title=serving)
    finding = _mended(case.hand, check, text, "PATCH", path, body, remedy)
    if finding.state == "fixed":
        _follow(case, old, serving)
    return finding


def _follow(case: Case, old: str, new: str) -> None:
    """Where the project has chosen the backend by its old title (Label Studio does so too)."""
    if case.site.project(case.number)["model_version"] == old:
        case.site.update_project(case.number, model_version=new)


def slow_lists(project: Row, hand: LabelStudioClient | None = None) -> Finding:
    """A setting of old, which makes Label Studio ask for predictions whenever it lists tasks."""
    check = "task lists"
    if not project["evaluate_predictions_automatically"]:
        return Finding(check, "ok", "They wait for no predictions.")
    text = "evaluate_predictions_automatically is on, so every list of tasks waits for predictions."
    path, body = f"/api/projects/{project['id']}/", {"evaluate_predictions_automatically": False}
    remedy = f"{_RUN_FIX} Label Studio's pages have no switch for it."
    return _mended(hand, check, text, "PATCH", path, body, remedy)


def large_pictures(site: LabelStudioClient, project: Row) -> Finding:
    """Brush regions cost the browser four bytes for each of the picture's pixels, each."""
    check = "picture size"
    try:
        if parse_config(str(project["label_config"])).kind != "brush":
            return Finding(check, "ok", "Any: the project has no brush labels.")
    except DganError as error:
        return Finding(check, "unknown", str(error))
    query = {"project": project["id"], "page_size": _TASKS_LOOKED_AT, "fields": "all"}
    tasks = site.request("GET", "/api/tasks/", params=query)["tasks"]
    worst = max((_largest(task) for task in tasks), default=(0, 0, 0))
    pixels, width, height = worst
    if pixels <= LARGE_PIXELS:
        return Finding(
            check, "ok", f"Small enough for brush labels in the first {len(tasks)} tasks."
        )
    text = f"A task's picture has {width} x {height} pixels, and each brush region takes "
    text += f"{pixels * 4 // 2**20} MiB in the browser."
    remedy = "Use BitmaskLabels instead of BrushLabels, or smaller pictures."
    return Finding(check, "wrong", text, remedy)


def _largest(task: Row) -> tuple[int, int, int]:
    """Pixels, width and height of the largest picture that a task's regions speak of."""
    results = [*task.get("annotations", []), *task.get("predictions", [])]
    regions = [region for result in results for region in result.get("result") or []]
    sizes = [(r.get("original_width") or 0, r.get("original_height") or 0) for r in regions]
    return max(((int(w) * int(h), int(w), int(h)) for w, h in sizes), default=(0, 0, 0))


# Mending


def _mended(
    hand: LabelStudioClient | None,
    check: str,
    text: str,
    method: str,
    path: str,
    body: Any = None,
    remedy: str = "",
) -> Finding:
    """Make that call if mending was asked for. What Label Studio answers to a refused one is not
    passed on: it may repeat headers, and so the password."""
    if hand is None:
        return Finding(check, "wrong", text, remedy or _RUN_FIX)
    try:
        hand.request(method, path, **({} if body is None else {"json": body}))
    except LabelStudioError as error:
        _unless_reached(error)
        return _not_mended(check, text, f"Label Studio answered {error.status} to {method} {path}.")
    return Finding(check, "fixed", text)


def _not_mended(check: str, text: str, why: str) -> Finding:
    remedy = "Use a token of someone who may change the project's settings, or do it there."
    return Finding(check, "wrong", f"{text} It could not be mended: {why}", remedy)


def _unless_reached(error: Exception) -> None:
    if isinstance(error, LabelStudioError) and not error.status:
        raise error


def _rehearse(case: Case, path: str, **body: Any) -> str:
    """What Label Studio has against the `url` of a body; empty when nothing.

    The body must have another field that is never valid. Then Label Studio checks all fields and
    makes nothing. It is the only way to learn of its settings, which the API does not show.
    """
    try:
        case.site.request("POST", path, json={"project": case.number, **body})
    except LabelStudioError as error:
        _unless_reached(error)
        for known in (_BAD_NAME, _RESERVED, _UNRESOLVED):
            if known in str(error):
                return str(error).rpartition(": ")[2] if known is _UNRESOLVED else f"{known}."
    return ""


_BAD_NAME = "Enter a valid URL"
_RESERVED = "reserved network address"
_UNRESOLVED = "resolve hostname"


def _remedy(refused: str, setting: str) -> str:
    """What to do about an answer of `_rehearse`."""
    if _BAD_NAME in refused:
        return (
            "Connect the backend (Settings > Model > Edit) by localhost, an IP address, "
            "host.docker.internal or another name with a dot: Label Studio makes no webhook for "
            "names without one or with an underscore. In a compose file give the service a network "
            "alias such as backend.dgan.local. Then run this with --fix."
        )
    if _RESERVED in refused:
        return (
            f"Start Label Studio with {setting}=false in its environment (it also needs "
            "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false for a backend at a private "
            "address), then run this with --fix."
        )
    if refused:
        return "Use a name that Label Studio's machine can look up, or an IP address."
    return ""


def _keeping(hook: Row, **changes: Any) -> dict[str, Any]:
    """A PATCH of a webhook; Label Studio forgets its actions when they are left out."""
    return {"actions": list(hook["actions"]), **changes}


def _others(hook: Row) -> dict[str, str]:
    """The headers of a webhook that are not ours."""
    ours = ("authorization", HEADER.lower())
    return {name: value for name, value in hook["headers"].items() if name.lower() not in ours}


def _hook(hook: Row) -> str:
    return f"/api/webhooks/{hook['id']}/"


def _bare(url: str) -> str:
    return str(url).strip().rstrip("/")


def _host(url: str) -> str:
    """As it stands in a URL, an IPv6 address in brackets."""
    name = urlsplit(url).hostname or ""
    return f"[{name}]" if ":" in name else name


def _plain(url: str) -> str:
    """For people to read: without user and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
