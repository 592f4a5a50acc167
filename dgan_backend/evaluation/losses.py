"""A report's sections on what is missing: where it is lost, and attempts to get it back."""

from __future__ import annotations

from dgan_backend.evaluation.layout import grid, labels, points, section
from dgan_backend.evaluation.plan import ATTEMPTS, CAUSES, TITLES
from dgan_backend.evaluation.summary import Summary
from dgan_backend.markup import Child, Html, tag


def causes(summary: Summary) -> Html | None:
    """From the student to masks that are all right, one thing changed a step: what each costs."""
    plan, student = summary.plan, summary.main()
    if student is None or all(summary.variant(method) is None for method in CAUSES):
        return None
    rows: list[list[Child]] = [[TITLES["student"], f"{100 * student['miou']:.1f}", "", ""]]
    before = student["miou"]
    for cause, title, miou in _steps(summary):
        rows.append([title, f"{100 * miou:.1f}", cause, points(miou - before)])
        before = miou
    if (alone := summary.variant("generated_only")) is not None:
        cost = points(alone["miou"] - student["miou"])
        what = TITLES["generated_only"]
        rows.append([what, f"{100 * alone['miou']:.1f}", "without the labels of people", cost])
    note = (
        "Each row changes one thing of the one above, but the one of labels alone, which changes "
        "two: it is without the few labels' share of each batch, and is trained as long as its "
        "count of labels asks for. The last row is the first without people's labels. The judge's "
        "labels are right where it is, which is not everywhere: what wrong labels cost may be more."
    )
    return section(
        "Where it is lost",
        grid([f"draw 0, {labels(plan.main)}", "mIoU, %", "what the step costs", "points"], rows),
        tag("p", note, class_="note"),
    )


def _steps(summary: Summary) -> list[tuple[str, str, float]]:
    """From the student to masks that are all right: what is mended, how, and the mIoU with it."""
    found: list[tuple[str, str, float]] = []
    for method, cause in (
        ("judged_labels", "wrong labels of samples"),
        ("judged_pictures", "what samples lack of real pictures"),
        ("true_pictures", "wrong labels of the judge"),
    ):
        if (cell := summary.variant(method)) is not None:
            found.append((cause, TITLES[method], cell["miou"]))
    if (most := summary.most()) is not None:
        title = f"{TITLES['many']} on {most[0]:,}, no others"
        found.append(("few labels seen again and again; length", title, most[1]))
    found.append(("what the network cannot learn from so many", "all right", 1.0))
    return found


def attempts(summary: Summary) -> Html | None:
    """Of draw 0, which they are made on."""
    counts = [n for n in summary.counts if any(summary.first(m, n) is not None for m in ATTEMPTS)]
    if not counts:
        return None
    means, gains = list[list[Child]](), list[list[Child]]()
    for method in ("supervised", "student", *ATTEMPTS):
        found = [summary.first(method, n) for n in counts]
        means.append([TITLES[method], *("" if m is None else f"{100 * m:.1f}" for m in found)])
        if method != "supervised":
            gains.append([TITLES[method], *(_over(summary, method, n) for n in counts)])
    head = [labels(n) for n in counts]
    return section(
        "Attempts to close the gap",
        grid(["mIoU of draw 0, %", *head], means),
        grid(["over supervised", *head], gains),
        tag(
            "p",
            "The version's U-Nets begin with what they learned of the generator's maps, so what "
            "they say of a picture holds the generator's knowledge as well. Real pictures are "
            "those that the semi-supervised row has, without their labels.",
            class_="note",
        ),
    )


def _over(summary: Summary, method: str, count: int) -> str:
    """A method's points over the labels alone, on draw 0."""
    found, alone = summary.first(method, count), summary.first("supervised", count)
    return "" if found is None or alone is None else points(found - alone)
