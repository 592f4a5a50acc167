"""What a load test found: as JSON, as a table, and whether it is as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dgan_backend.loadtest.answers import Answer, Span, figures, within
from dgan_backend.loadtest.memory import Memory

WEBHOOK_MS = 1000.0  # Label Studio gives up, and an annotator has waited for it
HEALTH_MS = 300.0  # p99 while a training runs; Label Studio gives up after 1 s
_BACKEND = ("/webhook", "/predict", "/setup", "/health")
_TRAINING = "/health while training"
_MUST_ANSWER = ("/webhook", "/predict", "/health")
_LOST, _LEFT_OUT, _DOUBLED = (
    "no correction was lost", "no correction was left out", "no prediction is doubled"
)  # fmt: skip
_COLUMNS = ("count", "failed", "p50_ms", "p95_ms", "p99_ms", "max_ms")
Report = dict[str, Any]


def routes(
    backend: Sequence[Answer], studio: Iterable[Answer], trainings: Sequence[Span]
) -> dict[str, dict[str, Any]]:
    """Figures of each route: the backend's as Label Studio has them, then what people waited for.

    trainings: from when until when, seconds since 1970.
    """
    told = {route: figures(a for a in backend if a.route == route) for route in _BACKEND}
    health = [a for a in backend if a.route == "/health"]
    told[_TRAINING] = figures(within(health, trainings))
    people: dict[str, list[Answer]] = {}
    for answer in studio:
        people.setdefault(answer.route, []).append(answer)
    return told | {f"people: {name}": figures(own) for name, own in sorted(people.items())}


def memory_of(memory: Memory) -> dict[str, Any]:
    return {"figures": memory.figures(), "samples": memory.samples}


def targets(report: Mapping[str, Any]) -> dict[str, bool | None]:
    """Each one by what it says; None where nothing tells."""
    webhook, health = report["routes"]["/webhook"], report["routes"][_TRAINING]
    flat = [told["flat"] for name, told in report["memory"]["figures"].items() if "'s" not in name]
    return {
        _LOST: not report["corrections"]["lost"] and not report["corrections"]["missing"],
        _LEFT_OUT: not report["corrections"]["left_out"],
        _DOUBLED: not report["predictions"]["doubled"],
        "no webhook, prediction or /health failed": not any(
            report["routes"][route]["failed"] for route in _MUST_ANSWER
        ),
        f"no webhook took over {WEBHOOK_MS:.0f} ms": _under(webhook["max_ms"], WEBHOOK_MS),
        f"p99 of /health while training is under {HEALTH_MS:.0f} ms": _under(
            health["p99_ms"], HEALTH_MS
        ),
        "memory is flat": all(flat) if flat else None,
    }


def failed(report: Report) -> bool:
    """Whether something was lost, left out or doubled: that must not be, however slow all is."""
    told = targets(report)
    return not all(told[what] for what in (_LOST, _LEFT_OUT, _DOUBLED))


def table(report: Report) -> str:
    """For people."""
    rows = [["", "asked", "failed", "p50", "p95", "p99", "longest, ms"]]
    for name, told in report["routes"].items():
        rows.append([name, *("-" if told[c] is None else f"{told[c]:g}" for c in _COLUMNS)])
    lines = [*_aligned(rows), ""]
    rows = [["", "first", "last", "most, MiB", "MiB/minute"]]
    for name, told in report["memory"]["figures"].items():
        numbers = (told["first_mib"], told["last_mib"], told["peak_mib"])
        rows.append([name, *(f"{n:.0f}" for n in numbers), f"{told['mib_per_minute']:+.1f}"])
    lines += [*_aligned(rows), "", *_sentences(report), ""]
    words = {True: "yes", False: "NO", None: "cannot tell"}
    lines += [f"{words[good]:>11}  {what}" for what, good in report["targets"].items()]
    return "\n".join(lines)


def _sentences(report: Report) -> list[str]:
    corrections, trained, found = (
        report["corrections"], report["trainings"], report["predictions"]
    )  # fmt: skip
    lines = [
        f"{corrections['submitted']} annotations of {corrections['tasks']} tasks were submitted, "
        f"{corrections['changed_again']} times one was changed again; "
        f"{len(corrections['lost'])} are lost, {len(corrections['left_out'])} left out, "
        f"{len(corrections['missing'])} are not in Label Studio as they were acknowledged.",
        f"{trained['count']} trainings took {trained['share']:.0%} of the labeling time and made "
        f"{trained['versions']} versions; {_known(trained)}.",
        f"{found['tasks']} tasks have {found['predictions']} predictions; "
        f"{len(found['doubled'])} have two of one version.",
    ]
    if report["troubles"]:
        first = report["troubles"][0]
        lines.append(f"{len(report['troubles'])} troubles, the first: {first[:200]}")
    return lines


def _known(trained: Mapping[str, Any]) -> str:
    seconds = trained["seconds_until_all"]
    if seconds is None:
        return "patience ended before one knew all"
    return f"{trained['last'] or 'no one'} knew all {seconds:.0f} s after the last annotation"


def _under(value: float | None, most: float) -> bool | None:
    return None if value is None else value < most


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
