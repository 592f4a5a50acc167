"""Carrying out a report's runs: some side by side, each after those that it needs, none twice."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from dgan_backend import children
from dgan_backend.evaluation import judging, measurement, networks, supplies
from dgan_backend.evaluation.bench import FORMAT, Bench
from dgan_backend.evaluation.few_shot import Stopwatch
from dgan_backend.evaluation.keeping import Kept
from dgan_backend.evaluation.plan import Plan, Run
from dgan_backend.evaluation.provenance import commit

CELLS = "cells"
Cells = dict[Run, dict[str, Any]]
Tell = Callable[[list[Run], list[Run]], None]  # what is done, and what is under way
_BY_METHOD = {
    "version": supplies.version,
    "samples": supplies.samples,
    "prelabeler": measurement.prelabeler,
    "inversion": measurement.inversion,
    "protocol": measurement.protocol,
    "calibration": judging.calibration,
    "ensemble": judging.ensemble,
    "pretrained": networks.pretrained,
}


class Figures(Kept):
    """The JSON of a report: its cells by name and key, so that a quick report and a full one do
    not replace each other's. Raises DganError when the file holds something else."""

    def __init__(self, path: Any) -> None:
        super().__init__(path, FORMAT, (CELLS,))

    def of(self, bench: Bench) -> Cells:
        """What is there of the runs of a bench."""
        keys = {run: bench.key(run) for run in bench.plan.runs()}
        found = {run: self.found(CELLS, f"{run.name}-{key}", key) for run, key in keys.items()}
        return {run: cell for run, cell in found.items() if cell is not None}

    def add(self, run: Run, cell: dict[str, Any]) -> None:
        self.keep(CELLS, f"{run.name}-{cell['key']}", cell)


def compute(bench: Bench, run: Run) -> dict[str, Any]:
    """Carry out a run; what it needs is there. Returns its figures, as JSON, and where they are
    from: `commit` of the code (that ended it), `wall_seconds` of all of it."""
    torch.set_num_threads(1)
    watch, of = Stopwatch(), commit()
    found = _BY_METHOD.get(run.method, networks.trained)(bench, run)
    told = {"key": bench.key(run), **asdict(run), **found}
    seconds = watch.seconds() + found.get("seconds_before", 0.0)
    return {**told, "commit": of, "wall_seconds": round(seconds, 1)}


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


@dataclass
class _Work:
    """What is left to do, and what became of the rest. failures: why, by run."""

    bench: Bench
    figures: Figures
    waiting: list[Run]
    done: list[Run] = field(default_factory=list)
    failures: dict[Run, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return self.bench.plan

    def next(self, running: list[Run]) -> Run | None:
        """The first that waits for none that is not done."""
        self._skip()
        undone = {*self.waiting, *running}
        ready = (run for run in self.waiting if not undone & set(self.plan.needs(run)))
        if (found := next(ready, None)) is not None:
            self.waiting.remove(found)
        return found

    def _skip(self) -> None:
        """Those whose needs failed, and whatever needs them."""
        for run in list(self.waiting):  # each behind what it needs
            if lost := [needed for needed in self.plan.needs(run) if needed in self.failures]:
                self.waiting.remove(run)
                self.failures[run] = f"it needs {lost[0].name}, which failed"

    def finish(self, run: Run, found: Callable[[], dict[str, Any]]) -> None:
        """Keep what `found` returns, or why it does not."""
        try:
            self.figures.add(run, found())
        except BrokenExecutor:
            self.failures[run] = "its process died; it may have lacked memory"
        except Exception as error:
            self.failures[run] = "".join(traceback.format_exception_only(error)).strip()
        else:
            self.done.append(run)


def carry_out(
    bench: Bench, figures: Figures, jobs: int, tell: Tell = lambda done, running: None
) -> dict[Run, str]:
    """Carry out what is missing, `jobs` at a time, one thread each; figures are kept after each.
    One at a time is done in this very process.

    tell: is told what is done and what is under way, whenever that changes. Returns why some
    failed or were skipped: all others are done all the same, and the next call tries them again.
    """
    work = _Work(bench, figures, missing(bench, figures.of(bench)))
    if jobs > 1:
        _side_by_side(work, jobs, tell)
    else:
        while (run := work.next([])) is not None:
            tell(work.done, [run])
            work.finish(run, lambda run=run: compute(bench, run))  # type: ignore[misc]
    tell(work.done, [])
    return work.failures


def _side_by_side(work: _Work, jobs: int, tell: Tell) -> None:
    """Each of `jobs` has a process of its own, so that one that dies takes no other run along."""
    free = [children.pool(1) for _ in range(jobs)]
    running: dict[Future[dict[str, Any]], tuple[Run, ProcessPoolExecutor]] = {}
    try:
        while True:
            while free and (run := work.next([run for run, _ in running.values()])):
                process = free.pop()
                running[process.submit(compute, work.bench, run)] = run, process
            if not running:
                return
            tell(work.done, [run for run, _ in running.values()])
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                run, process = running.pop(future)
                work.finish(run, future.result)
                if isinstance(future.exception(), BrokenExecutor):
                    process.shutdown(wait=False)
                    process = children.pool(1)
                free.append(process)
    finally:
        for process in [*free, *(process for _, process in running.values())]:
            process.shutdown(wait=False, cancel_futures=True)
