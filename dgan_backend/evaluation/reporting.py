"""The command `evaluate DOMAIN`: everything that is missing is measured, then a page is written."""

from __future__ import annotations

import argparse
import fcntl
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dgan_backend.errors import DganError
from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.budget import minutes
from dgan_backend.evaluation.domain import TOONHEAD, Domain, find_domain, rendered
from dgan_backend.evaluation.exhibits import exhibits
from dgan_backend.evaluation.page import page
from dgan_backend.evaluation.plan import FULL, QUICK, Run
from dgan_backend.evaluation.running import Cells, Figures, carry_out, missing
from dgan_backend.evaluation.summary import Summary
from dgan_backend.generators.native import read_card
from dgan_backend.generators.references import generator_folder
from dgan_backend.supervision import compute

_CHANCE = (
    "No published weights are at hand: transfer learning begins with a network that was trained "
    "here on pictures of another style."
)
_NOTHING_APART = (
    "Left out: rows of many labels, since the test pictures lie among the others. Import with "
    "--keep-out, or name --test or --many."
)


def report(args: argparse.Namespace) -> int:
    """Measure, and write NAME.json and NAME.html into --out."""
    work = args.work or args.out / "work"
    with _alone(work):
        return _report(args, work)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Raises DganError when another command is at it: each would write over the other's figures."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DganError(f"another command is at work in {work}; wait, or stop it.") from None
        yield


def _report(args: argparse.Namespace, work: Path) -> int:
    scale = QUICK if args.quick else FULL
    if args.draws:
        scale = replace(scale, draws=args.draws)
    domain = _domain(args, work, scale.rendered)
    figures = Figures(args.out / f"{args.name or domain.name}.json")
    bench = Bench(domain, scale, work / (args.name or domain.name))  # its name is the report's
    bench.check()
    failures = _carry_out(bench, figures, args.jobs) if args.jobs else {}
    cells = figures.of(bench)
    left = len(missing(bench, cells))
    for run, why in failures.items():
        print(f"{run.name}: {why}", file=sys.stderr)
    if not cells:
        print("nothing is measured yet" + ("." if args.jobs else "; give --jobs 1 or more."))
        return 1 if failures else 2
    summary = Summary(bench.plan, cells)
    path = figures.path.with_suffix(".html")
    shown = [] if args.no_pictures else exhibits(bench, path)
    about = _about(bench, cells, args.quick, left, failures)
    if not shown and not args.no_pictures:
        about["notes"].append(f"No pictures: the networks that label them are not in {work} now.")
    figures.value = {
        "format": figures.value["format"],
        **about,
        **summary.to_json(),
        "cells": figures.value["cells"],
    }
    figures.write()
    path.write_text(page(summary, about, bench.data.partonomy.classes, shown), encoding="utf-8")
    print(f"{path}, {figures.path}" + (f": {left} runs are still missing" if left else ""))
    return 1 if failures else 0


def _domain(args: argparse.Namespace, work: Path, pictures: int) -> Domain:
    domain = find_domain(args.domain, args.generator, args.test, args.partonomy)
    given = {
        name: getattr(args, name)
        for name in ("many", "style", "person")
        if getattr(args, name) is not None
    }
    if args.person is not None and not args.person.is_file():
        raise DganError(f"there is no {args.person}; name the judge's weights with --person.")
    domain = replace(domain, turns=args.turns, **given)
    if domain.many is None and domain.name != TOONHEAD:
        domain = replace(domain, notes=(*domain.notes, _NOTHING_APART))
    return rendered(domain, work / "rendered", pictures, args.jobs, tqdm.write)


def _carry_out(bench: Bench, figures: Figures, jobs: int) -> dict[Run, str]:
    """Why some failed. The bar goes by the minutes that runs are expected to take."""
    total = sum(minutes(run) for run in missing(bench, figures.of(bench)))
    form = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=total, smoothing=0, bar_format=form) as bar:

        def tell(done: list[Run], running: list[Run]) -> None:
            bar.n = sum(minutes(run) for run in done)
            bar.set_postfix_str(", ".join(run.name for run in running))

        return carry_out(bench, figures, jobs, tell)


def _words(told: Sequence[str]) -> list[str]:
    """Of a command, without how many runs are side by side, which no figure follows from."""
    found = [word for word in told if not word.startswith("--jobs=")]
    if "--jobs" in found:
        place = found.index("--jobs")
        del found[place : place + 2]
    return found


def _about(
    bench: Bench, cells: Cells, quick: bool, left: int, failures: dict[Run, str]
) -> dict[str, Any]:
    notes = list(bench.domain.notes)
    if bench.domain.style is not None:
        notes.append(_CHANCE)
    notes += [f"Not measured: {run.name}. {why}" for run, why in failures.items()]
    if left:
        notes.append(f"{left} runs are still missing; the same command goes on.")
    longest = max(cells, key=lambda run: cells[run]["wall_seconds"])
    commits = Counter(cell["commit"] or "unknown" for cell in cells.values())
    return {
        "domain": bench.folder.name,
        "quick": quick,
        "command": shlex.join(["dgan-backend", *_words(sys.argv[1:])]),
        "commits": dict(commits.most_common()),
        "generator": read_card(generator_folder(bench.domain.generator)).training,
        "machine": f"{compute.cores()} cores, {platform.machine()}",
        "classes": list(bench.data.partonomy.classes),
        "test_pictures": len(bench.data.test()),
        "pool_pictures": bench.data.pool,
        "draws": bench.scale.draws,
        "once": [n for n in bench.scale.once if n in bench.plan.counts],
        "mirrored": bench.recipe(Run("")).settings.augment.mirror,
        "pictures_seen": bench.scale.pictures,
        "minutes": round(sum(cell["wall_seconds"] for cell in cells.values()) / 60, 1),
        "longest": [longest.name, round(cells[longest]["wall_seconds"] / 60, 1)],
        "failures": {run.name: why for run, why in failures.items()},
        "notes": notes,
    }
