"""Commands that make generators, and what generators lack: encoders, backbones."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from dgan_backend.errors import DganError
from dgan_backend.fitting import label_side
from dgan_backend.generators import checkpoints, load_generator
from dgan_backend.generators.native import read_card
from dgan_backend.generators.references import generator_folder, shipped_generators
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.inversion.native import load_encoder
from dgan_backend.pictures import contact_sheet, save_picture, to_pictures
from dgan_backend.student.native import Backbone, load_backbone, save_backbone
from dgan_backend.student.unet import Trunk
from dgan_backend.training.backbone import (
    BackboneSettings,
    measure_familiarity,
    train_backbone,
)
from dgan_backend.training.encoder import EncoderPlan, EncoderTraining
from dgan_backend.training.pictures import PictureFolder
from dgan_backend.training.step import LossWeights
from dgan_backend.training.trainer import Plan, Trainer

_KEEP_SECONDS = 60.0
_SHOWN = 12
_HELD_BACK = 512  # pictures that a backbone's familiarity is measured on, not trained on


def show(args: argparse.Namespace) -> int:
    """Print the cards of one generator, or the names of the shipped ones."""
    if args.generator is None:
        print("\n".join(shipped_generators()) or "no generator is shipped")
        return 0
    print(json.dumps(read_card(generator_folder(args.generator)).to_json(), indent=1))
    return 0


def train_backbone_of(args: argparse.Namespace) -> int:
    """Train the backbone of a generator; --out/backbone-training is written every minute."""
    generator = load_generator(args.generator, args.device)
    encoder = load_encoder(args.generator, args.device)[0] if args.images else None
    turns = args.turns or generator.card.turns
    settings = BackboneSettings(label_side(generator.resolution), seed=args.seed, turns=turns)
    folder = PictureFolder(args.images, settings.side, _HELD_BACK) if args.images else None
    out = args.out or generator_folder(args.generator)
    unfinished = out / "backbone-training"
    unfinished.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(args.init, args.device) if args.init else None
    if backbone is not None and not backbone.trained:
        raise DganError(f"{args.init} has no backbone to go on with.")
    began = time.monotonic()

    def keep(seen: int, loss: float, trunk: Trunk) -> None:
        nonlocal backbone
        minutes = round((time.monotonic() - began) / 60, 1)
        note = {"generator": generator.id, "pictures": seen, "minutes": minutes, "loss": loss}
        backbone = Backbone(trunk.config, trunk.state_dict(), settings.side, None, note)
        save_backbone(unfinished, backbone)
        tqdm.write(f"{seen} pictures, {minutes} minutes, loss {loss:.4f}")

    if args.pictures:
        train_backbone(
            generator,
            encoder,
            folder,
            settings,
            pictures=args.pictures,
            begin=backbone.tensors if backbone else None,
            report=keep,
            progress=partial(_bar, "learning"),
        )
    if backbone is None:
        raise DganError("there is nothing to do: --pictures is 0 and there is no --init.")
    if folder is not None:
        known = measure_familiarity(backbone.trunk, generator, folder, settings)
        backbone = replace(backbone, familiarity=known)
    save_backbone(out, backbone)
    shutil.rmtree(unfinished)
    print(f"{out}: a backbone for {generator.id}; `fit` makes students with it")
    if folder is None:
        print("without --images nothing says what is familiar: foreign pictures get a score, too")
    return 0


def import_generator(args: argparse.Namespace) -> int:
    """Make a native folder of a file; print what was found and what was assumed."""
    card = checkpoints.import_generator(
        args.file,
        args.out,
        name=args.name,
        licence=args.licence,
        label=args.label,
        average=args.average,
    )
    size = card.architecture.resolution
    print(f"{args.out}: the generator {card.name}, {size} px, from {card.training['imported']}")
    for note in card.training["notes"]:
        print(note)
    if card.licence:
        print(f"Licence: {card.licence}")
    print(
        "It has no encoder yet: projects learn from its samples alone. `dgan-backend generator "
        f"encoder train {args.out}` gives it one; `dgan-backend generator backbone {args.out}` "
        "lets it label pictures from outside."
    )
    return 0


def train_encoder(args: argparse.Namespace) -> int:
    """Train the encoder of a generator; a checkpoint is written every minute."""
    _interruptible()
    generator = load_generator(args.generator, args.device)
    out = args.out or _own_folder(args.generator)
    plan = EncoderPlan(
        out=out,
        images=args.images,
        pictures=args.pictures,
        minutes=args.minutes,
        batch=args.batch,
        rate=args.rate,
        mirror=not args.no_mirror,
        turns=args.turns or generator.card.turns,
        seed=args.seed,
    )
    training = EncoderTraining(generator, plan)
    where = f"resumed after {training.seen} pictures" if training.resumed else "a new encoder"
    what = f"{len(training.folder)} pictures of {args.images}" if training.folder else "no pictures"
    print(f"{where} for {generator.id}: from its samples and {what}; sheets go to {out}")
    _go_through(training)
    _write_reconstructions(training)
    known = training.finish(partial(tqdm, desc="measuring errors"))[1]
    print(
        f"{out}: an encoder; inversions of {training.measured()[1]} are off by {known.median:.3f} "
        f"at the median, and what is off by more than {known.limit:.3f} counts as foreign"
    )
    if training.folder is None:
        print("without --images the limit is that of samples; pictures may seem foreign too soon")
    return 0


def _go_through(training: EncoderTraining) -> None:
    """To the plan's end, or Ctrl-C; checkpoint and sheet now and then."""
    kept = time.monotonic()
    with tqdm(total=training.plan.pictures, initial=training.seen, unit="picture") as bar:
        try:
            while not training.done:
                losses = training.step()
                bar.update(training.batch)
                bar.set_postfix_str(" ".join(f"{k} {v:.3f}" for k, v in losses.items()))
                if time.monotonic() - kept > _KEEP_SECONDS:
                    kept = time.monotonic()
                    training.keep()
                    _write_reconstructions(training)
        except KeyboardInterrupt:
            tqdm.write("stopped; what it has learned so far is kept")


def _write_reconstructions(training: EncoderTraining) -> None:
    """Two rows, pictures and what the encoder makes of them."""
    shown = training.measured()[0][:_SHOWN]
    rows = [list(to_pictures(part)) for part in (shown, training.reconstructed(shown))]
    save_picture(training.plan.out / "encoder-sheet.png", contact_sheet(rows))


def _own_folder(name: str) -> Path:
    """Where a generator's parts are written to by default; shipped ones stay as they are."""
    if name in shipped_generators():
        raise DganError(f"{name} is shipped and stays as it is; say where to write with --out.")
    return generator_folder(name)


def _interruptible() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # also for a job in the background
        signal.signal(number, signal.default_int_handler)


def train_generator(args: argparse.Namespace) -> int:
    """Train a StyleGAN2 with its encoder on a folder of pictures; resumes what is in --out.

    SIGINT and SIGTERM end it in order: checkpoint, generator, calibrated encoder.
    """
    _interruptible()
    trainer = Trainer(_plan(args))
    where = f"resumed after {trainer.seen} pictures" if trainer.resumed else "a new training"
    print(
        f"{where}: {len(trainer.pictures)} pictures of {args.images}, {args.resolution} px, "
        f"augmentation {'on' if trainer.adaptive else 'off'}; sheets and log go to {args.out}"
    )
    trainer.run()
    print(f"the generator is {args.out / args.name}; use it by that path")
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    architecture = StyleGAN2Config(
        resolution=args.resolution,
        z_dim=args.z_dim,
        w_dim=args.z_dim,
        mapping_layers=4,
        channels=tuple(args.channels) if args.channels else (),
        channel_base=args.resolution * 32,
        channel_max=128,
    )
    return Plan(
        images=args.images,
        out=args.out,
        architecture=architecture,
        name=args.name,
        pictures=args.pictures,
        minutes=args.minutes,
        batch=args.batch,
        rate=args.rate,
        start_resolution=min(args.start_resolution, args.resolution),
        grow_at=tuple(args.grow_at),
        mirror=not args.no_mirror,
        turns=args.turns,
        augment=args.augment,
        bf16=args.bf16,
        device=args.device,
        seed=args.seed,
        measure_every=args.measure_every,
        losses=LossWeights(r1=args.r1),
        licence=args.licence,
        attribution=args.attribution,
        init=args.init,
        init_discriminator=args.init_discriminator,
    )


def _bar(what: str, steps: Iterable[int]) -> Iterable[int]:
    return tqdm(steps, desc=what, unit="step")
