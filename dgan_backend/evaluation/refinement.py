"""What refinement steps of the inversion are worth: masks of the interpreter, seconds a picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgan_backend.errors import DganError
from dgan_backend.evaluation import methods
from dgan_backend.evaluation.few_shot import LABELS, Cell, FewShotSet, measure
from dgan_backend.generators import Generator
from dgan_backend.generators.native import write_json
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import InDomainErrors

FORMAT = "dgan-backend inversion 2"


@dataclass(frozen=True)
class Refinements:
    """The interpreter on inverted pictures of a set. maps: what it reads, as `FitPlan` has it."""

    data: FewShotSet
    generator: Generator
    encoder: Encoder
    errors: InDomainErrors | None
    maps: str = "generator"
    draws: int = 2

    def key(self, settings: InversionSettings) -> str:
        """Of all that a row depends on, beside code."""
        weights = sum(float(p.double().sum()) for p in self.encoder.parameters())
        depends = [self.data.digest, self.generator.id, f"{weights:.6f}", self.maps, self.draws]
        depends.append({"steps": 0} if settings.steps == 0 else asdict(settings))
        return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:12]

    def row(self, settings: InversionSettings) -> dict[str, Any]:
        """Invert all pictures so, fit on each draw of 16 labels, measure on the test pictures."""
        latents = methods.inverted(self.data, self.generator, self.encoder, self.errors, settings)
        true, classes = np.stack(self.data.test().masks), self.data.partonomy.num_classes
        outcomes = [
            methods.interpreter(
                self.data, Cell("interpreter", LABELS, draw), self.generator, latents, self.maps
            )
            for draw in range(self.draws)
        ]
        measured = [
            {"draw": draw, **measure(true, outcome, classes)}
            for draw, outcome in enumerate(outcomes)
        ]
        told = {"error": latents.error, "inversion_seconds": latents.seconds, "maps": self.maps}
        return {"key": self.key(settings), **asdict(settings), **told, "draws": measured}


def compare(
    refinements: Refinements,
    each: Sequence[InversionSettings],
    path: Path,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[dict[str, Any]]:
    """A row for each of the settings; those that the file holds already are taken from it.

    path: a JSON file, written after each row. Raises DganError when it holds something else.
    """
    kept = _read(path)
    rows = []
    for settings in progress(each):
        key = refinements.key(settings)
        row = next((row for row in kept["rows"] if row["key"] == key), None)
        if row is None:
            row = refinements.row(settings)
            kept["rows"].append(row)
            write_json(path, kept)
        rows.append(row)
    return rows


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"format": FORMAT, "rows": []}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] == FORMAT and isinstance(value["rows"], list):
            return dict(value)
    except (ValueError, KeyError, TypeError):
        pass
    raise DganError(f"{path} holds no rows of `evaluate inversion`; choose another --json.")
