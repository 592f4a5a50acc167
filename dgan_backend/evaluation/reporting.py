"""The command `evaluate DOMAIN`: everything that is missing is measured, then a page is written."""

from __future__ import annotations

import argparse
import platform
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dgan_backend.evaluation.bench import Bench
from dgan_backend.evaluation.domain import Domain, find_domain, rendered
from dgan_backend.evaluation.exhibits import exhibits
from dgan_backend.evaluation.page import page
from dgan_backend.evaluation.plan import FULL, QUICK, Run
from dgan_backend.evaluation.running import Cells, Figures, carry_out, missing
from dgan_backend.evaluation.summary import Summary
from dgan_backend.supervision import compute

_CHANCE = (
    "No published weights are at hand: transfer learning begins with a network that was trained "
    "here on pictures of another style."
)


def report(args: argparse.Namespace) -> int:
    """Measure, and write NAME.json and NAME.html into --out."""
    scale = QUICK if args.quick else FULL
    if args.draws:
        scale = replace(scale, draws=args.draws)
    work = args.work or args.out / "work"
    domain = _domain(args, work)
    figures = Figures(args.out / f"{args.name or domain.name}.json")
    bench = Bench(domain, scale, work / (args.name or domain.name))
    if args.jobs:
        _carry_out(bench, figures, args.jobs)
    cells = figures.of(bench)
    left = len(missing(bench, cells))
    if not cells:
        print("nothing is measured yet; give --jobs 1 or more.")
        return 2
    summary = Summary(bench.plan, cells)
    about = _about(bench, cells, args.quick, left)
    figures.value = {
        "format": figures.value["format"],
        **about,
        **summary.to_json(),
        "cells": figures.value["cells"],
    }
    figures.write()
    shown = [] if args.no_pictures else exhibits(bench)
    path = figures.path.with_suffix(".html")
    path.write_text(page(summary, about, bench.data.partonomy.classes, shown), encoding="utf-8")
    print(f"{path}, {figures.path}" + (f": {left} runs are still missing" if left else ""))
    return 0


def _domain(args: argparse.Namespace, work: Path) -> Domain:
    domain = find_domain(args.domain, args.generator)
    given = {
        name: getattr(args, name)
        for name in ("test", "many", "style", "person", "partonomy")
        if getattr(args, name) is not None
    }
    domain = replace(domain, turns=args.turns, **given)
    return rendered(domain, work / "rendered", args.jobs > 0, tqdm.write)


def _carry_out(bench: Bench, figures: Figures, jobs: int) -> None:
    total = len(missing(bench, figures.of(bench)))
    with tqdm(total=total, unit="run", smoothing=0) as bar:

        def tell(done: int, running: list[Run]) -> None:
            bar.n = done
            bar.set_postfix_str(", ".join(run.name for run in running))

        carry_out(bench, figures, jobs, tell)


def _about(bench: Bench, cells: Cells, quick: bool, left: int) -> dict[str, Any]:
    seconds = sum(c.get("fit_seconds", 0.0) + c.get("seconds", 0.0) for c in cells.values())
    notes = list(bench.domain.notes)
    if bench.domain.style is not None:
        notes.append(_CHANCE)
    if left:
        notes.append(f"{left} runs are still missing; the same command goes on.")
    return {
        "domain": bench.domain.name,
        "quick": quick,
        "command": shlex.join(["dgan-backend", *sys.argv[1:]]),
        "commit": _commit(),
        "machine": f"{compute.cores()} cores, {platform.machine()}",
        "classes": list(bench.data.partonomy.classes),
        "test_pictures": len(bench.data.test()),
        "pool_pictures": bench.data.pool,
        "draws": bench.scale.draws,
        "pictures_seen": bench.scale.pictures,
        "minutes": round(seconds / 60, 1),
        "notes": notes,
    }


def _commit() -> str:
    """Of the checkout that this code lies in, with `+` where files were changed; "" elsewhere."""
    folder = Path(__file__).parent.parent  # the package: its report may be written beside it
    git = ["git", "-C", str(folder)]
    try:
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "."], capture_output=True
        )
    except OSError:
        return ""
    found = done.stdout.strip() if done.returncode == 0 else ""
    return found + ("+" if found and changed.stdout.strip() else "")
