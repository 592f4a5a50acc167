"""Commands on generators: show, import, train, prepare, encoder, backbone. They compute in
training/commands.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dgan_backend import arguments
from dgan_backend.arguments import add_device, minutes, natural, positive, seed

_DESCRIPTION = """
Reads NVIDIA's pickles of StyleGAN2 (PyTorch, TensorFlow) and StyleGAN3, .pt files of rosinality's
StyleGAN2 or of encoders made for it (pSp, e4e, ReStyle), and of DatasetGAN's StyleGAN1; writes a
native folder. Nothing of a file is run: what else is in it is left alone, or the file is refused.

Every option that takes a generator takes such a file as well. It is then converted once and kept
in MODEL_DIR/generators, by the file's SHA-256; delete that folder to have it converted anew.

Where the licence says non-commercial, `sample` and `push` repeat it.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    generator = commands.add_parser("generator", help="look at generators, import or train them")
    actions = generator.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print a generator's card")
    show.add_argument("generator", nargs="?", help="name, folder or file [list the shipped ones]")
    show.set_defaults(run=partial(_run, "show"))
    _add_import_command(actions)
    train = actions.add_parser(
        "train", help="train StyleGAN2 with its inversion encoder on a folder of pictures"
    )
    train.add_argument("--images", type=Path, required=True, help="folder of pictures")
    train.add_argument("--out", type=Path, required=True, help="resumed when it has a checkpoint")
    train.add_argument("--name", default="generator", help="[%(default)s]")
    train.add_argument("--resolution", type=int, default=64, help="[%(default)s]")
    train.add_argument("--start-resolution", type=int, default=32, help="[%(default)s]")
    train.add_argument(
        "--grow-at",
        type=int,
        nargs="*",
        default=[20_000, 80_000],
        help="pictures seen when the resolution doubles [20000 80000]",
    )
    train.add_argument("--pictures", type=positive, default=200_000, help="to see [%(default)s]")
    train.add_argument("--minutes", type=minutes, default=0, help="stop after these [no limit]")
    train.add_argument("--batch", type=positive, default=16, help="[%(default)s]")
    train.add_argument("--rate", type=float, default=0.002, help="of Adam [%(default)s]")
    train.add_argument("--r1", type=float, default=0.3, help="gradient penalty [%(default)s]")
    train.add_argument("--z-dim", type=positive, default=128, help="[%(default)s]")
    train.add_argument(
        "--channels", type=positive, nargs="*", help="one a block from 4 px on [by resolution]"
    )
    train.add_argument("--init", default="", help="generator (name, folder or file) to begin with")
    train.add_argument(
        "--init-discriminator", type=Path, help="discriminator.safetensors of that training"
    )
    train.add_argument("--no-mirror", action="store_true", help="left and right differ in meaning")
    train.add_argument(
        "--turns", action="store_true", help="pictures have no up: all eight symmetries"
    )
    train.add_argument(
        "--augment", choices=("auto", "on", "off"), default="auto", help="auto: below 5000 pictures"
    )
    train.add_argument(
        "--bf16", choices=("auto", "on", "off"), default="auto", help="auto: where it is fast"
    )
    train.add_argument("--measure-every", type=positive, default=5000, help="[%(default)s]")
    add_device(train)
    train.add_argument("--seed", type=seed, default=0, help="[%(default)s]")
    train.add_argument("--licence", default="", help="of the pictures, for the card")
    train.add_argument("--attribution", default="", help="of the pictures, for the card")
    train.set_defaults(run=partial(_run, "train_generator"))
    _add_prepare_command(actions)
    _add_encoder_command(actions)
    _add_backbone_command(actions)


def _add_import_command(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = actions.add_parser(
        "import",
        help="make a generator file of another project one of ours",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", type=Path, help=".pkl, .pt or .pth")
    command.add_argument("--out", type=Path, required=True, help="the native folder to write")
    command.add_argument("--name", default="", help="[the file's]")
    _add_card_arguments(command)
    command.set_defaults(run=_import)


def _add_card_arguments(command: argparse.ArgumentParser) -> None:
    """What a file does not tell of itself."""
    command.add_argument(
        "--licence", default="", metavar="TEXT", help="for the card [what is known of the format]"
    )
    command.add_argument(
        "--class",
        dest="label",
        type=int,
        metavar="N",
        help="make one class of a conditional one only [each seed has one]",
    )
    command.add_argument(
        "--average",
        type=Path,
        metavar="NPY",
        help="average latent where the file has none [the mean of 8,000 samples]",
    )
    command.add_argument(
        "--turns", action="store_true", help="pictures have no up: for the card, which all follow"
    )


def _add_prepare_command(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = actions.add_parser(
        "prepare",
        help="import a generator and train all that it lacks, in one go",
        description="Import, encoder and backbone, as `import`, `encoder train` and `backbone` do "
        "them. Says first how long each takes. What was done is skipped, what was stopped goes on "
        "with the same command.",
    )
    command.add_argument(
        "generator", help="a file as for `import`, a generator's folder, or a name"
    )
    command.add_argument("--out", type=Path, help="folder to make [a folder's own]")
    command.add_argument(
        "--images", type=Path, help="of the domain, unlabeled, a folder [samples alone]"
    )
    command.add_argument(
        "--minutes",
        type=minutes,
        default=90,
        help="of computing, for encoder and backbone together; 0: no limit [%(default)s]",
    )
    for name, most in (("encoder", 100_000), ("backbone", 60_000)):
        command.add_argument(
            f"--{name}-pictures",
            type=positive,
            default=most,
            help="that it sees at most [%(default)s]",
        )
    command.add_argument(
        "--no-mirror", action="store_true", help="left and right differ in meaning"
    )
    _add_card_arguments(command)
    add_device(command)
    command.add_argument("--seed", type=seed, default=0, help="[%(default)s]")
    command.set_defaults(run=partial(_run, "prepare"))


def _import(args: argparse.Namespace) -> int:
    from dgan_backend.training.commands import import_generator

    return import_generator(args)


def _add_encoder_command(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    encoder = actions.add_parser("encoder", help="what finds the latents of pictures")
    actions = encoder.add_subparsers(dest="encoder_action", required=True, metavar="ACTION")
    train = actions.add_parser(
        "train",
        help="train an encoder for a generator that has none",
        description="Learns from the generator's own samples, and from unlabeled pictures of its "
        "domain where you have some: then it reaches what samples do not show, and knows which "
        "pictures are foreign. Writes encoder.json and encoder.safetensors into --out. The same "
        "command, also with more --pictures, goes on where it stopped; delete "
        "encoder-checkpoint.pt once the encoder is good enough.",
    )
    train.add_argument("generator", help="name, or folder of a generator")
    train.add_argument("--images", type=Path, help="of the domain, a folder [samples alone]")
    train.add_argument("--out", type=Path, help="folder to write to [the generator's]")
    train.add_argument("--pictures", type=positive, default=100_000, help="to see [%(default)s]")
    train.add_argument("--minutes", type=minutes, default=0, help="stop after these [no limit]")
    train.add_argument("--batch", type=positive, default=0, help="[by the generator's resolution]")
    train.add_argument("--rate", type=float, default=0.002, help="of Adam [%(default)s]")
    train.add_argument("--no-mirror", action="store_true", help="left and right differ in meaning")
    train.add_argument(
        "--turns",
        action="store_true",
        help="pictures have no up: all eight symmetries [as the generator]",
    )
    add_device(train)
    train.add_argument("--seed", type=seed, default=0, help="[%(default)s]")
    train.set_defaults(run=partial(_run, "train_encoder"))


def _add_backbone_command(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    backbone = actions.add_parser(
        "backbone",
        help="teach a U-Net to read a generator's features off pictures, for students",
        description="Needs no labels. Writes backbone.json and backbone.safetensors into --out. "
        "The same command goes on where it was stopped.",
    )
    backbone.add_argument(
        "generator", help="name, or folder of a generator and, for --images, its encoder"
    )
    backbone.add_argument(
        "--images",
        type=Path,
        help="folder of pictures of the domain; without, nothing says what is familiar",
    )
    backbone.add_argument("--out", type=Path, help="folder to write to [the generator's]")
    backbone.add_argument(
        "--pictures",
        type=natural,
        default=60_000,
        help="to see; 0: measure anew what is familiar to --init [%(default)s]",
    )
    backbone.add_argument("--minutes", type=minutes, default=0, help="stop after these [no limit]")
    backbone.add_argument("--init", help="folder of a backbone to go on with")
    backbone.add_argument(
        "--turns", action="store_true", help="pictures have no up: any angle [as the generator]"
    )
    add_device(backbone)
    backbone.add_argument("--seed", type=seed, default=0, help="[%(default)s]")
    backbone.set_defaults(run=partial(_run, "train_backbone_of"))


def _run(command: str, args: argparse.Namespace) -> int:
    arguments.set_up_computing()
    from dgan_backend.training import commands

    run: Callable[[argparse.Namespace], int] = getattr(commands, command)
    return run(args)
