"""The status page: one document that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dgan_backend.loop.effort import SECONDS_A_PART
from dgan_backend.loop.wording import counted, in_words, name_of, said_of
from dgan_backend.markup import Child, Html, joined, tag
from dgan_backend.serving.curve import curve

_COLUMNS = 12  # versions of the table of corrected shares
_ROWS = 12  # of a list before the rest is only counted
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Ccircle cx='4' cy='4' r='4' fill='%233b63d8'/%3E%3Cpath d='M0 4a4 4 0 0 1 8 0z' "
    "fill='%23e0a030'/%3E%3C/svg%3E"
)
Json = Mapping[str, Any]


def page(report: Json, *, nonce: str, address: str, answer: Json | None = None) -> str:
    """report: see `Status.report`. address: of the backend, as it was asked for. answer: to
    `?task=`, see `Status.task`."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "dgan-backend: status"),
        tag("link", rel="icon", href=_ICON),
        tag("style", Html(_asset("status.css")), nonce=nonce),
        tag("noscript", tag("meta", http_equiv="refresh", content=15)),
    )
    body = tag(
        "body",
        _main(report, address, answer),
        tag("script", Html(_asset("status.js")), nonce=nonce),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en")


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _main(report: Json, address: str, answer: Json | None) -> Html:
    projects = report["projects"]
    return tag(
        "main",
        tag(
            "header",
            tag("h1", "dgan-backend"),
            _chip("working", "busy") if report["active"] else _chip("idle"),
            tag("span", f"version {report['backend']}", class_="quiet"),
        ),
        [tag("p", problem, class_="problem") for problem in report["problems"]],
        _answer(answer) if answer else None,
        [_project(project) for project in projects] if projects else _welcome(address),
        _asking(projects),
        data_active="yes" if report["active"] else None,
    )


# Without projects


def _welcome(address: str) -> Html:
    steps: list[Child] = [
        (
            "Where this backend is at a private address, start Label Studio with ",
            tag("code", "ML_BLOCK_LOCAL_IP=false"),
            " and ",
            tag("code", "SSRF_PROTECTION_ENABLED=false"),
            ".",
        ),
        (
            "In the project's Settings > Labeling Interface, use BrushLabels, BitmaskLabels or "
            "PolygonLabels; the labels are the parts to find."
        ),
        (
            "In Settings > Model, choose Connect Model and give ",
            tag("code", address),
            ", a name with a dot, localhost or an IP address.",
        ),
        (
            "Title it with the version that serves it: ",
            tag("code", "toonhead-shipped"),
            " for the parts of toon heads. Labels of your own are learned from the first "
            "annotations that you submit.",
        ),
        (
            "Open a task. If it shows no parts, ",
            tag("code", "dgan-backend doctor --project N"),
            " says why.",
        ),
    ]
    return tag(
        "section",
        tag("h2", "No project is connected yet"),
        tag("p", "Five steps in Label Studio, and its pictures arrive with their parts:"),
        tag("ol", [tag("li", step) for step in steps], class_="steps"),
    )


# A project


def _project(project: Json) -> Html:
    return tag(
        "section",
        _title(project),
        tag("p", project["problem"], class_="problem") if project["problem"] else None,
        _tiles(project),
        _jobs(project),
        _notices(project),
        _curve(project),
        _heat(project["versions"]),
        _effort(project),
        _versions(project),
        _left_out(project),
        _empty(project),
        _errors(project),
        id=f"project-{project['uid']}",
    )


def _title(project: Json) -> Html:
    name = project["title"] or f"Project {project['project']}"
    linked = tag("a", name, href=project["url"], rel="noreferrer") if project["url"] else name
    chips = []
    if not project["connected"]:
        chips.append(_chip("not connected", "wrong"))
    if project["paused"]:
        chips.append(_chip("paused", "held"))
    return tag(
        "div",
        tag("h2", linked, tag("span", f" #{project['project']}", class_="quiet")),
        chips,
        _button(project) if project["connected"] else None,
        class_="title",
    )


def _button(project: Json) -> Html:
    action, word = ("resume", "Resume") if project["paused"] else ("pause", "Pause")
    return tag(
        "form",
        tag("input", type="hidden", name="project", value=project["uid"]),
        tag("button", word, type="submit"),
        method="post",
        action=f"status/{action}",
    )


def _tiles(project: Json) -> Html:
    return tag(
        "div",
        _tile("serves it", *_serving(project)),
        _tile("corrections", project["corrections"], _corrections(project)),
        _tile("mean IoU", *_quality(project)),
        _tile("saved", *_saved(project["effort"])),
        class_="tiles",
    )


def _tile(name: str, value: Child, more: Child) -> Html:
    return tag(
        "div",
        tag("span", name, class_="quiet"),
        tag("strong", value),
        tag("span", more, class_="quiet"),
        class_="tile",
    )


def _serving(project: Json) -> tuple[str, str]:
    if not project["trained"]:
        return "none", "not trained yet"
    name = project["version"]
    number = next((v["number"] for v in project["versions"] if v["name"] == name), None)
    return ("shipped" if number is None else f"v{number}"), name


def _corrections(project: Json) -> str:
    left, part = len(project["left_out"]), len(project["learned_in_part"])
    told = [f"{left} left out"] if left else []
    told += [f"{part} learned from in part"] if part else []
    return ", ".join(told) or ("all learned from" if project["corrections"] else "none yet")


def _quality(project: Json) -> tuple[str, str]:
    compared = [v for v in project["versions"] if v["validation"] and not v["held_back"]]
    if not compared:
        return "–", "nothing to compare by yet"
    told = compared[-1]["validation"]
    on = f"v{compared[-1]['number']}, {told['difference']:+.3f} on {told['pictures']} pictures"
    return f"{told['candidate']:.3f}", on


def _saved(effort: Json | None) -> tuple[str, str]:
    if effort is None:
        return "–", "not known yet"
    if effort["minutes"] <= 0:
        return "0 min", "none so far"
    return in_words(effort["minutes"] * 60), f"on {counted(effort['corrections'], 'correction')}"


# Jobs


def _jobs(project: Json) -> Html | None:
    jobs = [job for job in project["jobs"] if job["state"] not in ("idle", "unknown")]
    return tag("ul", [_job(project, job) for job in jobs], class_="jobs") if jobs else None


def _job(project: Json, job: Json) -> Html:
    usual = project["usual_seconds"] if job["work"] == "train" else None
    share = tag("progress", value=job["done"], max=max(1, job["total"])) if "what" in job else None
    state = job["state"]
    said = "waits until the project goes on" if project["paused"] else said_of(job)
    if usual and state in ("running", "queued") and not project["paused"]:
        said += f" (the last one took {in_words(usual)} in all)"
    kind = {"running": "busy", "failed": "wrong"}.get(state, "held")
    return tag("li", _chip(name_of(job["work"]), kind), tag("span", said), share)


# What was learned


def _curve(project: Json) -> Html | None:
    drawn = curve(project["versions"])
    if drawn is None:
        return None
    legend = (
        tag("i", class_="key point"),
        "version ",
        tag("i", class_="key held"),
        "held back ",
        tag("i", class_="key before"),
        "the version before it, on the same pictures ",
        tag("i", class_="key interval"),
        "95 % interval of the difference",
    )
    return tag(
        "figure",
        tag("h3", "Validation"),
        tag("div", drawn, class_="wide"),
        tag("p", legend, class_="quiet legend"),
        tag(
            "figcaption",
            "Mean IoU on corrected pictures that neither of the two had learned from. Pictures "
            "are added all the time, so compare within a column rather than along the line.",
        ),
    )


def _heat(versions: Sequence[Json]) -> Html | None:
    shown = [v for v in versions if v["corrected"]][-_COLUMNS:]
    if not shown:
        return None
    named = dict.fromkeys(name for v in reversed(shown) for name in v["classes"])
    for version in shown:
        named.update(dict.fromkeys(version["corrected"]["classes"]))
    classes = [n for n in named if any(n in v["corrected"]["classes"] for v in shown)]
    rows = [_heat_row("all pixels", [v["corrected"].get("pixels") for v in shown], "all")]
    rows += [
        _heat_row(name, [v["corrected"]["classes"].get(name) for v in shown]) for name in classes
    ]
    top = [tag("th", f"v{v['number']}", title=v["name"], scope="col") for v in shown]
    return tag(
        "figure",
        tag("h3", "What people corrected"),
        tag("div", tag("table", tag("tr", tag("th"), top), rows, class_="heat"), class_="wide"),
        tag(
            "figcaption",
            "Of the pictures that were new to a version: how much of each class people had "
            "changed of what the version before it says of them. Less is better.",
        ),
    )


def _heat_row(name: str, shares: Iterable[float | None], kind: str | None = None) -> Html:
    cells = [
        tag("td")
        if share is None
        else tag("td", f"{100 * share:.0f} %", class_=f"h{min(10, round(10 * share))}")
        for share in shares
    ]
    return tag("tr", tag("th", name, scope="row"), cells, class_=kind)


def _effort(project: Json) -> Html | None:
    effort = project["effort"]
    if effort is None:
        return None
    scratch = effort["scratch_from"]
    against = (
        f"the median of {scratch} annotations of this project that began with nothing"
        if scratch
        else f"taken to be {SECONDS_A_PART:.0f} s a region, the pace of an experienced annotator "
        "on faces (DatasetGAN, CVPR 2021), until 3 annotations here began with nothing"
    )
    return tag(
        "p",
        tag("b", "Time saved: "),
        f"{counted(effort['corrections'], 'annotation')} began with a pre-label and took "
        f"{in_words(effort['seconds'])} (median of Label Studio's lead times). Drawing one "
        f"from nothing takes {in_words(effort['scratch_seconds'])}: {against}.",
        class_="quiet",
    )


def _notices(project: Json) -> Html | None:
    found = [
        f"Label Studio, {told['check']}: {told['text']} {told['remedy']}".rstrip()
        for told in project["findings"]
        if told["state"] == "wrong"
    ]
    found += [
        f"Regions of the label {label}, which the labeling config no longer has, are ignored "
        f"({counted(tasks, 'task')})."
        for label, tasks in project["removed_labels"].items()
    ]
    last = project["last_training"]
    if last and (last["version"] or project["left_out"]):  # or it had nothing to do
        found.append(f"The last training, {_ago(last['time'])}: {last['said']}")
    return tag("div", [tag("p", text) for text in found], class_="notice") if found else None


def _versions(project: Json) -> Html | None:
    versions = list(reversed(project["versions"]))
    if not versions:
        return None
    held = sum(bool(v["held_back"]) for v in versions)
    rows = [_version(v) for v in versions]
    names = ("version", "made", "learned from", "mean IoU", "")
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    table = tag("table", head, rows, class_="versions")
    summary = counted(len(versions), "version") + (f", {held} held back" if held else "")
    return _details(project, "versions", summary, tag("div", table, class_="wide"), held > 0)


def _version(version: Json) -> Html:
    told = version["validation"]
    quality = f"{told['candidate']:.3f} ({told['difference']:+.3f})" if told else "–"
    learned = f"{version['pictures'] or '?'} pictures, {version['corrections']} corrected"
    held = version["held_back"]
    became = (
        _chip("serves", "good") if version["serves"] else None,
        _chip("held back", "held") if held else None,
    )
    made = _ago(version["time"]) if version["time"] else "by hand"
    if version["seconds"]:
        made += f", in {in_words(version['seconds'])}"
    cells = (tag("code", version["name"]), made, learned, quality, became)
    why = (
        tag("tr", tag("td", tag("div", held), colspan=len(cells), class_="why")) if held else Html()
    )
    return joined((tag("tr", [tag("td", cell) for cell in cells]), why))


# What went wrong


def _left_out(project: Json) -> Html | None:
    left, part = project["left_out"], project["learned_in_part"]
    if not left and not part:
        return None
    rows: list[Child] = [
        (_task(project, told), _without_task(told["reason"], told["task"]), _again(told))
        for told in (*left, *part)[:_ROWS]
    ]
    total = len(left) + len(part)
    summary = f"{counted(total, 'correction')} not learned from, or in part"
    return _details(project, "left-out", summary, _list(rows, total), True)


def _again(told: Json) -> Html | None:
    return (
        tag("span", " Tried again with the next training.", class_="quiet")
        if (told.get("again"))
        else None
    )


def _empty(project: Json) -> Html | None:
    """Grouped by reason, since hundreds often have the same."""
    groups: dict[str, list[Json]] = {}
    for told in project["empty"]:
        groups.setdefault(_without_task(told["reason"], told["task"]), []).append(told)
    if not groups:
        return None
    rows: list[Child] = []
    for reason, every in list(groups.items())[:_ROWS]:
        tasks: list[Child] = [(_task(project, told), " ") for told in every[:_ROWS]]
        more = f"and {len(every) - _ROWS} more: " if len(every) > _ROWS else None
        when = tag("span", f" {_ago(every[0]['time'])}", class_="quiet")
        rows.append((tasks, more, reason, when))
    summary = f"{counted(len(project['empty']), 'picture')} without parts"
    return _details(project, "empty", summary, _list(rows, len(groups)))


def _without_task(reason: str, task: int | None) -> str:
    return reason.removeprefix(f"Task {task}: ").removeprefix(f"Task {task} ")


def _errors(project: Json) -> Html | None:
    errors = project["errors"]
    if not errors:
        return None
    rows: list[Child] = [
        (
            _task(project, told) if told["task"] is not None else None,
            _without_task(told["text"], told["task"]),
            tag(
                "span",
                f" {_ago(told['time'])}" + (f", {told['times']} times" * (told["times"] > 1)),
                class_="quiet",
            ),
        )
        for told in errors[:_ROWS]
    ]
    last = _ago(errors[0]["time"])
    summary = f"{counted(len(errors), 'error')}, the last one {last}"
    return _details(project, "errors", summary, _list(rows, len(errors)))


def _list(rows: Sequence[Child], total: int) -> Html:
    more = tag("li", f"and {total - len(rows)} more", class_="quiet") if total > len(rows) else None
    return tag("ul", [tag("li", row) for row in rows], more, class_="list")


def _task(project: Json, told: Json) -> Html:
    name = f"task {told['task']}"
    if not project["url"]:
        return tag("b", name, " ")
    link = f"{project['url']}?task={told['task']}"
    return joined((tag("a", name, href=link, rel="noreferrer"), " "))


# One task


def _asking(projects: Sequence[Json]) -> Html:
    choices = [
        tag("option", f"{p['title'] or 'Project'} #{p['project']}", value=p["uid"])
        for p in projects
        if p["connected"]
    ]
    which = None
    if len(choices) > 1:
        options = [tag("option", "any project", value=""), *choices]
        which = tag("select", options, name="project", aria_label="project")
    asking = tag(
        "form",
        tag("label", "Why is a task empty? ", for_="task"),
        tag("input", id="task", name="task", type="number", min=1, required=True,
            placeholder="task ID"),
        which,
        tag("button", "Tell me"),
        method="get",
        action="status",
    )  # fmt: skip
    json = tag("a", "This page as JSON", href="status?format=json")
    return tag("footer", asking if choices else None, json)


def _answer(answer: Json) -> Html:
    told = [
        tag(
            "div",
            tag("p", _chip(found["state"]), f" {found['reason']}"),
            [tag("p", text, class_="quiet") for text in found["more"]],
        )
        for found in answer["answers"]
    ]
    problems = [tag("p", text) for text in answer["problems"]] if not told else None
    return tag("section", tag("h2", f"Task {answer['task']}"), told, problems, class_="answer")


# Pieces


def _details(project: Json, kind: str, summary: str, body: Child, opened: bool = False) -> Html:
    name = f"{kind}-{project['uid']}"
    return tag("details", tag("summary", summary), body, id=name, open=opened)


def _chip(text: str, kind: str | None = None) -> Html:
    return tag("span", text, class_=f"chip {kind}" if kind else "chip")


def _ago(when: float) -> str:
    seconds = time.time() - when
    return "just now" if seconds < 5 else f"{in_words(seconds)} ago"
