"""The command `benchmark`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
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

Run = Callable[..., dict[str, Any]]
KEYS = (
    "generator", "resolution", "image_s", "labeled_s", "labeled_exact_s", "reference_s",
    "labeled_over_image", "reference_over_labeled", "agreement", "worst_class_iou",
    "border_share", "fine_share", "peak_bytes", "reference_peak_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured.

    randoms: generators with random weights, and pictures of each. fit: the resolution whose fit is
    told; steps: of the original's. version: one with an encoder, or "" for none; shipped: pictures
    of it; rounds: that its picture from outside is inverted.
    """

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


def measure(plan: Plan, run: Run = apart) -> dict[str, Any]:
    """cases, fit, invert and machine, as `--json` has them. run: one part, and tells its memory."""
    at = machine()
    found: list[dict[str, Any]] = []
    fit: dict[str, Any] = {}
    invert: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for config, pictures in tqdm(plan.randoms, desc="random weights", unit="generator"):
            path = Path(folder, f"{config.resolution}.safetensors")
            fitted = run(cases.fit_scene, config, path, plan.settings)
            if config.resolution == plan.fit:
                told = cases.fit_reference(config, plan.settings, plan.steps)
                fit = {"pictures": PICTURES, "resolution": config.resolution, **fitted, **told}
            found.append(_case(Case(config=config, fitted=path, pictures=pictures), run))
    if plan.version:
        found.insert(0, _case(Case(plan.version, pictures=plan.shipped, batch=8), run))
        invert = run(cases.invert_and_label, plan.version, plan.rounds)
    return {"cases": found, "fit": fit, "invert": invert, "machine": at}


def _case(case: Case, run: Run) -> dict[str, Any]:
    compared = cases.compare(case)
    alone, reference = run(cases.memory, case), run(cases.reference, case)
    missing = reference["feature_bytes"] - reference["held_bytes"]
    told = {
        **compared,
        "reference_s": reference["reference_s"],
        "reference_over_labeled": reference["reference_s"] / compared["labeled_s"],
        "peak_bytes": alone["peak_bytes"],
        "reference_peak_bytes": reference["peak_bytes"] + missing,
        "reference_whole": reference["reference_rows"] == compared["resolution"],
        "reference_same": reference["same"],
    }
    return {key: told[key] for key in (*KEYS, *sorted(set(told) - set(KEYS)))}
