"""Commands that make generators, and what generators lack: encoders, backbones."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.fitting import label_side
from dgan_backend.generators import checkpoints, load_generator
from dgan_backend.generators.native import read_card
from dgan_backend.generators.references import generator_folder, shipped_generators
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.inversion.native import load_encoder
from dgan_backend.student.native import load_backbone
from dgan_backend.training.backbone import BackboneSettings
from dgan_backend.training.encoder import EncoderPlan
from dgan_backend.training.preparation import Preparation
from dgan_backend.training.running import (
    STOPPED,
    check_no_backbone,
    interruptible,
    make_backbone,
    make_encoder,
)
from dgan_backend.training.step import LossWeights
from dgan_backend.training.trainer import Plan, Trainer


def show(args: argparse.Namespace) -> int:
    """Print the cards of one generator, or the names of the shipped ones."""
    if args.generator is None:
        print("\n".join(shipped_generators()) or "no generator is shipped")
        return 0
    print(json.dumps(read_card(generator_folder(args.generator)).to_json(), indent=1))
    return 0


def train_backbone_of(args: argparse.Namespace) -> int:
    """Train the backbone of a generator; a checkpoint is written every minute."""
    generator = load_generator(args.generator, args.device)
    encoder = load_encoder(args.generator, args.device)[0] if args.images else None
    turns = args.turns or generator.card.turns
    settings = BackboneSettings(
        pictures=args.pictures,
        minutes=args.minutes,
        side=label_side(generator.resolution),
        turns=turns,
        seed=args.seed,
    )
    begin = load_backbone(args.init, args.device) if args.init else None
    if begin is not None and not begin.trained:
        raise DganError(f"{args.init} has no backbone to go on with.")
    if begin is None and not args.pictures:
        raise DganError("there is nothing to do: --pictures is 0 and there is no --init.")
    out = args.out or _own_folder(args.generator)
    if begin is None:
        check_no_backbone(out)
    return 0 if make_backbone(generator, encoder, args.images, settings, out, begin) else STOPPED


def prepare(args: argparse.Namespace) -> int:
    """Import, encoder and backbone in one; what was done is skipped, what was stopped goes on."""
    if args.out is None and Path(args.generator).is_file():
        raise DganError(f"say with --out which folder {args.generator} is to be prepared in.")
    preparation = Preparation(
        source=args.generator,
        out=(args.out or _own_folder(args.generator)).resolve(),
        images=args.images,
        minutes=args.minutes,
        encoder=args.encoder_pictures,
        backbone=args.backbone_pictures,
        mirror=not args.no_mirror,
        turns=args.turns,
        licence=args.licence,
        label=args.label,
        average=args.average,
        device=args.device,
        seed=args.seed,
    )
    if not preparation.run():
        print("the same command goes on from here")
        return STOPPED
    place = preparation.out.resolve()
    print(f"""{preparation.out} is ready. In Label Studio, the extra params of the model become
    {json.dumps({"generator": str(place)})}
and what was labeled so far is learned anew on it. Without Label Studio:
    dgan-backend sample --generator {place} --sheet samples.png
    dgan-backend fit PAIRS --generator {place} --partonomy TREE.yaml --out v1""")
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
        turns=args.turns,
    )
    size = card.architecture.resolution
    print(f"{args.out}: the generator {card.name}, {size} px, from {card.training['imported']}")
    for note in card.training["notes"]:
        print(note)
    if card.licence:
        print(f"Licence: {card.licence}")
    print(
        "It has no encoder and no backbone: masks take more labels so. `dgan-backend generator "
        f"prepare {args.out}` gives it both."
    )
    return 0


def train_encoder(args: argparse.Namespace) -> int:
    """Train the encoder of a generator, and write it also where that is stopped."""
    generator = load_generator(args.generator, args.device)
    plan = EncoderPlan(
        out=(args.out or _own_folder(args.generator)).resolve(),
        images=args.images,
        pictures=args.pictures,
        minutes=args.minutes,
        batch=args.batch,
        rate=args.rate,
        mirror=not args.no_mirror,
        turns=args.turns or generator.card.turns,
        seed=args.seed,
    )
    return 0 if make_encoder(generator, plan, also_stopped=True) else STOPPED


def _own_folder(name: str) -> Path:
    """Where a generator's parts are written to by default; shipped ones stay as they are."""
    if name in shipped_generators():
        raise DganError(f"{name} is shipped and stays as it is; say where to write with --out.")
    return generator_folder(name)


def train_generator(args: argparse.Namespace) -> int:
    """Train a StyleGAN2 with its encoder on a folder of pictures; resumes what is in --out.

    SIGINT and SIGTERM end it in order: checkpoint, generator, calibrated encoder.
    """
    interruptible()
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
