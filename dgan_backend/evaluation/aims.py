"""A report's first section: what was aimed at, and what came out."""

from __future__ import annotations

from dgan_backend.evaluation.layout import deviation, grid, labels, section, verdict, verdict_of
from dgan_backend.evaluation.plan import LONG, TITLES
from dgan_backend.evaluation.summary import AIM_AUROC, AIM_SHARE, AIMS, Summary
from dgan_backend.markup import Child, Html, tag

_AIMED = ("supervised", "semi_supervised")  # to be behind by `AIMS`; transfer by anything
_SECOND = "samples with a second opinion"


def aims(summary: Summary) -> Html:
    """What was aimed at, and what came out."""
    rows: list[list[Child]] = []
    for count, aim in AIMS.items():
        for baseline in (*_AIMED, "transfer"):
            gain = summary.gain(baseline, count)
            if gain is None and baseline not in _AIMED:
                continue
            least = aim if baseline in _AIMED else 0.0
            told = "" if gain is None else f"{100 * gain.mean:+.1f}{deviation(gain)}"
            what = f"{labels(count)}: student over {TITLES[baseline].split(',')[0]}"
            said = verdict(None) if gain is None else verdict_of(gain, least / 100)
            rows.append([what, f"{least:+.0f} points" if least else "more", told, said])
    rows += _aims_of_share(summary)
    rows += _aims_of_uncertainty(summary)
    note = (
        "Within the spread: the mean over draws is nearer to the aim than one deviation, so that "
        "other draws may say otherwise."
    )
    return section(
        "What was aimed at",
        grid(["", "aim", "measured", ""], rows),
        tag("p", note, class_="note"),
    )


def _aims_of_share(summary: Summary) -> list[list[Child]]:
    """Of what the network reaches that was trained on the most labels, with the table's training
    and with one as long as that network's may be."""
    most, main = summary.most(), summary.plan.main
    student = summary.spread("student", main)
    long = summary.cells.get(summary.plan.long_student(summary.plan.scale.synthetic))
    rows: list[list[Child]] = []
    for title, miou in (
        (f"student at {main}", student.mean if student else None),
        (f"student at {main}, {LONG} times as many seen", long["miou"] if long else None),
    ):
        if miou is None and rows:
            continue
        share = miou / most[1] if most and miou is not None else None
        what = f"{title}, over fully supervised on {f'{most[0]:,}' if most else 'many'}"
        rows.append([what, f"{AIM_SHARE:.2f} of it", "" if share is None else f"{share:.2f}",
                     verdict(None if share is None else share >= AIM_SHARE)])  # fmt: skip
    return rows


def _aims_of_uncertainty(summary: Summary) -> list[list[Child]]:
    cell = summary.cell("calibration") or {}
    rows: list[list[Child]] = []
    for key, title in (("samples", "samples"), ("second_opinion", _SECOND)):
        part = cell.get(key)
        if part is None and key != "samples":
            continue
        auroc = None if part is None else part["auroc"]
        gain = None if part is None else part["miou_kept"] - part["miou_all"]
        rows.append([f"uncertainty tells wrong pixels of {title} (AUROC)", f"{AIM_AUROC:.2f}",
                     "" if auroc is None else f"{auroc:.3f}",
                     verdict(None if auroc is None else auroc >= AIM_AUROC)])  # fmt: skip
        rows.append([f"mIoU of {title} without the most uncertain 10 %", "higher",
                     "" if gain is None else f"{100 * gain:+.2f} points",
                     verdict(None if gain is None else gain > 0)])  # fmt: skip
    return rows
