"""A report's sections on uncertainty: whether it knows, and what members are good for."""

from __future__ import annotations

from typing import Any

from dgan_backend.evaluation.charts import Point, Series, chart
from dgan_backend.evaluation.layout import grid, interval, points, section
from dgan_backend.evaluation.summary import Summary
from dgan_backend.markup import Child, Html, tag

_JUDGED = (
    ("samples", "samples, interpreter"),
    ("second_opinion", "samples, interpreter and U-Nets"),
    ("outside", "outside, U-Nets"),
)


def calibration(summary: Summary) -> Html | None:
    cell = summary.cell("calibration")
    if cell is None:
        return None
    rows: list[list[Child]] = []
    series = []
    for key, title in _JUDGED:
        if (part := cell.get(key)) is None:
            continue
        gain = 100 * (part["miou_kept"] - part["miou_all"])
        rows.append([
            title, part["pictures"],
            *(
                interval(part[name], part[f"{name}_low"], part[f"{name}_high"])
                for name in ("auroc", "auroc_foreground")
            ),
            f"{100 * part['miou_all']:.1f}", f"{100 * part['miou_kept']:.1f}",
            f"{gain:+.2f} ({points(part['gain_low'])} to {points(part['gain_high'])})",
        ])  # fmt: skip
        series.append(Series(title, [Point(100 * c, r) for c, r in part["risk_coverage"]]))
    return section(
        "Does uncertainty know?",
        grid(
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
            f"{_of_judge(summary, cell)} Where it errs on samples, a right label counts as wrong. "
            "The second opinion (synthesize --second-opinion) is the U-Nets'; uncertainty is "
            "then the entropy of both. Foreground: pixels that are no background in at least "
            "one of both maps.",
            class_="note",
        ),
    )


def _of_judge(summary: Summary, cell: dict[str, Any]) -> str:
    told = (
        "Samples have no true masks. They are judged by a network that was trained on hundreds or "
        "thousands of labeled pictures"
    )
    judge = summary.plan.judge()
    if judge is None or (own := summary.cells.get(judge)) is None:
        return f"{told}; on the test pictures its mIoU is {100 * cell['judge_miou']:.1f} %."
    return (
        f"{told} ({judge.labels:,}), half of them as soft as samples are. On the test pictures its "
        f"mIoU is {100 * cell['judge_miou']:.1f} %, on the same made so soft "
        f"{100 * own['miou_soft']:.1f} %."
    )


def members(summary: Summary) -> Html | None:
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
    return section(
        "Members of the interpreter",
        grid(["members", "majority vote", "mean probability", "AUROC"], rows),
        chart(series, "members", "mIoU of samples, %"),
    )
