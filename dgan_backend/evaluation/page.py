"""A report as one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgan_backend.evaluation.budget import pictures, training
from dgan_backend.evaluation.charts import Point, Series, chart
from dgan_backend.evaluation.exhibits import Exhibit
from dgan_backend.evaluation.plan import CAUSES, COMPARED, DROP, LONG, TITLES, Run
from dgan_backend.evaluation.summary import AIM_AUROC, AIM_SHARE, AIMS, Spread, Summary
from dgan_backend.markup import Child, Html, tag

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.about, figcaption, .note { color: #5a6877; font-size: .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #dfe5eb; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #9aa7b4; }
tr.main td { font-weight: 600; } .scroll { overflow-x: auto; }
.yes { color: #1e8449; } .no { color: #c0392b; } .open { color: #7d8b99; }
figure { margin: 1rem 0; } figure img, svg.chart { max-width: 100%; height: auto; }
svg.chart { width: 40rem; } svg .rule { stroke: #dfe5eb; }
svg text { font-size: 12px; fill: #5a6877; }
svg .end { text-anchor: end; } svg .middle, svg .axis { text-anchor: middle; }
figcaption span { margin-right: 1.2rem; white-space: nowrap; }
figcaption i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; }
code { background: #f1f4f7; padding: .1rem .3rem; overflow-wrap: anywhere; }
"""
_BASELINES = ("supervised", "semi_supervised")
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
        _aims(summary),
        _table(summary),
        _curves(summary),
        _calibration(summary),
        _ensemble(summary),
        _protocol(summary),
        _minutes(summary),
        _causes(summary),
        _by_class(summary, classes),
        [_exhibit(exhibit) for exhibit in shown],
        _made(about),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width"),
        tag("title", f"Masks of {about['domain']}"),
        tag("style", Html(_STYLE)),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en")


def _about(about: dict[str, Any]) -> str:
    return (
        f"Measured on {about['test_pictures']} labeled pictures that nothing learned from; labels "
        f"are drawn {about['draws']} time{'s' if about['draws'] > 1 else ''} from "
        f"{about['pool_pictures']} others{_once(about['once'])}. Every network of a row is the "
        "same light DeepLab-V3 that begins with random weights (none can be fetched here), with "
        "the same augmentation"
        + (", and also looks at the mirrored picture. " if about["mirrored"] else
           ". Pictures are not mirrored, as left and right are classes of their own: a network is "
           "a single opinion, which has no uncertainty. ")
        + f"It sees {about['pictures_seen']:,} pictures in training, but for those said below."
        + (" This is the quick report: too short a training to conclude anything." if about["quick"]
           else "")
    )  # fmt: skip


def _once(counts: Sequence[int]) -> str:
    return f", {' and '.join(map(str, counts))} labels once" if counts else ""


def _aims(summary: Summary) -> Html:
    """What was aimed at, and what came out."""
    rows: list[list[Child]] = []
    for count, aim in AIMS.items():
        for baseline in _BASELINES:
            gain = summary.gain(baseline, count)
            told = "" if gain is None else f"{100 * gain.mean:+.1f}{_deviation(gain)}"
            what = f"{_labels(count)}: student over {TITLES[baseline].split(',')[0]}"
            verdict = _verdict(None) if gain is None else _spread_verdict(gain, aim / 100)
            rows.append([what, f"{aim:+.0f} points", told, verdict])
    most, student = summary.most(), summary.spread("student", summary.plan.main)
    share = student.mean / most[1] if most and student else None
    what = f"student at {summary.plan.main} over fully supervised on {most[0] if most else 'many'}"
    rows.append([what, f"{AIM_SHARE:.2f} of it", "" if share is None else f"{share:.2f}",
                 _verdict(None if share is None else share >= AIM_SHARE)])  # fmt: skip
    samples = (summary.cell("calibration") or {}).get("samples", {})
    auroc = samples.get("auroc")
    rows.append(["uncertainty tells wrong pixels of samples (AUROC)", f"{AIM_AUROC:.2f}",
                 "" if auroc is None else f"{auroc:.3f}",
                 _verdict(None if auroc is None else auroc >= AIM_AUROC)])  # fmt: skip
    gain = None if not samples else samples["miou_kept"] - samples["miou_all"]
    rows.append(["mIoU of samples without the most uncertain 10 %", "higher",
                 "" if gain is None else f"{100 * gain:+.1f} points",
                 _verdict(None if gain is None else gain > 0)])  # fmt: skip
    return _section("What was aimed at", _grid(["", "aim", "measured", ""], rows))


def _spread_verdict(gain: Spread, aim: float) -> Html:
    """Met or missed by the mean, and whether one deviation over draws says otherwise."""
    found = _verdict(gain.mean >= aim)
    if gain.count < 2:
        return Html(found + " (one draw)")
    close = abs(gain.mean - aim) < gain.deviation
    return Html(found + " (within the spread)") if close else found


def _verdict(met: bool | None) -> Html:
    word, kind = {True: ("met", "yes"), False: ("missed", "no"), None: ("open", "open")}[met]
    return tag("span", word, class_=kind)


def _table(summary: Summary) -> Html:
    counts = summary.counts
    rows: list[list[Child]] = []
    for method in (*COMPARED, "prelabeler", "inversion"):
        each = [summary.spread(method, count) for count in counts]
        if any(each):
            rows.append([TITLES[method], *(_spread(one) for one in each)])
    many: list[list[Child]] = [
        [f"{TITLES['many']} on {_labels(n)}", _spread(found), _number(cell, "miou_foreground"),
         _number(cell, "boundary_f")]
        for n in summary.plan.scale.many
        if (found := summary.spread("many", n)) and (cell := summary.row("many", n))
    ]  # fmt: skip
    single: list[list[Child]] = []
    main = summary.plan.main
    for method in (*COMPARED, "prelabeler", "inversion"):
        if cells := summary.row(method, main):
            interval = f"{100 * cells[0]['miou_low']:.1f} to {100 * cells[0]['miou_high']:.1f}"
            measures = [_number(cells, k) for k in ("miou_foreground", "boundary_f", "wrong")]
            single.append([TITLES[method], *measures, interval])
    return _section(
        "mIoU, %",
        _grid(["mean and deviation over draws", *(_labels(n) for n in counts)], rows, "student"),
        tag("p", _trainings(summary), class_="note"),
        _grid(["", "mIoU", "without background", "boundary F"], many) if many else None,
        tag(
            "p",
            f"More measures at {_labels(main)}, %. The interval is of draw 0: 95 % of 1,000 "
            "draws of the test pictures (bootstrap).",
            class_="note",
        ),
        _grid(
            ["", "without background", "boundary F", "pixels to correct", "mIoU, interval"],
            single,
            "student",
        ),
    )


def _trainings(summary: Summary) -> str:
    """How the networks of the table were trained, where that differs, and what was unlabeled."""
    few = ", ".join(
        f"{training(Run('supervised', n)).rate:g} at {_labels(n)}" for n in summary.counts
    )
    told = (
        f"Trained at Muon's largest rate {training(Run('student', 1)).rate:g}; from labels alone, "
        f"which fewer labels want lower: {few}."
    )
    if judges := summary.plan.judges():
        seen = ", ".join(
            f"{pictures(run, summary.plan.scale):,} on {_labels(run.labels)}" for run in judges
        )
        told += f" Fully supervised networks see {seen}."
    if cells := summary.row("semi_supervised", summary.plan.main):
        share = 100 * sum(c["trusted_share"] for c in cells) / len(cells)
        told += (
            f" Semi-supervised learning has {cells[0]['unlabeled']:,} pictures without labels, the "
            "student's generator was trained on pictures of its own, as a rule many more; at "
            f"{_labels(summary.plan.main)} it taught itself with {share:.0f} % of those it saw."
        )
    return told


def _curves(summary: Summary) -> Html:
    series = [
        Series(TITLES[m], [_point(n, s) for n in summary.counts if (s := summary.spread(m, n))])
        for m in ("student", "supervised", "transfer", "semi_supervised", "prelabeler")
    ]
    most = summary.most()
    flat = (
        [Series(f"fully supervised on {most[0]}", [Point(0, most[1])], flat=True)] if most else []
    )
    student = TITLES["student"]
    usual, long = (
        [Point(n, cell["miou"], cell["miou_low"], cell["miou_high"]) for n, cell in cells]
        for cells in (summary.curve(), summary.long_curve())
    )
    times = f", {LONG} times as many seen"
    drops = [
        Point(100 * d, cell["miou"], cell["miou_low"], cell["miou_high"])
        for d, cell in summary.drops()
    ]
    up = "mIoU, %"
    return _section(
        "Curves",
        chart([*series, *flat], "labeled pictures", up, logarithmic=True),
        chart(
            [Series(student, usual), Series(student + times, long), *flat],
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
        [f"{n:,}" + (f", {LONG} times the training" if long else ""),
         f"{cell['generated_seen']:,}", f"{cell['generated_distinct']:,}",
         f"{100 * cell['miou']:.1f}"]
        for cells, long in ((summary.curve(), False), (summary.long_curve(), True))
        for n, cell in cells
    ]  # fmt: skip
    head = ["generated pictures", "seen, with repeats", "different ones seen", "mIoU, %"]
    return _grid(head, rows) if rows else None


def _calibration(summary: Summary) -> Html | None:
    cell = summary.cell("calibration")
    if cell is None:
        return None
    rows: list[list[Child]] = []
    series = []
    for key, title in (("samples", "samples, interpreter"), ("outside", "outside, U-Nets")):
        part = cell[key]
        gain = 100 * (part["miou_kept"] - part["miou_all"])
        rows.append([
            title, part["pictures"],
            *(
                _interval(part[name], part[f"{name}_low"], part[f"{name}_high"])
                for name in ("auroc", "auroc_foreground")
            ),
            f"{100 * part['miou_all']:.1f}", f"{100 * part['miou_kept']:.1f}",
            f"{gain:+.1f} ({_points(part['gain_low'])} to {_points(part['gain_high'])})",
        ])  # fmt: skip
        series.append(Series(title, [Point(100 * c, r) for c, r in part["risk_coverage"]]))
    return _section(
        "Does uncertainty know?",
        _grid(
            [
                "",
                "pictures",
                "AUROC of wrong pixels",
                "of foreground alone",
                "mIoU",
                "without the most uncertain 10 %",
                "difference",
            ],
            rows,
        ),
        chart(series, "surest foreground pixels, %", "wrong among them, %"),
        tag(
            "p",
            "Samples have no true masks. They are judged by a network that was trained on "
            "hundreds or thousands of labeled pictures; on the test pictures its mIoU is "
            f"{100 * cell['judge_miou']:.1f} %. Where it errs on samples, which are softer, a "
            "right label counts as wrong. Foreground: pixels that are no background in at least "
            "one of both maps.",
            class_="note",
        ),
    )


def _ensemble(summary: Summary) -> Html | None:
    cell = summary.cell("ensemble")
    if cell is None:
        return None
    rows: list[list[Child]] = [
        [row["members"], f"{100 * row['vote']:.1f}", f"{100 * row['mean']:.1f}",
         "" if row["auroc"] is None else f"{row['auroc']:.3f}"]
        for row in cell["rows"]
    ]  # fmt: skip
    series = [
        Series(title, [Point(row["members"], row[key]) for row in cell["rows"]])
        for key, title in (("vote", "majority vote"), ("mean", "mean probability"))
    ]
    return _section(
        "Members of the interpreter",
        _grid(["members", "majority vote", "mean probability", "AUROC"], rows),
        chart(series, "members", "mIoU of samples, %"),
    )


def _protocol(summary: Summary) -> Html | None:
    cell = summary.variant("protocol")
    if cell is None:
        return None
    rows: list[list[Child]] = []
    for key, title in _WAYS.items():
        more = f" ± {100 * cell['original_folds_deviation']:.1f}" if key == "original_folds" else ""
        difference = "" if key == "ours" else f"{100 * (cell[key] - cell['ours']):+.1f}"
        rows.append([title, f"{100 * cell[key]:.1f}{more}", difference])
    return _section(
        "One network, counted in several ways",
        _grid([f"student, {cell['epochs']} epochs", "mIoU, %", "difference"], rows, _WAYS["ours"]),
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
    return _section(
        "Minutes of people",
        _grid(["", "parts that are right, %", "minutes saved on 100 pictures"], rows, "student"),
        tag(
            "p",
            "Reckoned, not clocked: a part costs 20 s to draw (DatasetGAN's annotator took 20 "
            "minutes for a face of 58), one whose IoU is .8 or more is taken as it is, and one too "
            "many costs as much as one that is missing.",
            class_="note",
        ),
    )


def _causes(summary: Summary) -> Html | None:
    rows: list[list[Child]] = [
        [TITLES[method], f"{100 * cell['miou']:.1f}"]
        for method in CAUSES
        if (cell := summary.variant(method)) is not None
    ]
    if not rows:
        return None
    plan = summary.plan
    main = summary.cells.get(plan.student(plan.main, 0, plan.scale.synthetic, DROP))
    if main is not None:
        rows.insert(0, [TITLES["student"], f"{100 * main['miou']:.1f}"])
    most = summary.most()
    if most is not None:
        rows.append([f"fully supervised on {most[0]}: the same network", f"{100 * most[1]:.1f}"])
    return _section(
        "Where it is lost",
        _grid([f"draw 0, {_labels(plan.main)}", "mIoU, %"], rows),
        tag(
            "p",
            "Right labels of the same samples tell what label noise costs; the version's "
            "labels of real pictures tell what the generator does not cover; many true labels tell "
            "what the network itself can hold.",
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
    return _section(
        f"Each class at {_labels(main)}: IoU, and boundary F, %", _grid(["class", *head], rows)
    )


def _exhibit(exhibit: Exhibit) -> Html:
    return _section(exhibit.title, tag("figure", tag("img", src=exhibit.url, alt=exhibit.title)))


def _made(about: dict[str, Any]) -> Html:
    lines: list[Child] = [
        tag("p", "Command: ", tag("code", about["command"])),
        tag(
            "p",
            f"Code of {_commits(about['commits'])}; {about['machine']}; all runs together "
            f"{about['minutes']:.0f} minutes of one core, the longest, {about['longest'][0]}, "
            f"{about['longest'][1]:.1f}.",
        ),
        [tag("p", note, class_="note") for note in about["notes"]],
    ]
    return _section("How it was made", lines)


def _commits(counts: dict[str, int]) -> str:
    """Commits with how many runs each made, where there are several."""
    if len(counts) == 1:
        return f"commit {next(iter(counts))}"
    return "commits " + ", ".join(f"{commit} ({number} runs)" for commit, number in counts.items())


def _section(title: str, *parts: Child) -> Html:
    return tag("section", tag("h2", title), *parts)


def _grid(head: Sequence[str], rows: Sequence[Sequence[Child]], main: str = "") -> Html:
    """main: the title of the row that stands out, or its key."""
    title = TITLES.get(main, main)
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", [tag("th", name) for name in head])),
            tag(
                "tbody",
                [
                    tag(
                        "tr",
                        [tag("td", cell) for cell in row],
                        class_="main" if title and row[0] == title else None,
                    )
                    for row in rows
                ],
            ),
        ),
        class_="scroll",
    )


def _labels(count: int) -> str:
    return f"{count:,} label{'' if count == 1 else 's'}"


def _spread(found: Spread | None) -> str:
    return "" if found is None else f"{100 * found.mean:.1f}{_deviation(found)}"


def _deviation(found: Spread) -> str:
    return f" ± {100 * found.deviation:.1f}" if found.count > 1 else ""


def _point(count: int, found: Spread) -> Point:
    if found.count < 2:
        return Point(count, found.mean)
    return Point(count, found.mean, found.mean - found.deviation, found.mean + found.deviation)


def _number(cells: Sequence[dict[str, Any]], key: str) -> str:
    values = [c[key] for c in cells if c.get(key) is not None]
    return f"{100 * sum(values) / len(values):.1f}" if values else ""


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _points(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f}"
