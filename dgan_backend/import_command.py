"""The command that makes a generator file of another project one of ours: generator import."""

from __future__ import annotations

import argparse
from pathlib import Path

_DESCRIPTION = """
Reads NVIDIA's pickles of StyleGAN2 (PyTorch, TensorFlow) and StyleGAN3, .pt files of rosinality's
StyleGAN2 or of encoders made for it (pSp, e4e, ReStyle), and of DatasetGAN's StyleGAN1; writes a
native folder. Nothing of a file is run: what else is in it is left alone, or the file is refused.

Every option that takes a generator takes such a file as well. It is then converted once and kept
in MODEL_DIR/generators, by the file's SHA-256; delete that folder to have it converted anew.

Where the licence says non-commercial, `sample` and `push` repeat it.
"""


def add_command(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = actions.add_parser(
        "import",
        help="make a generator file of another project one of ours",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", type=Path, help=".pkl, .pt or .pth")
    command.add_argument("--out", type=Path, required=True, help="the native folder to write")
    command.add_argument("--name", default="", help="[the file's]")
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
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was found and what was assumed."""
    from dgan_backend.generators.checkpoints import import_generator  # imports torch

    card = import_generator(
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
        "It has no encoder: projects learn from its samples, not from pictures from outside, which "
        "are labeled once it has a backbone (`dgan-backend generator backbone`)."
    )
    return 0
