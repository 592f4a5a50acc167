"""The benchmark as a table and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

PAPER = "DatasetGAN (Zhang et al., CVPR 2021): 9 s a labeled picture on a GPU, 25 h for 10,000"
_TEN_THOUSAND = 10_000 / 3600  # hours of 10,000 pictures for each second that one takes


def table(measured: dict[str, Any]) -> str:
    """Markdown, and below it what else was measured."""
    rows = [
        ["generator", "picture alone, s", "labeled, s", "exactly, s", "original's way, s",
         "labeled / alone", "original / labeled", "10,000, h", "same pixels", "worst class IoU",
         "border", "read", "peak", "original's peak"],
    ]  # fmt: skip
    rows += [_row(case) for case in measured["cases"]]
    rows.append(["the paper's, on a GPU", "", "", "", "9", "", "", "25", *[""] * 5, ""])
    ideas = ["", _ideas(measured)] if measured.get("ideas") else []
    return "\n".join([_markdown(rows), *ideas, "", *_below(measured)])


def _ideas(measured: dict[str, Any]) -> str:
    """How far each idea took the labels."""
    told = measured["ideas"]
    picture = told["picture"]
    rows = [
        [f"labels of a picture of {told['resolution']} px, its maps given", "s", "multiply-adds, "
         "10^9", "of the picture's"],
        ["(the picture alone)", "", f"{picture:.1f}", "1"],
    ]  # fmt: skip
    for row in told["rows"]:
        seconds = "" if row["seconds"] is None else _seconds(row["seconds"])
        products = row["products"]
        rows.append([row["idea"], seconds, f"{products:.1f}", f"{products / picture:.2f}"])
    return _markdown(rows)


def _row(case: dict[str, Any]) -> list[str]:
    name = f"{case['generator']}, {case['resolution']} px"
    if case["batch"] > 1:
        name += f", batch of {case['batch']}"
    return [
        name,
        *(_seconds(case[key]) for key in ("image_s", "labeled_s", "labeled_exact_s")),
        _seconds(case["reference_s"]) + ("" if case["reference_whole"] else "*"),
        f"{case['labeled_over_image']:.2f}",
        f"{case['reference_over_labeled']:.1f}",
        f"{case['labeled_s'] * _TEN_THOUSAND:.2f}",
        f"{case['agreement']:.2%}",
        f"{case['worst_class_iou']:.3f}",
        f"{case['border_share']:.1%}",
        f"{case['fine_share']:.0%}",
        _gigabytes(case["peak_bytes"]),
        _gigabytes(case["reference_peak_bytes"]) + ("" if case["reference_whole"] else "*"),
    ]


def _below(measured: dict[str, Any]) -> list[str]:
    lines = [_ways(case) for case in measured["cases"]]
    if not all(case["reference_whole"] for case in measured["cases"]):
        lines.append("\\* Extrapolated: from some of the rows, as memory does not hold all.")
    if all_pixels := measured["fit"].get("on_all_pixels"):
        drawn, whole = (_spread(all_pixels[name]) for name in ("drawn", "all"))
        lines.append(
            f"Interpreters of {all_pixels['version']} on drawn pixels of 16 samples: mIoU {drawn}; "
            f"on all {all_pixels['pixels']:,} of them {whole} ({len(all_pixels['all'])} fits each, "
            "48 other samples, labeled by the version's own way)."
        )
    fit = measured["fit"]
    if "seconds" in fit:
        lines.append(
            f"Fit on {fit['pictures']} pictures of {fit['resolution']} px: {fit['seconds']:.0f} s, "
            f"{_gigabytes(fit['peak_bytes'])}; the original's way, extrapolated from "
            f"{fit['steps']} steps, {fit['reference_s'] / 3600:.1f} h and "
            f"{_gigabytes(fit['reference_bytes'])} (its two copies of all features)."
        )
    if invert := measured["invert"]:
        lines.append(
            f"A picture from outside ({invert['version']}): inverted in {invert['invert_s']:.2f} s "
            f"({invert['refinement_steps']} steps) and labeled by the interpreter in "
            f"{invert['label_s']:.3f} s; by the {invert['default_way']}, its default, in "
            f"{invert['default_way_s']:.2f} s; {_gigabytes(invert['peak_bytes'])}."
        )
    at = measured["machine"]
    lines.append(
        f"{at['cpu']}, {at['cores']} cores, {at['threads']} threads, {at['capability']}, torch "
        f"{at['torch']}; load when it began {at['load']}; "
        f"{at.get('seconds', 0) / 60:.1f} minutes in all. {PAPER}."
    )
    return lines


def _ways(case: dict[str, Any]) -> str:
    """What the row of a case does not say."""
    ranks = case["uncertainty_rank_correlation"]
    peaks = (
        f"{name} {_gigabytes(case[key])}"
        for name, key in (
            ("alone", "image_peak_bytes"),
            ("labeled", "peak_bytes"),
            ("exactly", "exact_peak_bytes"),
        )
    )
    return (
        f"{case['generator']}, {case['resolution']} px: {1000 * case['image_s']:.0f} ms alone "
        f"({case['image_setting']}, the fastest of {len(case['image_settings_s'])}), "
        f"{1000 * case['labeled_s']:.0f} ms labeled ({case['numbers']}); {case['pictures']} "
        "pictures compared with float32, rank "
        f"correlation of their uncertainty {'-' if ranks is None else f'{ranks:.3f}'}; peaks: "
        f"{', '.join(peaks)}; {case['members']} members, psi {case['truncation']:g}."
    )


def _spread(values: Sequence[float]) -> str:
    """Mean and sample deviation, %."""
    mean = 100 * sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {100 * stdev(values):.1f}"


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rest))


def plot(measured: dict[str, Any], path: Path) -> None:
    """Seconds a picture of each way, on a logarithmic scale; the suffix says the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    cases = measured["cases"]
    ways = {
        "image_s": "picture alone", "labeled_s": "with labels and uncertainty",
        "labeled_exact_s": "every pixel read exactly", "reference_s": "the original's way",
    }  # fmt: skip
    width = 0.8 / len(ways)
    for number, (key, title) in enumerate(ways.items()):
        at = [n + (number - (len(ways) - 1) / 2) * width for n in range(len(cases))]
        axes.bar(at, [case[key] for case in cases], width, label=title)
    axes.axhline(9.0, color="grey", linestyle="--", label="the paper's, on a GPU")
    axes.set_yscale("log")
    axes.set_ylabel("seconds a picture")
    names = [f"{case['generator']}\n{case['resolution']} px" for case in cases]
    axes.set_xticks(range(len(cases)), names)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)
