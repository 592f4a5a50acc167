"""A report's figures in few: what its JSON says at the top, and what its page is written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dgan_backend.evaluation.plan import ATTEMPTS, CAUSES, COMPARED, DROP, Plan, Run
from dgan_backend.evaluation.running import Cells

AIMS = {1: 10.0, 4: 10.0, 16: 5.0}  # points of mIoU over supervised and semi-supervised, by labels
AIM_SHARE = 0.9  # of a network trained on the most labels
AIM_AUROC = 0.9


@dataclass(frozen=True)
class Spread:
    """Of values in [0, 1], one a draw. deviation: of the sample; 0 where there is one."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(float(np.mean(values)), deviation, len(values))


@dataclass(frozen=True)
class Summary:
    """What was measured so far of a plan."""

    plan: Plan
    cells: Cells

    @property
    def counts(self) -> list[int]:
        return self.plan.counts

    def row(self, method: str, count: int) -> list[dict[str, Any]]:
        if method == "many":
            return self.one(Run("many", count))
        draws = range(self.plan.draws(count))
        found = [self.cells.get(self.plan.compared(method, count, draw)) for draw in draws]
        return [cell for cell in found if cell is not None]

    def one(self, run: Run) -> list[dict[str, Any]]:
        cell = self.cells.get(run)
        return [] if cell is None else [cell]

    def spread(self, method: str, count: int, key: str = "miou") -> Spread | None:
        values = [c[key] for c in self.row(method, count) if c.get(key) is not None]
        return Spread.of(values) if values else None

    def first(self, method: str, count: int) -> float | None:
        """The mIoU on draw 0."""
        cell = self.cells.get(self.plan.compared(method, count, 0))
        return None if cell is None else float(cell["miou"])

    def gain(self, baseline: str, count: int, of: str = "student") -> Spread | None:
        """Of the student, or `of`, over a baseline, draw by draw, in [-1, 1]."""
        student = {c["draw"]: c["miou"] for c in self.row(of, count)}
        other = {c["draw"]: c["miou"] for c in self.row(baseline, count)}
        both = [student[draw] - other[draw] for draw in sorted(student) if draw in other]
        return Spread.of(both) if both else None

    def curve(self) -> list[tuple[int, dict[str, Any]]]:
        """Students by the number of generated pictures; trainings are LONG times as long."""
        runs = [(n, self.plan.long_student(n)) for n in self.plan.scale.curve]
        return [(n, self.cells[run]) for n, run in runs if run in self.cells]

    def drops(self) -> list[tuple[float, dict[str, Any]]]:
        """Students by the share that was left out."""
        scale, main = self.plan.scale, self.plan.main
        runs = [(drop, self.plan.student(main, 0, scale.synthetic, drop)) for drop in scale.drops]
        return [(drop, self.cells[run]) for drop, run in runs if run in self.cells]

    def cell(self, method: str) -> dict[str, Any] | None:
        """The one of a method that is measured once, at the main count of labels."""
        return self.cells.get(Run(method, self.plan.main))

    def main(self) -> dict[str, Any] | None:
        """The student of draw 0 and the main count of labels."""
        return self.variant("student")

    def variant(self, method: str) -> dict[str, Any] | None:
        """A student's that differs in one thing, or its protocol."""
        main = self.plan.student(self.plan.main, 0, self.plan.scale.synthetic, DROP)
        return self.cells.get(replace(main, method=method))

    def most(self) -> tuple[int, float] | None:
        """The network that was trained on the most labels: how many, and its mIoU."""
        found = [(run.labels, self.cells[run]["miou"]) for run in self.plan.many()
                 if run in self.cells]  # fmt: skip
        return found[-1] if found else None

    def mious(self) -> dict[str, float | None]:
        """By `METHOD_LABELS`, means over draws, of attempts draw 0; None: not measured."""
        told: dict[str, float | None] = {}
        for method in (*COMPARED, *ATTEMPTS, "prelabeler", "inversion"):
            for count in self.counts:
                found = self.spread(method, count)
                asked = count == self.plan.main and method not in ATTEMPTS
                if found is not None or asked:
                    told[f"{method}_{count}"] = None if found is None else found.mean
        for count in sorted({*self.plan.scale.many, *(run.labels for run in self.plan.many())}):
            found = self.spread("many", count)
            told[f"supervised_{count}"] = None if found is None else found.mean
        return told

    def to_json(self) -> dict[str, Any]:
        """The keys that programs read."""
        judge = self.plan.judge()
        calibration = self.cell("calibration") or {}
        samples, outside = calibration.get("samples", {}), calibration.get("outside", {})
        second = calibration.get("second_opinion", {})
        ensemble = self.cell("ensemble") or {}
        student = self.main()
        return {
            "miou": self.mious(),
            "uncertainty_auroc": samples.get("auroc"),
            "uncertainty_auroc_interval": [samples.get("auroc_low"), samples.get("auroc_high")],
            "uncertainty_auroc_foreground": samples.get("auroc_foreground"),
            "uncertainty_auroc_second_opinion": second.get("auroc"),
            "uncertainty_auroc_outside": outside.get("auroc"),
            "uncertainty_auroc_outside_foreground": outside.get("auroc_foreground"),
            "miou_without_most_uncertain": {
                name: {"all": part.get("miou_all"), "kept": part.get("miou_kept")}
                for name, part in (
                    ("samples", samples),
                    ("second_opinion", second),
                    ("outside", outside),
                )
                if part or name != "second_opinion"
            },
            "miou_by_synthetic": {str(n): cell["miou"] for n, cell in self.curve()},
            "miou_by_filter": {f"{drop:g}": cell["miou"] for drop, cell in self.drops()},
            "ensemble": ensemble.get("rows", []),
            "protocol": self.variant("protocol") or {},
            "causes": {m: cell["miou"] for m in CAUSES if (cell := self.variant(m)) is not None},
            "judge": {} if judge is None else self.cells.get(judge, {}),
            "minutes_saved": None if student is None else student["minutes"],
        }
