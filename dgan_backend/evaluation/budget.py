"""How each network of a report learns: its rate, how many pictures it sees, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dgan_backend.evaluation.plan import Run, Scale


@dataclass(frozen=True)
class Training:
    """rate: Muon's, at its largest. times: pictures seen, in multiples of `Scale.pictures`."""

    rate: float = 0.1
    times: int = 1


# From labels alone: the rates that `evaluate few-shot` chose for a U-Net from scratch.
_FEW = {1: Training(0.02), 4: Training(0.05), 16: Training(0.1), 40: Training(0.1)}
_MANY = {1: Training(), 500: Training(times=2), 2000: Training(times=4)}
TRAININGS = {  # by method, from so many labels on
    "supervised": _FEW,
    "semi_supervised": _FEW,
    "transfer": _FEW,
    "many": _MANY,
    "judge": _MANY,
}
# Minutes of one busy core at full scale, roughly: what is shown while they run is weighed by them.
_MINUTES = {"version": 4.0, "samples": 0.7, "prelabeler": 0.2, "inversion": 1.2,
            "calibration": 0.5, "ensemble": 0.7, "protocol": 2.3}  # fmt: skip
_MINUTES_A_TRAINING = 4.0  # of Scale.pictures
_FACTORS = {"semi_supervised": 2.5, "transfer": 0.5, "judged_labels": 1.3}


def training(run: Run) -> Training:
    """Of a run's network."""
    found = Training()
    for labels, one in sorted(TRAININGS.get(run.method, {}).items()):
        if run.labels >= labels:
            found = one
    return replace(found, times=found.times * run.times)


def pictures(run: Run, scale: Scale) -> int:
    """How many a run's network sees, with repeats."""
    return training(run).times * scale.pictures


def minutes(run: Run) -> float:
    """What a run is expected to take beside others: only ratios count."""
    if run.method in _MINUTES:
        return _MINUTES[run.method]
    return _MINUTES_A_TRAINING * training(run).times * _FACTORS.get(run.method, 1.0)
