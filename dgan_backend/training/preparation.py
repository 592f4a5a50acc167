"""A generator of any origin -> a folder with all that it can have: generator, encoder, backbone.

Each step is skipped where it was done, and goes on where it was stopped: what lies in the folder
says which.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.fitting import label_side
from dgan_backend.generators import Generator, load_generator
from dgan_backend.generators.checkpoints import hash_of, import_generator
from dgan_backend.generators.native import (
    CARD,
    WEIGHTS,
    GeneratorCard,
    read_card,
    trained_for,
    write_json,
)
from dgan_backend.generators.references import generator_folder
from dgan_backend.inversion.native import CARD as ENCODER_CARD
from dgan_backend.inversion.native import WEIGHTS as ENCODER_WEIGHTS
from dgan_backend.inversion.native import load_encoder
from dgan_backend.student.native import CARD as BACKBONE_CARD
from dgan_backend.student.native import WEIGHTS as BACKBONE_WEIGHTS
from dgan_backend.training.backbone import BackboneSettings, BackboneTraining
from dgan_backend.training.encoder import CHECKPOINT as ENCODER_CHECKPOINT
from dgan_backend.training.encoder import EncoderPlan, EncoderTraining
from dgan_backend.training.pictures import PictureFolder
from dgan_backend.training.running import (
    BACKBONE_CHECKPOINT,
    Training,
    make_backbone,
    make_encoder,
    measure_encoder,
    seconds_a_picture,
)

_FILES = (CARD, WEIGHTS, ENCODER_CARD, ENCODER_WEIGHTS, BACKBONE_CARD, BACKBONE_WEIGHTS)
_ENCODER_SHARE = 2 / 3  # of the time
_FEW = 5000  # pictures; what has seen fewer is poor


@dataclass(frozen=True)
class Preparation:
    """source: a file of another project, a native folder, or a shipped name. out: the folder to
    make. images: unlabeled pictures of the domain. encoder, backbone: pictures that they see at
    most. minutes: of computing, for both together (0 = only numbers of pictures count). turns:
    pictures have no up, which is then said on the card. label, average: of a file, see
    `import_generator`.
    """

    source: str
    out: Path
    images: Path | None = None
    minutes: float = 90.0
    encoder: int = 100_000
    backbone: int = 60_000
    mirror: bool = True
    turns: bool = False
    licence: str = ""
    label: int | None = None
    average: Path | None = None
    device: str = "cpu"
    seed: int = 0

    def run(self) -> bool:
        """All steps that are not done; returns whether they are done now, and were not stopped.

        Raises DganError when the source cannot be used, or `out` is of another generator; then
        nothing was written.
        """
        if self.images is not None:
            PictureFolder(self.images, 8, 0)  # refused before anything is computed
        self._check_file()
        self._step(1, "the generator", self._imported(), self._import)
        self._tell_licence()
        generator = load_generator(self.out, self.device)
        self._tell_times(generator)
        steps: list[tuple[str, bool, Callable[[], bool]]] = [
            ("the encoder", self._encoded(), lambda: self._encode(generator)),
            ("the backbone", self._taught(), lambda: self._teach(generator)),
        ]
        self._tell_unused()
        return all(self._step(n, *step) for n, step in enumerate(steps, 2))

    @staticmethod
    def _step(number: int, what: str, done: bool, do: Callable[[], bool]) -> bool:
        print(f"{number} of 3: {what}{' is there already' if done else ''}", flush=True)
        return done or do()

    def _check_file(self) -> None:
        given = {"--class": self.label is not None, "--average": self.average is not None}
        told = " and ".join(name for name, is_given in given.items() if is_given)
        if told and not Path(self.source).is_file():
            raise DganError(f"{told} are for files of other projects; {self.source} is none.")

    def _imported(self) -> bool:
        """Whether the generator is in `out`; raises DganError when something else is."""
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return False
        if not self.out.is_dir():
            raise DganError(f"{self.out} is a file; --out names a folder to make.")
        card = read_card(self.out)
        if not self._is(card):
            raise DganError(f"{self.out} is of another generator, {card.id}; choose another --out.")
        if self.turns and not card.turns:
            raise DganError(
                f"the card of {self.out} says that its pictures have an up; leave out --turns, or "
                "choose another --out."
            )
        return True

    def _is(self, card: GeneratorCard) -> bool:
        if (path := Path(self.source)).is_file():
            return bool(card.training.get("file_sha256") == hash_of(path))
        return read_card(generator_folder(self.source)).id == card.id

    def _import(self) -> bool:
        """Whole or not at all."""
        partial = self.out.with_name(f".{self.out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            if (path := Path(self.source)).is_file():
                card = import_generator(
                    path, partial, licence=self.licence, label=self.label, average=self.average
                )
                for note in card.training["notes"]:
                    print(note)
            else:
                card = _copied(generator_folder(self.source), partial)
            if self.turns:
                card = replace(card, training={**card.training, "turns": True})
            if self.licence:
                card = replace(card, licence=self.licence)
            write_json(partial / CARD, card.to_json())
            partial.rename(self.out)
        except OSError as error:
            raise DganError(f"{self.out} cannot be written ({error}).") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        licence = f" Licence: {card.licence}" if card.licence else ""
        print(f"{self.out}: {card.id}, {card.architecture.resolution} px.{licence}")
        return True

    def _tell_licence(self) -> None:
        """One that is given later is for the card as well."""
        card = read_card(self.out)
        if self.licence and card.licence != self.licence:
            write_json(self.out / CARD, replace(card, licence=self.licence).to_json())
            print(f"  its licence is {self.licence!r} now; it was {card.licence!r}")

    def _tell_unused(self) -> None:
        """Pictures that nothing will learn from, as what was trained without them is kept."""
        if self.images is None:
            return
        done = {ENCODER_CARD: self._encoded(), BACKBONE_CARD: self._taught()}
        without = [
            self.out / name
            for name, is_done in done.items()
            if is_done and _told_of(self.out / name).get("pictures_in_set") == 0
        ]
        if without:
            names = " and ".join(map(str, without))
            print(f"  trained without --images before; remove {names} to train with them")

    def _encoded(self) -> bool:
        """One of this generator whose errors were measured, which is the last that is done."""
        measured = _card(self.out / ENCODER_CARD).get("in_domain_errors")
        return bool(measured) and self._fits(ENCODER_CARD)

    def _unmeasured(self) -> bool:
        """Whether an encoder was trained by another command, which ended before it measured it."""
        checkpoint = self.out / ENCODER_CHECKPOINT
        return self._fits(ENCODER_CARD) and not self._encoded() and not checkpoint.is_file()

    def _taught(self) -> bool:
        return self._fits(BACKBONE_CARD)

    def _fits(self, name: str) -> bool:
        """Whether a part is there, and was trained for the generator as it is now."""
        if not _card(self.out / name):
            return False
        return trained_for(self.out, str(_told_of(self.out / name).get("generator", "")))

    def _tell_times(self, generator: Generator) -> None:
        """How long each takes that is not done; they are tried for that."""
        plan, settings = self._plan(generator), self._settings(generator)
        if not self._encoded() and not self._unmeasured():
            _tell_time("encoder", EncoderTraining(generator, plan), plan.minutes)
        if not self._taught():
            _tell_time("backbone", self._backbone(generator), settings.minutes)

    def _plan(self, generator: Generator) -> EncoderPlan:
        return EncoderPlan(
            out=self.out,
            images=self.images,
            pictures=self.encoder,
            minutes=self.minutes * _ENCODER_SHARE,
            mirror=self.mirror,
            turns=generator.card.turns,
            seed=self.seed,
        )

    def _settings(self, generator: Generator) -> BackboneSettings:
        return BackboneSettings(
            pictures=self.backbone,
            minutes=self.minutes * (1 - _ENCODER_SHARE),
            side=label_side(generator.resolution),
            turns=generator.card.turns,
            seed=self.seed,
        )

    def _backbone(self, generator: Generator) -> BackboneTraining:
        settings, checkpoint = self._settings(generator), self.out / BACKBONE_CHECKPOINT
        return BackboneTraining(generator, settings, checkpoint=checkpoint)

    def _encode(self, generator: Generator) -> bool:
        if self._unmeasured():
            return measure_encoder(generator, self._plan(generator))
        return make_encoder(generator, self._plan(generator), also_stopped=False)

    def _teach(self, generator: Generator) -> bool:
        trained = load_encoder(self.out, self.device)[0]
        settings = self._settings(generator)
        return make_backbone(generator, trained, self.images, settings, self.out)


def _card(path: Path) -> dict[str, Any]:
    """{} where there is none that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _told_of(path: Path) -> dict[str, Any]:
    """How what a card is of was trained."""
    return dict(_card(path).get("training") or {})


def _copied(folder: Path, to: Path) -> GeneratorCard:
    """A native generator, with what else it has."""
    card = read_card(folder)
    to.mkdir(parents=True)
    for name in _FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, to / name)
    return card


def _tell_time(what: str, training: Training, minutes: float) -> None:
    """minutes: that it may take (0 = as long as its pictures do); `training` is not kept."""
    seen, total = training.seen, training.total
    seconds = seconds_a_picture(training)
    left = max(0.0, minutes * 60 - training.seconds) if minutes else math.inf
    most = min(total - seen, left / seconds)
    print(f"the {what} is to see {most:.0f} pictures, in about {_told(most * seconds / 60)}")
    if seen + most < min(total, _FEW):
        print("  that is few; give it more --minutes, or compute on a GPU with --device cuda")


def _told(minutes: float) -> str:
    if minutes < 2:
        return f"{minutes * 60:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
