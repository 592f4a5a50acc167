"""What a run's figures depend on beside code, so that none is taken for another's."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgan_backend import labeled
from dgan_backend.evaluation import methods
from dgan_backend.evaluation.baselines import SemiSettings
from dgan_backend.evaluation.plan import Run
from dgan_backend.generators.native import read_card
from dgan_backend.generators.references import generator_folder
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.student.deeplab import DeepLabConfig
from dgan_backend.student.native import backbone_id

if TYPE_CHECKING:
    from dgan_backend.evaluation.bench import Bench

_HUMAN = 0.5
_SHARES = {"generated_only": 0.0, "both_sources": 1 / 3}  # if not _HUMAN
_OF_MANY = ("many", "judge", "semi_supervised", "real_pictures", "both_sources",
            "judged_pictures", "true_pictures")  # fmt: skip


def depends(bench: Bench, run: Run) -> list[Any]:
    """As JSON; without the pictures that labels are drawn from and the test, which all depend on,
    and without what other runs leave."""
    scale, domain = bench.scale, bench.domain
    generator = [read_card(generator_folder(domain.generator)).sha256]
    if run.method == "version":
        fit = [scale.unet_pictures, scale.interpreter_steps, scale.taught]
        return [*generator, backbone_id(domain.generator), *fit]
    if run.method == "samples":
        return [scale.part, bench.side]
    if run.method == "inversion":
        return [*generator, methods.INTERPRETER_MEMBERS, asdict(InversionSettings())]
    if run.method in ("calibration", "ensemble"):
        members = list(scale.members) if run.method == "ensemble" else []
        asked = [] if run.method == "ensemble" else ["second opinion"]
        return [scale.judged, content_digest(domain.person), members, *asked]
    if run.method == "prelabeler":
        return []
    if run.method == "protocol":
        return [scale.epochs]
    return _of_training(bench, run)


def _of_training(bench: Bench, run: Run) -> list[Any]:
    domain = bench.domain
    told: list[Any] = [asdict(bench.recipe(run).settings), DeepLabConfig().to_json()]
    if run.method in _OF_MANY:
        told.append(content_digest(domain.many))
    if run.method == "semi_supervised":
        told += [asdict(SemiSettings()), "teaches what it would say"]
    if run.method == "pretrained":
        told.append(content_digest(domain.style))
    if run.method == "judge":
        told.append(bench.resolution)
    if run.method in ("judged_labels", "judged_pictures"):
        told.append(content_digest(domain.person))
    if run.synthetic:
        told.append(human_share(run))
    if bench.plan.watched(run):
        told.append(bench.scale.epochs)
    return told


def human_share(run: Run) -> float:
    """Of people's labels in a student's batches."""
    return _SHARES.get(run.method, _HUMAN)


@lru_cache(maxsize=8)
def content_digest(path: Path | None) -> str:
    """Of labeled pictures, or a file; "" for None."""
    return "" if path is None else labeled.content_digest(path)
