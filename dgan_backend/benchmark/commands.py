"""The command `benchmark`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dgan_backend.benchmark import cases, report
from dgan_backend.benchmark.cases import Case
from dgan_backend.benchmark.ideas import ideas
from dgan_backend.benchmark.measuring import apart, machine
from dgan_backend.benchmark.scene import PICTURES, paper_config
from dgan_backend.errors import DganError
from dgan_backend.evaluation.report import check_plot
from dgan_backend.generators.native import write_json
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.interpreter import FitSettings
from dgan_backend.precision import FLOAT32, Numbers, numbers_for
from dgan_backend.settings import Settings

Run = Callable[..., dict[str, Any]]
KEYS = (
    "generator", "resolution", "image_s", "labeled_s", "labeled_exact_s", "reference_s",
    "labeled_over_image", "reference_over_labeled", "agreement", "worst_class_iou",
    "border_share", "fine_share", "peak_bytes", "reference_peak_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is measured.

    randoms: generators with random weights, rounds and compared pictures of each, see `Case`. fit:
    the resolution whose fit is told; steps: of the original's. version: one with an encoder, or ""
    for none; shipped: its rounds and compared pictures; inverted: times that its picture from
    outside is; fits: on drawn pixels, and as many on all. numbers: of labels.
    """

    randoms: tuple[tuple[StyleGAN2Config, int, int], ...]
    fit: int
    steps: int
    shipped: tuple[int, int]
    inverted: int
    fits: int
    settings: FitSettings
    version: str = "toonhead-shipped"
    numbers: Numbers = FLOAT32

    @property
    def parts(self) -> int:
        """How many are measured one after the other."""
        told = any(config.resolution == self.fit for config, *_ in self.randoms)
        shipped = _OF_A_CASE + 2 if self.version else 0
        return len(self.randoms) * (2 + _OF_A_CASE) + shipped + told


_WAYS = ("image", "labeled", "exact")
_OF_A_CASE = 2 + len(_WAYS)
FULL = Plan(
    tuple(
        (paper_config(side), rounds, compared)
        for side, rounds, compared in ((256, 8, 32), (512, 7, 24), (1024, 3, 3))
    ),
    fit=512,
    steps=40,
    shipped=(12, 96),
    inverted=5,
    fits=3,
    settings=FitSettings(),
)
_SMALL = StyleGAN2Config(64, channel_base=2048, channel_max=64)
QUICK = Plan(((_SMALL, 3, 16),), 64, 3, (2, 16), 1, 1, FitSettings(pixels=1024, steps=60))


def benchmark(args: argparse.Namespace) -> int:
    """Measure, print a table, write figures and plot."""
    drawn = _plot_of(args)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)

    def keep(measured: dict[str, Any]) -> None:
        if args.json:
            write_json(args.json, measured)

    precision = args.precision or Settings.from_env().precision
    plan = replace(QUICK if args.quick else FULL, numbers=numbers_for(precision, "cpu"))
    measured = measure(plan, keep=keep)
    keep(measured)
    print(report.table(measured))
    if drawn:
        report.plot(measured, drawn)
        print(f"{drawn}: seconds a picture of each way")
    return 0


def _plot_of(args: argparse.Namespace) -> Path | None:
    """Where the plot goes; it is left out, with a word, where nobody asked for it and it cannot be
    drawn."""
    drawn: Path | None = args.plot or (args.json.with_suffix(".png") if args.json else None)
    if drawn is None:
        return None
    try:
        check_plot(drawn)
    except DganError as error:
        if args.plot:
            raise
        print(f"There will be no plot: {error}")
        return None
    return drawn


def measure(
    plan: Plan, run: Run = apart, keep: Callable[[dict[str, Any]], None] = lambda measured: None
) -> dict[str, Any]:
    """cases, fit, invert and machine, as `--json` has them. run: one part, and tells its memory.
    keep: is given what there is after each generator."""
    began, at = time.monotonic(), machine()
    measured: dict[str, Any] = {"cases": [], "fit": {}, "invert": {}, "ideas": {}, "machine": at}
    with tempfile.TemporaryDirectory() as folder, tqdm(total=plan.parts, unit="part") as bar:

        def part(what: str, function: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
            bar.set_description(what)
            found = run(function, *given)
            bar.update()
            return found

        def told() -> None:
            at["seconds"] = round(time.monotonic() - began, 1)
            keep(measured)

        if plan.version:
            measured["cases"].append(
                _case(Case(plan.version, None, Path(), *plan.shipped, plan.numbers), part)
            )
            measured["invert"] = part(
                "a picture from outside", cases.invert_and_label, plan.version, plan.inverted
            )
            measured["fit"]["on_all_pixels"] = part(
                "all pixels", cases.fit_on_all, plan.version, plan.fits, plan.settings
            )
            told()
        for config, rounds, compared in plan.randoms:
            path = Path(folder, f"{config.resolution}.safetensors")
            masks, name = path.with_suffix(".npy"), f"{config.resolution} px"
            part(f"{name}, masks", cases.label_scene, config, masks)
            fitted = part(f"{name}, fit", cases.fit_scene, config, masks, path, plan.settings)
            if config.resolution == plan.fit:
                measured["fit"] |= {
                    "pictures": PICTURES,
                    "resolution": config.resolution,
                    **fitted,
                    **cases.fit_reference(config, plan.settings, plan.steps),
                }
            case = Case("", config, path, rounds, compared, plan.numbers)
            measured["cases"].append(_case(case, part))
            if config.resolution == plan.fit:
                measured["ideas"] = part(f"{name}, ideas", ideas, case)
            told()
    return measured


def _case(case: Case, part: Run) -> dict[str, Any]:
    name = case.version or f"{case.config.resolution if case.config else 0} px"
    compared = part(f"{name}, times", cases.compare, case)
    peaks = {way: part(f"{name}, memory", cases.memory, case, way)["peak_bytes"] for way in _WAYS}
    reference = part(f"{name}, the original's way", cases.reference, case)
    missing = reference["feature_bytes"] - reference["held_bytes"]
    told = {
        **compared,
        "reference_s": reference["reference_s"],
        "reference_over_labeled": reference["reference_s"] / compared["labeled_s"],
        "peak_bytes": peaks["labeled"],
        "image_peak_bytes": peaks["image"],
        "exact_peak_bytes": peaks["exact"],
        "reference_peak_bytes": reference["peak_bytes"] + missing,
        "reference_whole": reference["reference_rows"] == compared["resolution"],
        "reference_same": reference["same"],
    }
    return {key: told[key] for key in (*KEYS, *sorted(set(told) - set(KEYS)))}
