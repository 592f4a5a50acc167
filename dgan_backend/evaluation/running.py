"""Carrying out a report's runs: some side by side, each after those that it needs, none twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

from dgan_backend.evaluation.bench import FORMAT, Bench
from dgan_backend.evaluation.keeping import Kept
from dgan_backend.evaluation.plan import Plan, Run

CELLS = "cells"
Cells = dict[Run, dict[str, Any]]


class Figures(Kept):
    """The JSON of a report. Raises DganError when the file holds something else."""

    def __init__(self, path: Any) -> None:
        super().__init__(path, FORMAT, (CELLS,))

    def of(self, bench: Bench) -> Cells:
        """What is there of the runs of a bench."""
        found = {run: self.found(CELLS, run.name, bench.key(run)) for run in bench.plan.runs()}
        return {run: cell for run, cell in found.items() if cell is not None}


def missing(bench: Bench, there: Cells) -> list[Run]:
    """Runs to carry out, in an order in which each comes after those whose files it needs."""
    plan, found = bench.plan, dict[Run, None]()

    def want(run: Run) -> None:
        for needed in plan.needs(run):
            if needed not in found and not bench.at_hand(needed):
                want(needed)
        found.setdefault(run)

    for run in plan.runs():
        if run not in there:
            want(run)
    return list(found)


def carry_out(
    bench: Bench,
    figures: Figures,
    jobs: int,
    tell: Callable[[int, list[Run]], None] = lambda done, running: None,
) -> None:
    """Carry out what is missing, `jobs` at a time, one thread each; figures are kept after each.
    One at a time is done in this very process.

    tell: is told how many are done, and which are under way, whenever that changes.
    """
    waiting = missing(bench, figures.of(bench))
    if jobs > 1:
        _side_by_side(bench, figures, jobs, waiting, tell)
        return
    for done, run in enumerate(waiting):
        tell(done, [run])
        figures.keep(CELLS, run.name, bench.compute(run))
    tell(len(waiting), [])


def _side_by_side(
    bench: Bench,
    figures: Figures,
    jobs: int,
    waiting: list[Run],
    tell: Callable[[int, list[Run]], None],
) -> None:
    plan, done = bench.plan, 0
    running: dict[Future[dict[str, Any]], Run] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            while waiting or running:
                while len(running) < jobs and (run := _ready(plan, waiting, running)):
                    waiting.remove(run)
                    running[pool.submit(bench.compute, run)] = run
                tell(done, list(running.values()))
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    run = running.pop(future)
                    figures.keep(CELLS, run.name, future.result())
                    done += 1
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    tell(done, [])


def _ready(
    plan: Plan, waiting: list[Run], running: dict[Future[dict[str, Any]], Run]
) -> Run | None:
    """The first that waits for none that is not done."""
    undone = {*waiting, *running.values()}
    return next((run for run in waiting if not undone & set(plan.needs(run))), None)
