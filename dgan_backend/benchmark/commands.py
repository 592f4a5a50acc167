"""The command `benchmark`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dgan_backend.benchmark import cases, report
from dgan_backend.benchmark.cases import Case
from dgan_backend.benchmark.measuring import apart, machine
from dgan_backend.benchmark.scene import PICTURES, paper_config
from dgan_backend.evaluation.report import check_plot
from dgan_backend.generators.native import write_json
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.interpreter import FitSettings

KEYS = (
    "generator", "resolution", "image_s", "labeled_s", "labeled_exact_s", "reference_s",
    "labeled_over_image", "reference_over_labeled", "agreement", "worst_class_iou",
    "border_share", "fine_share", "peak_bytes", "reference_peak_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured. randoms: generators with random weights, and pictures of each; fit: the
    resolution whose fit is told; steps: of the original's fit; shipped: pictures of it."""

    randoms: tuple[tuple[StyleGAN2Config, int], ...]
    fit: int
    steps: int
    shipped: int
    rounds: int
    settings: FitSettings
    version: str = "toonhead-shipped"


FULL = Plan(
    tuple((paper_config(side), count) for side, count in ((256, 12), (512, 10), (1024, 3))),
    fit=512,
    steps=40,
    shipped=64,
    rounds=5,
    settings=FitSettings(),
)
_SMALL = StyleGAN2Config(64, channel_base=2048, channel_max=64)
QUICK = Plan(((_SMALL, 3),), 64, 3, 16, 1, FitSettings(pixels=1024, steps=60))


def benchmark(args: argparse.Namespace) -> int:
    """Measure, print a table, write figures and plot."""
    drawn = args.plot or (args.json.with_suffix(".png") if args.json else None)
    if drawn:
        check_plot(drawn)
    measured = measure(QUICK if args.quick else FULL)
    print(report.table(measured))
    if args.json:
        write_json(args.json, measured)
    if drawn:
        report.plot(measured, drawn)
        print(f"{drawn}: seconds a picture of each way")
    return 0


def measure(plan: Plan) -> dict[str, Any]:
    """cases, fit, invert and machine, as `--json` has them."""
    at = machine()
    found: list[dict[str, Any]] = []
    fit: dict[str, Any] = {}
    steps = tqdm(total=1 + 4 * (1 + len(plan.randoms)), unit="step")
    with tempfile.TemporaryDirectory() as folder, steps:
        for config, pictures in plan.randoms:
            case = Case(
                config=config,
                fitted=Path(folder, f"{config.resolution}.safetensors"),
                pictures=pictures,
            )
            fitted = apart(cases.fit_scene, config, case.fitted, plan.settings)
            steps.update()
            if config.resolution == plan.fit:
                fit = _fit(config, plan, fitted)
            found.append(_case(case, steps))
        shipped = Case(plan.version, pictures=plan.shipped, batch=8)
        found.insert(0, _case(shipped, steps))
        invert = apart(cases.invert_and_label, plan.version, plan.rounds)
        steps.update()
    return {"cases": found, "fit": fit, "invert": invert, "machine": at}


def _case(case: Case, steps: tqdm[Any]) -> dict[str, Any]:
    parts = []
    for part in _parts(case):
        parts.append(part)
        steps.update()
    compared, alone, reference = parts
    whole = reference["reference_rows"] == compared["resolution"]
    missing = reference["feature_bytes"] - reference["held_bytes"]
    told = {
        **compared,
        "reference_s": reference["reference_s"],
        "reference_over_labeled": reference["reference_s"] / compared["labeled_s"],
        "peak_bytes": alone["peak_bytes"],
        "reference_peak_bytes": reference["peak_bytes"] + missing,
        "reference_whole": whole,
        "reference_same": reference["same"],
    }
    return {key: told[key] for key in (*KEYS, *sorted(set(told) - set(KEYS)))}


def _parts(case: Case) -> Iterator[dict[str, Any]]:
    yield apart(cases.compare, case)
    yield apart(cases.memory, case)
    yield apart(cases.reference, case)


def _fit(config: StyleGAN2Config, plan: Plan, fitted: dict[str, Any]) -> dict[str, Any]:
    told = {"pictures": PICTURES, "resolution": config.resolution, **fitted}
    reference = apart(cases.fit_reference, config, plan.settings, plan.steps)
    return {**told, **{key: reference[key] for key in ("reference_s", "reference_bytes", "steps")}}
