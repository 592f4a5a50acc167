"""What a report measures: all runs, what each needs, and how large they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dgan_backend.evaluation.few_shot import LABELS

COMPARED = ("supervised", "transfer", "semi_supervised", "student")
TITLES = {
    "supervised": "supervised, the labels alone",
    "transfer": "transfer learning, last layers",
    "semi_supervised": "semi-supervised (s4GAN)",
    "student": "student: generated + the labels",
    "prelabeler": "what `fit` makes (U-Nets)",
    "inversion": "interpreter on inverted pictures",
    "many": "fully supervised",
    "generated_only": "student: generated alone",
    "judged_labels": "student: samples labeled by the judge",
    "rendered_pictures": "student: real pictures labeled by the version",
}
CAUSES = ("generated_only", "judged_labels", "rendered_pictures")
PREPARED = ("pretrained", "version", "samples")  # leave files that other runs need
DROP = 0.1


@dataclass(frozen=True, order=True)
class Run:
    """One thing to fit and measure. labels: how many; 0 where none are drawn. synthetic, drop: of
    the generated pictures. part: of the samples."""

    method: str
    labels: int = 0
    draw: int = 0
    synthetic: int = 0
    drop: float = 0.0
    part: int = 0

    @property
    def name(self) -> str:
        told = [self.method, str(self.labels), f"draw{self.draw}"]
        if self.synthetic:
            told += [f"of{self.synthetic}", f"drop{self.drop:g}"]
        if self.method == "samples":
            told.append(f"part{self.part}")
        return "-".join(told)


@dataclass(frozen=True)
class Scale:
    """How large a report is.

    labels: counts that curves go over, with `draws` draws each. pictures: seen by every network.
    synthetic: generated pictures that a student learns from; `curve` and `drops` vary that at 16
    labels. many: counts of labels of the fully supervised rows. part: samples made in one run.
    judged: samples that calibration is measured on. test: pictures measured on, None = all.
    members: of the interpreter. unet_pictures, interpreter_steps, taught: of a version's fit.
    epochs: at which the original's protocol looks. causes: whether the runs that tell causes apart
    are in.
    """

    labels: tuple[int, ...] = (1, 4, 16, 40)
    draws: int = 3
    pictures: int = 9600
    synthetic: int = 3000
    curve: tuple[int, ...] = (100, 1000, 3000, 10000, 20000)
    drops: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2)
    many: tuple[int, ...] = (100, 500, 2000)
    part: int = 1700
    judged: int = 240
    test: int | None = None
    members: tuple[int, ...] = (1, 2, 4, 7, 10)
    unet_pictures: int = 9600
    interpreter_steps: int = 1200
    taught: int = 48
    epochs: int = 20
    causes: bool = True


FULL = Scale()
QUICK = Scale(
    labels=(1, LABELS),
    draws=1,
    pictures=600,
    synthetic=200,
    curve=(50, 200),
    drops=(0.0, 0.1),
    part=250,
    judged=40,
    test=40,
    members=(1, 4),
    unet_pictures=600,
    interpreter_steps=200,
    taught=8,
    epochs=5,
    causes=False,
)


@dataclass(frozen=True)
class Plan:
    """scale, and which rows there can be: many and style as `Domain` has them; labeled: how many
    pictures `many` has; largest: labels that a draw can hold. person: whether there is a network
    that judges samples beside those of `many`."""

    scale: Scale
    largest: int
    labeled: int = 0
    style: bool = False
    person: bool = False

    def runs(self) -> list[Run]:
        """All, those that others need first, each once."""
        found: dict[Run, None] = {}
        for run in self._wanted():
            for needed in [*self._closure(run), run]:
                found.setdefault(needed)
        return list(found)

    def _wanted(self) -> Iterator[Run]:
        scale = self.scale
        counts = [count for count in scale.labels if count <= self.largest]
        main = self.main
        yield from self.judges()
        for draw in range(scale.draws):
            for count in counts:
                for method in COMPARED:
                    if method != "transfer" or self.style:
                        yield self.compared(method, count, draw)
                yield Run("prelabeler", count, draw)
            yield Run("inversion", main, draw)
        for count in scale.curve:
            yield self.student(main, 0, count, DROP)
        for drop in scale.drops:
            yield self.student(main, 0, scale.synthetic, drop)
        if self.judged:
            yield Run("calibration", main)
            yield Run("ensemble", main)
        yield replace(self.compared("student", main, 0), method="protocol")
        yield from self._causes()

    def _causes(self) -> Iterator[Run]:
        """Students that differ in one thing, where there is what they need."""
        possible = {
            "generated_only": True,
            "judged_labels": self.judged,
            "rendered_pictures": self.labeled > 0,
        }
        student = self.compared("student", self.main, 0)
        for method in CAUSES:
            if self.scale.causes and possible[method]:
                yield replace(student, method=method)

    @property
    def judged(self) -> bool:
        """Whether there is something that labels samples in a person's place."""
        return self.person or bool(self.judges())

    @property
    def main(self) -> int:
        """The count of labels that finer comparisons are made with."""
        counts = [count for count in self.scale.labels if count <= self.largest]
        return LABELS if LABELS in counts else max(counts)

    def judges(self) -> list[Run]:
        """Networks of many labels; the last one has the most."""
        counts = sorted({min(count, self.labeled) for count in self.scale.many})
        return [Run("many", count) for count in counts if count]

    def compared(self, method: str, count: int, draw: int) -> Run:
        if method == "student":
            return self.student(count, draw, self.scale.synthetic, DROP)
        return Run(method, count, draw)

    def student(self, count: int, draw: int, synthetic: int, drop: float) -> Run:
        return Run("student", count, draw, synthetic, drop)

    def needs(self, run: Run) -> list[Run]:
        """Runs whose files it reads."""
        version = Run("version", run.labels, run.draw)
        if run.method == "transfer":
            return [Run("pretrained")]
        if run.method in ("samples", "prelabeler", "inversion"):
            return [version]
        if run.method in ("calibration", "ensemble"):
            return [version, *self.judges()[-1:]]
        if run.synthetic:
            judge = self.judges()[-1:] if run.method == "judged_labels" else []
            return [*self.samples(run), version, *judge]
        return []

    def samples(self, run: Run) -> list[Run]:
        """The parts of a student's data set."""
        wanted = run.synthetic
        while wanted - int(wanted * run.drop) < run.synthetic:
            wanted += 1
        parts = -(-wanted // self.scale.part)
        return [Run("samples", run.labels, run.draw, part=part) for part in range(parts)]

    def _closure(self, run: Run) -> Iterator[Run]:
        for needed in self.needs(run):
            yield from self._closure(needed)
            yield needed
