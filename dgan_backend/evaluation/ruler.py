"""Running the ruler: all cells, side by side, none twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgan_backend import metrics
from dgan_backend.errors import DganError
from dgan_backend.evaluation import methods
from dgan_backend.evaluation.few_shot import DRAWS, SEEDS, Cell, FewShotSet, measure
from dgan_backend.generators import Generator, load_generator
from dgan_backend.generators.native import file_hash, generator_folder, read_card, write_json
from dgan_backend.inversion.native import load_encoder
from dgan_backend.student.native import WEIGHTS as BACKBONE_WEIGHTS
from dgan_backend.student.native import Backbone, load_backbone

METHODS = ("pixels", "unet", "interpreter", "interpreter+picture", "student")
GRIDS = (32, 64, 128)  # px of the label grids whose ceiling is told
FORMAT = "dgan-backend few-shot 1"


@dataclass(frozen=True)
class Ruler:
    """What is measured on what. Picklable: every process loads the parts for itself."""

    pairs: Path
    partonomy: str
    generator: str

    def cells(self, chosen: Sequence[str], counts: Sequence[int], draws: int) -> list[Cell]:
        """All cells, the quick methods and the seeds first that make a whole row."""
        if unknown := sorted(set(chosen) - set(METHODS)):
            raise DganError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
        return [
            Cell(method, count, draw, seed)
            for method in METHODS
            if method in chosen
            for count in counts
            for seed in range(SEEDS if method == "unet" else 1)
            for draw in range(draws)
        ]

    def key(self, method: str, choice: dict[str, Any] | None = None) -> str:
        """What a method's results depend on, beside code: results of another key are not used."""
        if choice is not None and method == "unet":
            return f"rate {choice['rate']}, {choice['pictures']} pictures"
        if method == "student":
            return file_hash(generator_folder(self.generator) / BACKBONE_WEIGHTS)[:8]
        if method.startswith("interpreter"):
            return read_card(generator_folder(self.generator)).sha256[:8]
        return ""

    def choose(self, count: int) -> dict[str, Any]:
        """Settings of the U-Net at one count, on draw 0."""
        torch.set_num_threads(1)
        return methods.choose_unet(_data(self), Cell("unet", count, 0))

    def compute(self, cell: Cell, choice: dict[str, Any] | None) -> dict[str, Any]:
        """Fit and measure one cell."""
        torch.set_num_threads(1)
        data = _data(self)
        if cell.method == "pixels":
            outcome = methods.pixels(data, cell)
        elif cell.method == "unet":
            outcome = methods.unet(data, cell, choice or {})
        elif cell.method == "student":
            outcome = methods.student(data, cell, _backbone(self))
        else:
            maps = "generator+picture" if cell.method.endswith("picture") else "generator"
            network, latents = _latents(self)
            outcome = methods.interpreter(data, cell, network, latents, maps)
        measured = measure(np.stack(data.test().masks), outcome, data.partonomy.num_classes)
        return {"key": self.key(cell.method, choice), **measured}


@lru_cache(maxsize=1)
def _data(ruler: Ruler) -> FewShotSet:
    return FewShotSet.load(ruler.pairs, ruler.partonomy)


@lru_cache(maxsize=1)
def _backbone(ruler: Ruler) -> Backbone:
    backbone = load_backbone(ruler.generator)
    if backbone is None:
        raise DganError(f"generator {ruler.generator} has no backbone for the student.")
    return backbone


@lru_cache(maxsize=1)
def _latents(ruler: Ruler) -> tuple[Generator, Tensor]:
    network = load_generator(ruler.generator)
    encoder, _ = load_encoder(ruler.generator)
    return network, methods.all_latents(_data(ruler), network, encoder)


class Results:
    """The JSON file of a ruler: what was measured so far; written after each cell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.value: dict[str, Any] = {"format": FORMAT, "choices": {}, "cells": {}}
        if path.is_file():
            self.value = json.loads(path.read_text(encoding="utf-8"))
            if self.value.get("format") != FORMAT:
                raise DganError(f"{path} holds no results of this ruler; choose another --json.")

    def cell(self, cell: Cell, key: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.value["cells"].get(cell.name)
        return found if found is not None and found["key"] == key else None

    def keep(self, group: str, name: str, found: Any) -> None:
        self.value.setdefault(group, {})[name] = found
        write_json(self.path, self.value)

    def by_method(self) -> dict[str, dict[int, list[dict[str, Any]]]]:
        """Method -> count -> cells."""
        found: dict[str, dict[int, list[dict[str, Any]]]] = {}
        for name, measured in self.value["cells"].items():
            cell = Cell.named(name)
            found.setdefault(cell.method, {}).setdefault(cell.count, []).append(measured)
        return found


def run(
    ruler: Ruler,
    results: Results,
    chosen: Sequence[str] = METHODS,
    counts: Sequence[int] = (),
    draws: int = DRAWS,
    jobs: int = 1,
    progress: Callable[..., Iterable[Any]] = lambda items, total: items,
) -> None:
    """Compute what `results` does not hold yet, `jobs` at a time, one thread each."""
    data = FewShotSet.load(ruler.pairs, ruler.partonomy)
    true = np.stack(data.test().masks)
    classes = data.partonomy.num_classes
    results.value["classes"] = list(data.partonomy.classes)
    results.value["area"] = (np.bincount(true.ravel(), minlength=classes) / true.size).tolist()
    results.value["ceiling"] = {g: metrics.grid_ceiling(true, g, classes) for g in GRIDS}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            if "unet" in chosen:
                _choose(pool, ruler, results, counts, progress)
            _compute(pool, ruler, results, ruler.cells(chosen, counts, draws), progress)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _choose(
    pool: ProcessPoolExecutor,
    ruler: Ruler,
    results: Results,
    counts: Sequence[int],
    progress: Callable[..., Iterable[Any]],
) -> None:
    missing = [count for count in counts if str(count) not in results.value["choices"]]
    running: dict[Future[Any], Any] = {pool.submit(ruler.choose, n): n for n in missing}
    for future in progress(as_completed(running), total=len(running)):
        results.keep("choices", str(running[future]), future.result())


def _compute(
    pool: ProcessPoolExecutor,
    ruler: Ruler,
    results: Results,
    cells: Sequence[Cell],
    progress: Callable[..., Iterable[Any]],
) -> None:
    choices = {cell: results.value["choices"].get(str(cell.count)) for cell in cells}
    missing = [
        cell for cell in cells if results.cell(cell, ruler.key(cell.method, choices[cell])) is None
    ]
    running: dict[Future[Any], Cell] = {
        pool.submit(ruler.compute, cell, choices[cell]): cell for cell in missing
    }
    done: Iterator[Future[Any]] = as_completed(running)
    for future in progress(done, total=len(running)):
        results.keep("cells", running[future].name, future.result())
