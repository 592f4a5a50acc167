"""Running the ruler: all cells, side by side, none twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dgan_backend import children, metrics
from dgan_backend.errors import DganError
from dgan_backend.evaluation import methods
from dgan_backend.evaluation.few_shot import (
    COUNTS,
    DRAWS,
    SEEDS,
    Cell,
    FewShotSet,
    Outcome,
    measure,
)
from dgan_backend.evaluation.keeping import Kept
from dgan_backend.generators import Generator, load_generator
from dgan_backend.generators.native import file_hash, read_card
from dgan_backend.generators.references import generator_folder
from dgan_backend.interpreter import FitSettings
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import CARD as ENCODER_CARD
from dgan_backend.inversion.native import WEIGHTS as ENCODER_WEIGHTS
from dgan_backend.inversion.native import load_encoder
from dgan_backend.merging import IGNORE
from dgan_backend.student.native import CARD as BACKBONE_CARD
from dgan_backend.student.native import WEIGHTS as BACKBONE_WEIGHTS
from dgan_backend.student.native import Backbone, load_backbone
from dgan_backend.student.student import StudentSettings

METHODS = ("pixels", "unet", "unets", "interpreter", "interpreter+picture", "student")
PARTS = {  # of a generator, that methods need: name, file, command
    "interpreter": ("encoder", ENCODER_WEIGHTS, "encoder train"),
    "interpreter+picture": ("encoder", ENCODER_WEIGHTS, "encoder train"),
}
_BACKBONE = (BACKBONE_WEIGHTS, BACKBONE_CARD)  # which a student may do without
GRIDS = (32, 64, 128)  # px of the label grids whose ceiling is told
FORMAT = "dgan-backend few-shot 2"

Cells = dict[str, dict[int, list[dict[str, Any]]]]  # method -> count -> measured


@dataclass(frozen=True)
class Ruler:
    """What is measured on what. Picklable: every process loads the parts for itself.

    networks: folder that keeps the fitted U-Nets, so that they can also be measured together.
    test, turns: see `FewShotSet`.
    """

    pairs: Path
    partonomy: str
    generator: str
    networks: Path
    test: Path | None = None
    turns: bool = False

    def cells(self, chosen: Sequence[str], counts: Sequence[int], draws: int) -> list[Cell]:
        """All cells, one seed of all methods first.

        Raises DganError for a method that is none, or a count that no draw has.
        """
        if unknown := sorted(set(chosen) - set(METHODS)):
            raise DganError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
        largest = _data(self).largest
        if wrong := [count for count in counts if not 1 <= count <= largest]:
            raise DganError(f"a draw has 1 to {largest} labels, not {wrong[0]}.")
        return [
            Cell(method, count, draw, seed)
            for seed in range(SEEDS)
            for method in METHODS
            for count in dict.fromkeys(counts)
            for draw in range(draws)
            if method in chosen and seed < (SEEDS if method == "unet" else 1)
        ]

    def check_parts(self, chosen: Sequence[str]) -> None:
        """Raises DganError when the generator lacks what a method needs: before hours are spent."""
        folder = generator_folder(self.generator)
        for method in chosen:
            part = PARTS.get(method)
            if part is not None and not (folder / part[1]).is_file():
                name, _, command = part
                raise DganError(
                    f"method {method} needs the {name} of generator {self.generator}, which has "
                    f"none; `dgan-backend generator {command} {self.generator}` trains one, or "
                    f"choose other --methods."
                )

    def key(self, method: str, count: int, choice: dict[str, Any] | None = None) -> str:
        """Of all that a method's results depend on, beside code; others are not used."""
        data = _data(self)
        depends = [method, data.digest, *self._depends(data, method, count, choice)]
        return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:12]

    def _depends(
        self, data: FewShotSet, method: str, count: int, choice: dict[str, Any] | None
    ) -> list[Any]:
        folder = generator_folder(self.generator)
        if method == "choice":
            unet = asdict(methods.unet_settings(data, {"rate": 0.0, "pictures": 0}))
            return [unet, methods.RATES, methods.BUDGETS, methods.GAIN]
        if method in ("unet", "unets"):
            together = [StudentSettings().members, methods.SCORE] if method == "unets" else []
            return [asdict(methods.unet_settings(data, choice or {})), *together]
        if method == "student":
            student = StudentSettings(unet=methods.default_unet(data)).for_labels(count)
            files = [file_hash(f) for f in map(folder.joinpath, _BACKBONE) if f.is_file()]
            return [asdict(student), files, methods.SCORE]
        if method == "pixels":
            return [_fit_settings()]
        files = [file_hash(folder / name) for name in (ENCODER_WEIGHTS, ENCODER_CARD)]
        weights = [read_card(folder).sha256, *files, methods.SCORE]
        return [
            methods.INTERPRETER_MEMBERS,
            _fit_settings(),
            asdict(InversionSettings()),
            weights,
        ]

    def choose(self, count: int) -> dict[str, Any]:
        """Settings of the U-Net at one count, on draw 0."""
        torch.set_num_threads(1)
        return methods.choose_unet(_data(self), Cell("unet", count, 0))

    def compute(self, cell: Cell, choice: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fit and measure one cell. choice: of the U-Net's settings, for those methods."""
        torch.set_num_threads(1)
        data = _data(self)
        outcome = self._outcome(data, cell, choice)
        measured = measure(np.stack(data.test().masks), outcome, data.partonomy.num_classes)
        return {"key": self.key(cell.method, cell.count, choice), **measured}

    def _outcome(self, data: FewShotSet, cell: Cell, choice: dict[str, Any] | None) -> Outcome:
        if cell.method == "pixels":
            return methods.pixels(data, cell)
        if cell.method in ("unet", "unets"):
            key = self.key("unet", cell.count, choice)
            kept = methods.KeptUNets(choice or {}, self.networks, key)
            return (methods.unet if cell.method == "unet" else methods.unets)(data, cell, kept)
        if cell.method == "student":
            return methods.student(data, cell, _backbone(self))
        maps = "generator+picture" if cell.method.endswith("picture") else "generator"
        network, latents = _inverted(self)
        return methods.interpreter(data, cell, network, latents, maps)


def _fit_settings() -> dict[str, Any]:
    """Of the paper's networks, but for what `methods.paper_settings` fixes."""
    told = asdict(FitSettings())
    del told["directions"]
    return told


@lru_cache(maxsize=1)
def _data(ruler: Ruler) -> FewShotSet:
    return FewShotSet.load(ruler.pairs, ruler.partonomy, ruler.test, ruler.turns)


@lru_cache(maxsize=1)
def _backbone(ruler: Ruler) -> Backbone:
    return load_backbone(ruler.generator)


@lru_cache(maxsize=1)
def _inverted(ruler: Ruler) -> tuple[Generator, methods.Inverted]:
    network = load_generator(ruler.generator)
    return network, methods.inverted(_data(ruler), network, *load_encoder(ruler.generator))


class Results(Kept):
    """The JSON file of a ruler: what was measured so far; written after each cell.

    Raises DganError when the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, FORMAT, ("choices", "cells"))

    def choice(self, ruler: Ruler, count: int) -> dict[str, Any] | None:
        """The U-Net's settings at one count, if they were chosen."""
        return self.found("choices", str(count), ruler.key("choice", count))

    def key(self, ruler: Ruler, method: str, count: int) -> str | None:
        """What cells of that method and count were kept under; None: its settings are missing."""
        choice = self.choice(ruler, count) if method in ("unet", "unets") else None
        if choice is None and method in ("unet", "unets"):
            return None
        return ruler.key(method, count, choice)

    def measured(
        self, ruler: Ruler, cells: Sequence[Cell]
    ) -> Iterator[tuple[Cell, dict[str, Any] | None]]:
        """Each cell with what is there of it."""
        key = cache(partial(self.key, ruler))
        for cell in cells:
            expected = key(cell.method, cell.count)
            yield cell, self.found("cells", cell.name, expected) if expected else None

    def by_method(self, ruler: Ruler, cells: Sequence[Cell]) -> Cells:
        """What is there of these cells, each with its `draw`."""
        found: Cells = {}
        for cell, measured in self.measured(ruler, cells):
            if measured is not None:
                told = {**measured, "draw": cell.draw}
                found.setdefault(cell.method, {}).setdefault(cell.count, []).append(told)
        return found


def run(
    ruler: Ruler,
    results: Results,
    chosen: Sequence[str] = METHODS,
    counts: Sequence[int] = COUNTS,
    draws: int = DRAWS,
    jobs: int = 1,
    progress: Callable[..., Iterable[Any]] = lambda items, total: items,
) -> Cells:
    """Compute what `results` does not hold yet, `jobs` at a time, one thread each; 0: nothing.

    Returns what was measured of all that was asked for.
    """
    cells = ruler.cells(chosen, counts, draws)
    ruler.check_parts(chosen)
    data = _data(ruler)
    true = np.stack(data.test().masks)
    classes = data.partonomy.num_classes
    results.value["classes"] = list(data.partonomy.classes)
    said = true[true != IGNORE]
    results.value["area"] = (np.bincount(said, minlength=classes) / said.size).tolist()
    results.value["ceiling"] = {g: metrics.grid_ceiling(true, g, classes) for g in GRIDS}
    if jobs:
        _compute_all(ruler, results, chosen, counts, cells, jobs, progress)
    return results.by_method(ruler, cells)


def _compute_all(
    ruler: Ruler,
    results: Results,
    chosen: Sequence[str],
    counts: Sequence[int],
    cells: Sequence[Cell],
    jobs: int,
    progress: Callable[..., Iterable[Any]],
) -> None:
    with children.pool(jobs) as pool:
        try:
            if {"unet", "unets"} & set(chosen):
                _choose(pool, ruler, results, counts, progress)
            for together in (False, True):  # those of several U-Nets when each is there
                these = [cell for cell in cells if (cell.method == "unets") == together]
                _compute(pool, ruler, results, these, progress)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _choose(
    pool: ProcessPoolExecutor,
    ruler: Ruler,
    results: Results,
    counts: Sequence[int],
    progress: Callable[..., Iterable[Any]],
) -> None:
    missing = [count for count in counts if results.choice(ruler, count) is None]
    running: dict[Future[Any], int] = {pool.submit(ruler.choose, n): n for n in missing}
    for future in progress(as_completed(running), total=len(running)):
        count = running[future]
        key = ruler.key("choice", count)
        results.keep("choices", str(count), {"key": key, **future.result()})


def _compute(
    pool: ProcessPoolExecutor,
    ruler: Ruler,
    results: Results,
    cells: Sequence[Cell],
    progress: Callable[..., Iterable[Any]],
) -> None:
    missing = [cell for cell, found in results.measured(ruler, cells) if found is None]
    running: dict[Future[Any], Cell] = {
        pool.submit(ruler.compute, cell, results.choice(ruler, cell.count)): cell
        for cell in missing
    }
    if not missing:
        return
    done: Iterator[Future[Any]] = as_completed(running)
    for future in progress(done, total=len(running)):
        results.keep("cells", running[future].name, future.result())
