"""Trainings of what generators lack, in front of somebody: a bar, checkpoints, Ctrl-C, a result."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from tqdm import tqdm

from dgan_backend.errors import DganError
from dgan_backend.generators import Generator
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.native import InDomainErrors, load_encoder, save_encoder
from dgan_backend.pictures import contact_sheet, save_picture, to_pictures
from dgan_backend.student.native import CARD as BACKBONE_CARD
from dgan_backend.student.native import Backbone, load_backbone, save_backbone
from dgan_backend.training.backbone import BackboneSettings, BackboneTraining
from dgan_backend.training.calibration import (
    in_domain_errors,
    inversion_errors,
    measured_count,
    measured_on,
    unseen_pictures,
)
from dgan_backend.training.encoder import EncoderPlan, EncoderTraining, held_back
from dgan_backend.training.familiarity import measure_familiarity
from dgan_backend.training.pictures import PictureFolder

HELD_BACK = 512  # pictures that a backbone's familiarity is measured on, not trained on
BACKBONE_CHECKPOINT = "backbone-checkpoint.pt"
STOPPED = 130  # exit status of what Ctrl-C ended, as of a shell
_KEEP_SECONDS = 60.0
_SHOWN = 12


class Training(Protocol):
    """What goes step by step. seen, total: pictures so far, and in all if no time ends it sooner.
    seconds: that it took. progress: how much of it is over; it is done from 1 on."""

    seen: int
    seconds: float

    @property
    def total(self) -> int: ...
    @property
    def progress(self) -> float: ...
    @property
    def done(self) -> bool: ...
    def step(self) -> dict[str, float]: ...
    def keep(self) -> None: ...


def seconds_a_picture(training: Training) -> float:
    """What a step takes, by two of them after one to warm up; the training has gone on by them."""
    training.step()
    began, seen = time.monotonic(), training.seen
    training.step()
    training.step()
    return (time.monotonic() - began) / (training.seen - seen)


def go_through(training: Training, what: str, show: Callable[[], None] = lambda: None) -> bool:
    """To its end, or to Ctrl-C or SIGTERM: False then. What it has learned is kept every minute
    and at the end. show: called when it is kept."""
    interruptible()
    kept, seen = time.monotonic(), training.seen
    with tqdm(total=training.total, initial=seen, unit="picture", desc=what) as bar:
        try:
            while not training.done:
                losses = training.step()
                bar.update(training.seen - seen)
                seen = training.seen
                bar.total = max(seen, round(seen / training.progress))
                bar.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in losses.items()))
                if time.monotonic() - kept > _KEEP_SECONDS:
                    training.keep()
                    show()
                    kept = time.monotonic()  # what is shown may take long, too
        except KeyboardInterrupt:
            tqdm.write("stopped; what it has learned so far is kept")
            training.keep()
            return False
    training.keep()
    return True


def interruptible() -> None:
    """SIGTERM does what Ctrl-C does, and both also do in a job in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def make_encoder(generator: Generator, plan: EncoderPlan, *, also_stopped: bool) -> bool:
    """Train an encoder and measure its errors; a checkpoint is written every minute.

    also_stopped: measure and write it also where it was stopped. Returns whether it was written.
    """
    training = EncoderTraining(generator, plan)
    where = f"resumed after {training.seen} pictures" if training.resumed else "a new encoder"
    what = f"{len(training.folder)} pictures of {plan.images}" if training.folder else "no pictures"
    print(f"{where} for {generator.id}: from its samples and {what}; sheets go to {plan.out}")
    show = partial(_write_reconstructions, training)
    if not go_through(training, "encoder", show) and not also_stopped:
        return False
    _write_reconstructions(training)
    try:
        known = training.finish(_measuring)[1]
    except KeyboardInterrupt:
        tqdm.write("stopped; what was measured so far is kept")
        return False
    _tell_errors(plan, known)
    return True


def measure_encoder(generator: Generator, plan: EncoderPlan) -> bool:
    """Measure the errors of an encoder that a training left without; returns whether it has."""
    encoder, folder = load_encoder(plan.out, str(generator.device))[0], held_back(generator, plan)
    images = unseen_pictures(generator, folder, measured_count(generator.resolution))
    found = inversion_errors(generator, encoder, images, plan.inversion, _measuring)
    interruptible()
    try:
        known = in_domain_errors(list(chain.from_iterable(found)))
    except KeyboardInterrupt:
        return False
    about = {"generator": generator.id, "errors_of": measured_on(folder)}
    save_encoder(plan.out, encoder, known, training=about)
    _tell_errors(plan, known)
    return True


def _measuring(batches: list[Tensor]) -> Iterable[Tensor]:
    return tqdm(batches, desc="measuring errors", unit="batch")


def _tell_errors(plan: EncoderPlan, known: InDomainErrors) -> None:
    what = measured_on(plan.images)
    print(
        f"{plan.out}: an encoder; inversions of {what} are off by {known.median:.3f} at the "
        f"median, and what is off by more than {known.limit:.3f} counts as foreign"
    )
    if plan.images is None:
        print("without --images the limit is that of samples; pictures may seem foreign too soon")


def check_no_backbone(out: Path) -> None:
    """Raises DganError where a training would replace a backbone that versions may stand on."""
    if (out / BACKBONE_CHECKPOINT).is_file():
        return
    there = load_backbone(out)
    if there.trained and not there.beside:
        raise DganError(
            f"{out} has a backbone already, and versions learned on it may be in use; train it on "
            f"with --init {out}, or remove {out / BACKBONE_CARD} to make another."
        )


def make_backbone(
    generator: Generator,
    encoder: Encoder | None,
    images: Path | None,
    settings: BackboneSettings,
    out: Path,
    begin: Backbone | None = None,
) -> bool:
    """Train a backbone, or only measure what is familiar to `begin` where `settings` has no
    pictures to see; a checkpoint is written every minute. Returns whether it came to its end."""
    folder = PictureFolder(images, settings.side, HELD_BACK) if images else None
    checkpoint, made = out / BACKBONE_CHECKPOINT, begin
    if settings.pictures:
        training = BackboneTraining(
            generator,
            settings,
            encoder=encoder if folder else None,
            folder=folder,
            begin=begin.tensors if begin else None,
            checkpoint=checkpoint,
        )
        where = f"resumed after {training.seen} pictures" if training.resumed else "a new backbone"
        print(f"{where} for {generator.id}")
        if not go_through(training, "backbone"):
            return False
        trunk, minutes = training.finish(), round(training.seconds / 60, 1)
        note: dict[str, Any] = {
            "generator": generator.id,
            "pictures": training.seen,
            "pictures_in_set": len(folder) if folder else 0,
            "minutes": minutes,
            "loss": training.loss,
        }
        made = Backbone(trunk.config, trunk.state_dict(), settings.side, None, note)
    assert made is not None  # or there were nothing to do
    if folder is not None:
        known = measure_familiarity(made.trunk, generator, folder, settings)
        made = Backbone(made.config, made.tensors, made.side, known, made.training)
    out.mkdir(parents=True, exist_ok=True)
    save_backbone(out, made)
    checkpoint.unlink(missing_ok=True)
    print(f"{out}: a backbone for {generator.id}; students begin with it")
    if folder is None:
        print("without --images nothing says what is familiar: foreign pictures get a score, too")
    return True


def _write_reconstructions(training: EncoderTraining) -> None:
    """Two rows, pictures and what the encoder makes of them."""
    shown = training.measured(_SHOWN)
    rows = [list(to_pictures(part)) for part in (shown, training.reconstructed(shown))]
    save_picture(training.plan.out / "encoder-sheet.png", contact_sheet(rows))
