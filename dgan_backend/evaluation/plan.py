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
    "prelabeler": "what fit makes (U-Nets)",
    "inversion": "interpreter on inverted pictures",
    "many": "fully supervised",
    "generated_only": "student: generated alone",
    "judged_labels": "student: samples labeled by the judge",
    "judged_pictures": "student: real pictures labeled by the judge",
    "true_pictures": "student: real pictures with true labels",
    "networks_labels": "student: samples labeled by the version's U-Nets",
    "real_pictures": "student: real pictures labeled by the version",
    "both_sources": "student: a third each of these two and of the labels",
}
CAUSES = ("generated_only", "judged_labels", "judged_pictures", "true_pictures")
_JUDGED = ("judged_labels", "judged_pictures")
ATTEMPTS = ("networks_labels", "real_pictures", "both_sources")  # to close the gap
_REAL = ("real_pictures", "both_sources", "judged_pictures", "true_pictures")
DROP = 0.1
LONG = 4  # times the pictures of a training, on the curve over generated pictures


@dataclass(frozen=True, order=True)
class Run:
    """One thing to fit and measure. labels: how many; 0 where none are drawn. synthetic, drop: of
    the generated pictures. part: of the samples. times: as long a training as the method's own."""

    method: str
    labels: int = 0
    draw: int = 0
    synthetic: int = 0
    drop: float = 0.0
    part: int = 0
    times: int = 1

    @property
    def name(self) -> str:
        told = [self.method, str(self.labels), f"draw{self.draw}"]
        if self.synthetic:
            told += [f"of{self.synthetic}", f"drop{self.drop:g}"]
        if self.method == "samples":
            told.append(f"part{self.part}")
        if self.times > 1:
            told.append(f"times{self.times}")
        return "-".join(told)


@dataclass(frozen=True)
class Scale:
    """How large a report is.

    labels: counts that curves go over, with `draws` draws each, but for those of `once`. pictures:
    seen by a network (`budget.py` has whose are more). synthetic: generated pictures that a student
    learns from; `curve` and `drops` vary that at 16 labels, the curve with LONG times as many
    pictures seen, since with fewer most of 20,000 would not be looked at. many: counts of
    labels of the fully supervised rows. rendered: labeled pictures that the examples render for
    them. part: samples made in one run, so that 20,000 need no more than are read. judged: samples
    that calibration is measured on. test: pictures measured on, None = all. members: of the
    interpreter. unet_pictures, interpreter_steps, taught: of a version's fit. epochs: at which the
    original's protocol looks. causes: whether the runs that tell causes apart are in.
    """

    labels: tuple[int, ...] = (1, 4, 16, 40)
    once: tuple[int, ...] = (40,)
    draws: int = 3
    pictures: int = 9600
    synthetic: int = 3000
    curve: tuple[int, ...] = (100, 1000, 3000, 10000, 20000)
    drops: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2)
    many: tuple[int, ...] = (100, 500, 2000)
    rendered: int = 2000
    part: int = 1710
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
    curve=(50, 200, 400),
    rendered=500,
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
        """What says most first, so that a report that is stopped early has it: each draw's rows of
        few labels, behind the first one all that is measured on it alone, attempts among it, and
        the counts that are drawn once last."""
        often = [count for count in self.counts if count not in self.scale.once]
        yield from self.many()
        for draw in range(self.scale.draws):
            for count in often:
                yield from self._row(count, draw)
                if draw == 0:
                    yield from self._attempts(count)
            if draw == 0:
                if self.main not in often:
                    yield from self._row(self.main, draw)
                yield from self._alone()
            if draw < self.draws(self.main):
                yield Run("inversion", self.main, draw)
        for count in self.counts:
            for draw in range(self.draws(count)):
                yield from self._row(count, draw)
        yield from self._long()

    def _row(self, count: int, draw: int) -> Iterator[Run]:
        for method in COMPARED:
            if method != "transfer" or self.style:
                yield self.compared(method, count, draw)
        yield Run("prelabeler", count, draw)

    def _alone(self) -> Iterator[Run]:
        """What is measured on draw 0 of the main count alone."""
        scale, main = self.scale, self.main
        if self.judged:
            yield Run("calibration", main)
            yield Run("ensemble", main)
        for drop in scale.drops:
            yield self.student(main, 0, scale.synthetic, drop)
        yield replace(self.compared("student", main, 0), method="protocol")
        yield from self._causes()

    def _long(self) -> Iterator[Run]:
        """The curve over generated pictures, and what as long a training makes of the labels."""
        if self.scale.curve:
            yield self.long_supervised()
        for count in self.scale.curve:
            yield self.long_student(count)

    def _causes(self) -> Iterator[Run]:
        """Students that differ in one thing, where there is what they need."""
        student = self.compared("student", self.main, 0)
        for method in CAUSES if self.scale.causes else ():
            judged, real = method in _JUDGED, method in _REAL
            if (self.judged or not judged) and (self.labeled or not real):
                yield replace(student, method=method)

    def _attempts(self, count: int) -> Iterator[Run]:
        """Students that learn from other labels, or other pictures, where these are there."""
        for method in ATTEMPTS:
            if self.scale.causes and (self.labeled or method not in _REAL):
                yield self.compared(method, count, 0)

    @property
    def judged(self) -> bool:
        """Whether there is something that labels samples in a person's place."""
        return self.person or self.judge() is not None

    @property
    def counts(self) -> list[int]:
        """Of labels, that a draw can hold."""
        return [count for count in self.scale.labels if count <= self.largest]

    @property
    def main(self) -> int:
        """The count of labels that finer comparisons are made with."""
        return LABELS if LABELS in self.counts else max(self.counts)

    def draws(self, count: int) -> int:
        """How often so many labels are drawn."""
        return 1 if count in self.scale.once else self.scale.draws

    def many(self) -> list[Run]:
        """Networks of many labels; the last one has the most."""
        counts = sorted({min(count, self.labeled) for count in self.scale.many})
        return [Run("many", count) for count in counts if count]

    def judge(self) -> Run | None:
        """The network that labels samples where no other is given: of the most labels, too."""
        most = self.many()[-1:]
        return None if self.person or not most else replace(most[0], method="judge")

    def compared(self, method: str, count: int, draw: int) -> Run:
        if method == "student" or method in ATTEMPTS:
            student = self.student(count, draw, self.scale.synthetic, DROP)
            return replace(student, method=method)
        return Run(method, count, draw)

    def student(self, count: int, draw: int, synthetic: int, drop: float) -> Run:
        return Run("student", count, draw, synthetic, drop)

    def long_student(self, synthetic: int) -> Run:
        """Of the curve: draw 0, and LONG times the pictures seen."""
        return replace(self.student(self.main, 0, synthetic, DROP), times=LONG)

    def long_supervised(self) -> Run:
        """What the curve is compared with: as many pictures seen, of the labels alone."""
        return replace(self.compared("supervised", self.main, 0), times=LONG)

    def watched(self, run: Run) -> bool:
        """Whether a network is also kept after each epoch, for the protocol."""
        return run == self.compared("student", self.main, 0)

    def needs(self, run: Run) -> list[Run]:
        """Runs whose files it reads."""
        version = Run("version", run.labels, run.draw)
        if run.method == "transfer":
            return [Run("pretrained")]
        if run.method in ("samples", "prelabeler", "inversion"):
            return [version]
        judge = [found] if (found := self.judge()) is not None else []
        if run.method in ("calibration", "ensemble"):
            return [version, *judge]
        if run.method == "protocol":
            return [replace(run, method="student")]
        if run.synthetic:
            return [*self.samples(run), version, *(judge if run.method in _JUDGED else [])]
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
