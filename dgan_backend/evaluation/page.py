"""A report as one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgan_backend.evaluation.aims import aims
from dgan_backend.evaluation.budget import pictures, training
from dgan_backend.evaluation.certainty import calibration, members
from dgan_backend.evaluation.charts import Point, Series, chart
from dgan_backend.evaluation.exhibits import Exhibit
from dgan_backend.evaluation.layout import (
    STYLE,
    grid,
    labels,
    number,
    section,
    spread,
)
from dgan_backend.evaluation.losses import attempts, causes
from dgan_backend.evaluation.plan import COMPARED, LONG, TITLES, Run
from dgan_backend.evaluation.summary import Spread, Summary
from dgan_backend.markup import Child, Html, tag

_WAYS = {
    "ours": "last epoch, all classes that are there",
    "without_background": "the same without background",
    "absent_is_zero": "the same, a class that is nowhere counts as 0",
    "epoch_on_test": "epoch chosen on the test pictures",
    "original_best_on_test": "the original without cross validation: both of these",
    "original_folds": "the original's 5 folds: one chooses the epoch, four are measured",
}


def page(
    summary: Summary, about: dict[str, Any], classes: Sequence[str], shown: Sequence[Exhibit]
) -> str:
    """about: domain, command, commits, machine, notes, minutes, as the JSON has them."""
    body = [
        tag("h1", f"How right are the masks of {about['domain']}?"),
        tag("p", _about(about), class_="about"),
        aims(summary),
        _table(summary, about["generator"].get("pictures_in_set")),
        _curves(summary),
        calibration(summary),
        members(summary),
        _protocol(summary),
        _minutes(summary),
        causes(summary),
        attempts(summary),
        _by_class(summary, classes),
        [_exhibit(exhibit) for exhibit in shown],
        _made(about),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width"),
        tag("title", f"Masks of {about['domain']}"),
        tag("style", Html(STYLE)),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en")


def _about(about: dict[str, Any]) -> str:
    return (
        f"Measured on {about['test_pictures']} labeled pictures that nothing learned from; labels "
        f"are drawn {_times(about['draws'])} from {about['pool_pictures']} others"
        f"{_once(about['once'], about['draws'])}. Networks are the same light DeepLab-V3 with the "
        "same augmentation, from random weights (none can be fetched here), but for transfer "
        "learning's, which begins with other pictures, what fit makes, which is two U-Nets that "
        "begin with the generator's backbone, and the interpreter. "
        + ("They also look at the mirrored picture. " if about["mirrored"] else
           "Pictures are not mirrored, as left and right are classes of their own: a network is "
           "a single opinion, which has no uncertainty. ")
        + f"A training sees {about['pictures_seen']:,} pictures, but for those said below."
        + (" This is the quick report: too short a training to conclude anything." if about["quick"]
           else "")
    )  # fmt: skip


def _times(draws: int) -> str:
    return {1: "once", 2: "twice"}.get(draws, f"{draws} times")


def _once(counts: Sequence[int], draws: int) -> str:
    if not counts or draws == 1:
        return ""
    return f", {' and '.join(map(str, counts))} labels once"


def _table(summary: Summary, learned: int | None) -> Html:
    """learned: pictures that the generator was trained on; None: not known."""
    counts = summary.counts
    rows: list[list[Child]] = []
    for method in (*COMPARED, "prelabeler", "inversion"):
        each = [summary.spread(method, count) for count in counts]
        if any(each):
            rows.append([TITLES[method], *(spread(one) for one in each)])
    many: list[list[Child]] = [
        [f"{TITLES['many']} on {labels(n)}", spread(found), number(cell, "miou_foreground"),
         number(cell, "boundary_f")]
        for n in (run.labels for run in summary.plan.many())
        if (found := summary.spread("many", n)) and (cell := summary.row("many", n))
    ]  # fmt: skip
    single: list[list[Child]] = []
    main = summary.plan.main
    for method in (*COMPARED, "prelabeler", "inversion"):
        if cells := summary.row(method, main):
            sure = f"{100 * cells[0]['miou_low']:.1f} to {100 * cells[0]['miou_high']:.1f}"
            measures = [number(cells, k) for k in ("miou_foreground", "boundary_f", "wrong")]
            single.append([TITLES[method], *measures, sure])
    return section(
        "mIoU, %",
        grid(["mean and deviation over draws", *(labels(n) for n in counts)], rows, "student"),
        tag("p", _trainings(summary, learned), class_="note"),
        grid(["", "mIoU", "without background", "boundary F"], many) if many else None,
        tag(
            "p",
            f"More measures at {labels(main)}, %. The interval is of draw 0: 95 % of 1,000 "
            "draws of the test pictures (bootstrap).",
            class_="note",
        ),
        grid(
            ["", "without background", "boundary F", "pixels to correct", "mIoU, interval"],
            single,
            "student",
        ),
    )


def _trainings(summary: Summary, learned: int | None) -> str:
    """How the networks of the table were trained, where that differs, and what was unlabeled."""
    few = ", ".join(
        f"{training(Run('supervised', n)).rate:g} at {labels(n)}" for n in summary.counts
    )
    told = (
        f"Trained at Muon's largest rate {training(Run('student', 1)).rate:g}; from labels alone, "
        f"which fewer labels want lower: {few}."
    )
    if judges := summary.plan.many():
        seen = ", ".join(
            f"{pictures(run, summary.plan.scale):,} on {labels(run.labels)}" for run in judges
        )
        told += f" Fully supervised networks see {seen}."
    if cells := summary.row("semi_supervised", summary.plan.main):
        share = 100 * sum(c["trusted_share"] for c in cells) / len(cells)
        had = cells[0]["unlabeled"]
        more = ", which is the student's advantage" if learned is None or learned > had else ""
        told += (
            f" Semi-supervised learning has {had:,} pictures without labels; the student's "
            f"generator was trained on {f'{learned:,}' if learned else 'many'}{more}. At "
            f"{labels(summary.plan.main)} it taught itself with {share:.0f} % of those it saw."
        )
        told += _behind_supervised(summary)
    return told


def _behind_supervised(summary: Summary) -> str:
    """Where semi-supervised learning does less than what it builds on."""
    gains = [(n, summary.gain("supervised", n, "semi_supervised")) for n in summary.counts]
    behind = [labels(n) for n, gain in gains if gain is not None and gain.mean < 0]
    if not behind:
        return ""
    return (
        f" With {', '.join(behind)} it is behind the labels alone: what it teaches itself "
        "is wrong too often there, so that to be ahead of it says little."
    )


def _curves(summary: Summary) -> Html:
    series = [
        Series(TITLES[m], [_point(n, s) for n in summary.counts if (s := summary.spread(m, n))])
        for m in ("student", "supervised", "transfer", "semi_supervised", "prelabeler")
    ]
    most = summary.most()
    flat, alone = list[Series](), list[Series]()
    if most is not None:
        flat.append(Series(f"fully supervised on {most[0]:,}", [Point(0, most[1])], flat=True))
    if (long := summary.cells.get(summary.plan.long_supervised())) is not None:
        alone.append(Series("the labels alone, as many seen", [Point(0, long["miou"])], flat=True))
    student = TITLES["student"]
    generated = [
        Point(n, cell["miou"], cell["miou_low"], cell["miou_high"]) for n, cell in summary.curve()
    ]
    drops = [
        Point(100 * d, cell["miou"], cell["miou_low"], cell["miou_high"])
        for d, cell in summary.drops()
    ]
    up = "mIoU, %"
    return section(
        "Curves",
        chart([*series, *flat], "labeled pictures", up, logarithmic=True),
        chart(
            [Series(f"{student}, {LONG} times as many seen", generated), *alone, *flat],
            "generated pictures",
            up,
            logarithmic=True,
        ),
        chart([Series(student, drops)], "most uncertain samples left out, %", up),
        tag(
            "p",
            "Bars: one deviation over draws in the first, bootstrap intervals in the others, "
            "which are of draw 0.",
            class_="note",
        ),
        _distinct(summary),
    )


def _distinct(summary: Summary) -> Html | None:
    """Of the second curve: how many generated pictures each student really saw."""
    rows: list[list[Child]] = [
        [f"{n:,}", f"{cell['generated_seen']:,}", f"{cell['generated_distinct']:,}",
         f"{100 * cell['miou']:.1f}"]
        for n, cell in summary.curve()
    ]  # fmt: skip
    head = ["generated pictures", "seen, with repeats", "different ones seen", "mIoU, %"]
    return grid(head, rows) if rows else None


def _protocol(summary: Summary) -> Html | None:
    cell = summary.variant("protocol")
    if cell is None:
        return None
    rows: list[list[Child]] = []
    for key, title in _WAYS.items():
        more = f" ± {100 * cell['original_folds_deviation']:.1f}" if key == "original_folds" else ""
        difference = "" if key == "ours" else f"{100 * (cell[key] - cell['ours']):+.1f}"
        rows.append([title, f"{100 * cell[key]:.1f}{more}", difference])
    return section(
        "One network, counted in several ways",
        grid([f"student, {cell['epochs']} epochs", "mIoU, %", "difference"], rows, _WAYS["ours"]),
        tag("p", "Everything else on this page is counted as in the first row.", class_="note"),
    )


def _minutes(summary: Summary) -> Html | None:
    rows: list[list[Child]] = []
    for method in (*COMPARED, "prelabeler"):
        cells = summary.row(method, summary.plan.main)
        if cells:
            told = [c["minutes"] for c in cells]
            mean = sum(t["minutes_a_hundred"] for t in told) / len(told)
            right = sum(t["right"] for t in told) / max(1, sum(t["parts"] for t in told))
            rows.append([TITLES[method], f"{100 * right:.0f}", f"{mean:.0f}"])
    if not rows:
        return None
    return section(
        "Minutes of people",
        grid(["", "parts that are right, %", "minutes saved on 100 pictures"], rows, "student"),
        tag(
            "p",
            "Reckoned, not clocked: a part costs 20 s to draw (DatasetGAN's annotator took 20 "
            "minutes for a face of 58), one whose IoU is .8 or more is taken as it is, and one too "
            "many costs as much as one that is missing.",
            class_="note",
        ),
    )


def _by_class(summary: Summary, classes: Sequence[str]) -> Html | None:
    main = summary.plan.main
    shown = [m for m in (*COMPARED, "prelabeler", "inversion") if summary.row(m, main)]
    if not shown:
        return None
    rows: list[list[Child]] = []
    for k, name in enumerate(classes):
        values: list[Child] = []
        for key in ("class_iou", "class_boundary_f"):
            for method in shown if key == "class_iou" else ("student", "supervised"):
                found = [c[key][k] for c in summary.row(method, main)]
                known = [v for v in found if v is not None]
                values.append(f"{100 * sum(known) / len(known):.0f}" if known else "")
        rows.append([name, *values])
    head = [*(TITLES[m].split(",")[0].split(":")[0] for m in shown), "student, F", "supervised, F"]
    return section(
        f"Each class at {labels(main)}: IoU, and boundary F, %", grid(["class", *head], rows)
    )


def _exhibit(exhibit: Exhibit) -> Html:
    shown = tag("img", src=exhibit.url, alt=exhibit.title, data_of=exhibit.of)
    return section(exhibit.title, tag("figure", shown))


def _made(about: dict[str, Any]) -> Html:
    lines: list[Child] = [
        tag("p", "Command: ", tag("code", about["command"])),
        tag(
            "p",
            f"Code of {_commits(about['commits'])}; {about['machine']}; all runs together "
            f"{about['minutes']:.0f} minutes of one core by the clock, which is longer beside "
            f"other work; the longest, {about['longest'][0]}, {about['longest'][1]:.1f}.",
        ),
        [tag("p", note, class_="note") for note in about["notes"]],
    ]
    return section("How it was made", lines)


def _commits(counts: dict[str, int]) -> str:
    """Commits with how many runs each made, where there are several."""
    if len(counts) == 1:
        return f"commit {next(iter(counts))}"
    return "commits " + ", ".join(f"{commit} ({number} runs)" for commit, number in counts.items())


def _point(count: int, found: Spread) -> Point:
    if found.count < 2:
        return Point(count, found.mean)
    return Point(count, found.mean, found.mean - found.deviation, found.mean + found.deviation)
