"""Tables and a plot of a ruler's results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgan_backend.errors import DganError
from dgan_backend.evaluation.few_shot import LABELS
from dgan_backend.evaluation.ruler import METHODS, Cells

TITLES = {
    "pixels": "pixels only",
    "unet": "U-Net from scratch",
    "unets": "two U-Nets from scratch, mirrored",
    "interpreter": "interpreter (generator's maps)",
    "interpreter+picture": "interpreter + picture",
    "student": "student (default)",
}
BASELINES = ("pixels", "unet", "unets")


def tables(value: dict[str, Any], cells: Cells) -> str:
    """Markdown: mIoU by labels, the other measures at 16 labels, IoU of each class there.

    Raises DganError when there is no cell.
    """
    if not cells:
        raise DganError(
            "none of these methods, counts and draws is measured yet; give --jobs 1 or more."
        )
    parts = [_by_count(cells), _choices(value, cells), _ceilings(value)]
    if any(LABELS in by_count for by_count in cells.values()):
        parts += [_measures(cells), _classes(value, cells)]
    return "\n\n".join(part for part in parts if part)


def _shown(cells: Cells) -> list[str]:
    return [method for method in METHODS if method in cells]


def _by_count(cells: Cells) -> str:
    counts = sorted({count for by_count in cells.values() for count in by_count})
    rows = [["mIoU, %", *(f"{n} label{'s' if n > 1 else ''}" for n in counts)]]
    for method in _shown(cells):
        rows.append([TITLES[method], *(_spread(cells[method].get(n, []), "miou") for n in counts)])
    if "student" in cells and any(b in cells for b in BASELINES):
        gains = [_gain(cells, n) for n in counts]
        rows.append(["student over the better baseline, draw by draw", *gains])
    return _markdown(rows)


def _gain(cells: Cells, count: int) -> str:
    """Of the student over the baseline with the better mean: mean and deviation over draws.

    Nothing while a baseline is missing there: it may be the better one.
    """
    baselines = [_by_draw(cells[b].get(count, []), "miou") for b in BASELINES if b in cells]
    student = _by_draw(cells["student"].get(count, []), "miou")
    if not all(baselines):
        return ""
    better = max(baselines, key=lambda found: float(np.mean(list(found.values()))))
    pairs = [100 * (student[draw] - better[draw]) for draw in sorted(student) if draw in better]
    return f"{np.mean(pairs):+.1f}{_deviation(pairs)}" if pairs else ""


def _by_draw(cells: Sequence[dict[str, Any]], key: str) -> dict[int, float]:
    """The mean over seeds of each draw."""
    draws = sorted({cell["draw"] for cell in cells})
    return {d: float(np.mean([c[key] for c in cells if c["draw"] == d])) for d in draws}


def _deviation(values: Sequence[float]) -> str:
    return f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""


def _choices(value: dict[str, Any], cells: Cells) -> str:
    """What the U-Nets' settings are, and what twice the pictures would have gained."""
    counts = sorted({*cells.get("unet", {}), *cells.get("unets", {})})
    told = []
    for count in counts:
        choice = value["choices"][str(count)]
        left = "was not tried" if choice["left"] is None else f"{100 * choice['left']:+.1f}"
        told.append(f"{count}: {choice['rate']}, {choice['pictures']} (twice as many: {left})")
    if not told:
        return ""
    return (
        "U-Nets from scratch, by labels: rate and pictures seen, chosen by mIoU on 20 held-back "
        "labels of draw 0: " + "; ".join(told) + "."
    )


def _ceilings(value: dict[str, Any]) -> str:
    told = ", ".join(f"{grid} px {100 * c:.1f}" for grid, c in value["ceiling"].items())
    return (
        f"Ceiling of the label grid (exact masks reduced to it and enlarged again), mIoU %: {told}."
    )


def _measures(cells: Cells) -> str:
    columns = [
        ("mIoU, %", "miou", 100, 1),
        ("of classes above .2 % of the area", "miou_large", 100, 1),
        ("boundary F, %", "boundary_f", 100, 1),
        ("pixels to correct, %", "wrong", 100, 2),
        ("AUROC of wrong pixels", "auroc", 1, 3),
        ("Spearman of score", "spearman", 1, 2),
    ]
    rows = [[f"at {LABELS} labels", *(c[0] for c in columns)]]
    for method in _shown(cells):
        here = cells[method].get(LABELS, [])
        rows.append([TITLES[method], *(_number(here, k, scale, d) for _, k, scale, d in columns)])
    return _markdown(rows)


def _classes(value: dict[str, Any], cells: Cells) -> str:
    shown = _shown(cells)
    rows = [[f"IoU % at {LABELS} labels", "area, %", *(TITLES[m] for m in shown)]]
    for k, name in enumerate(value["classes"]):
        row = [name, f"{100 * value['area'][k]:.2f}"]
        for method in shown:
            found = [c["class_iou"][k] for c in cells[method].get(LABELS, [])]
            known = [v for v in found if v is not None]
            row.append(f"{100 * np.mean(known):.0f}" if known else "")
        rows.append(row)
    return _markdown(rows)


def _mean(cells: Sequence[dict[str, Any]], key: str) -> float | None:
    found = [c[key] for c in cells if c.get(key) is not None]
    return float(np.mean(found)) if found else None


def _spread(cells: Sequence[dict[str, Any]], key: str) -> str:
    """Mean and sample deviation over draws, each the mean of its seeds, and how many fits."""
    if not cells:
        return ""
    found = [100 * value for value in _by_draw(cells, key).values()]
    return f"{np.mean(found):.1f}{_deviation(found)} ({len(cells)})"


def _number(cells: Sequence[dict[str, Any]], key: str, scale: float, digits: int) -> str:
    mean = _mean(cells, key)
    return "" if mean is None else f"{mean * scale:.{digits}f}"


def _markdown(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def causes(found: dict[str, dict[str, float]]) -> str:
    """Markdown: mIoU of the interpreter from 16 labels, by what it is fitted and tested on."""
    told = {
        "samples": "samples, exact latents, labeled by the stand-in",
        "reconstructions": "reconstructions of the pictures, labeled by the stand-in",
        "pictures": "the pictures themselves, true masks",
        "person": "(the stand-in itself on the pictures)",
    }
    rows = [["interpreter, 16 labels", "mIoU, %"]]
    for key, title in told.items():
        values = [{"miou": one[key], "draw": n} for n, one in enumerate(found.values())]
        rows.append([title, _spread(values, "miou")])
    return _markdown(rows)


def inversion(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: mIoU of the interpreter and seconds a picture, by steps of refinement."""
    table = [["refinement steps", "mIoU, %", "mean difference to the picture", "a picture, s"]]
    for row in rows:
        seconds = _number(row["draws"], "picture_seconds", 1, 2)
        steps = str(row["steps"] or "encoder alone")
        table.append([steps, _spread(row["draws"], "miou"), f"{row['error']:.4f}", seconds])
    return _markdown(table)


def version(value: dict[str, Any]) -> str:
    """Markdown: one version on labeled pictures."""
    rows = [[f"version {value['version']}", f"{len(value['pictures'])} pictures"]]
    for title, key, scale, unit in (
        ("mIoU", "miou", 100, " %"),
        ("mIoU, large classes", "miou_large", 100, " %"),
        ("pixels to correct", "wrong", 100, " %"),
        ("median of the pictures' mIoU", "median_picture_miou", 100, " %"),
        ("median of their scores", "median_score", 100, " %"),
        ("Spearman of score and mIoU", "spearman", 1, ""),
        ("AUROC of wrong foreground pixels", "auroc", 1, ""),
        ("a picture", "picture_seconds", 1, " s"),
    ):
        if value[key] is not None:
            digits = 1 if scale == 100 else 3
            rows.append([title, f"{scale * value[key]:.{digits}f}{unit}"])
    if strange := value["strange_scores"]:
        told = f"{np.median(strange):.2f}, largest {max(strange):.2f}, of {len(strange)}"
        rows.append(["median score of pictures of something else", told])
    classes = [["class", "IoU, %"]]
    for name, iou in value["classes"].items():
        classes.append([name, "" if iou is None else f"{100 * iou:.0f}"])
    return "\n\n".join((_markdown(rows), _markdown(classes)))


def check_plot(path: Path) -> None:
    """Raises DganError when a plot cannot be drawn there: before hours are spent."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DganError("--plot needs matplotlib: pip install 'dgan-backend[evaluate]'.") from None
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise DganError(f"--plot {path} must end in .png, .svg or .pdf.")


def plot(cells: Cells, path: Path) -> None:
    """mIoU over the number of labels, mean and deviation; the suffix says the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    for method in _shown(cells):
        counts = sorted(cells[method])
        values = [[100 * v for v in _by_draw(cells[method][n], "miou").values()] for n in counts]
        axes.errorbar(
            counts,
            [float(np.mean(v)) for v in values],
            yerr=[float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in values],
            marker="o",
            capsize=3,
            linewidth=2.5 if method == "student" else 1.5,
            label=TITLES[method],
        )
    axes.set_xscale("log")
    counts = sorted({count for by_count in cells.values() for count in by_count})
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.minorticks_off()
    axes.set_xlabel("labeled pictures")
    axes.set_ylabel("mIoU on pictures from outside, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
