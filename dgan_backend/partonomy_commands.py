"""Commands that show partonomies: partonomy list, show, config."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.config import CONTROLS, labeling_config
from dgan_backend.partonomy import Partonomy, load_partonomy, shipped_partonomies
from dgan_backend.partonomy_drawing import summary, tree_svg, tree_text


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    partonomy = commands.add_parser("partonomy", help="look at trees of parts, make their configs")
    actions = partonomy.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="name the shipped ones")
    listing.set_defaults(run=list_partonomies)
    known = f"shipped ({', '.join(shipped_partonomies())}) or a .yaml file"
    show = actions.add_parser("show", help="draw the tree, as text or as SVG")
    show.add_argument("name", metavar="NAME", help=known)
    show.add_argument("--svg", type=Path, metavar="FILE", help="write the drawing to this file")
    show.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto",
        help="colours beside the names; auto: on a terminal, unless NO_COLOR is set",
    )  # fmt: skip
    show.set_defaults(run=show_partonomy)
    config = actions.add_parser("config", help="print a labeling config for Label Studio")
    config.add_argument("name", metavar="NAME", help=known)
    config.add_argument(
        "--control", choices=tuple(CONTROLS.values()), default="brush", help="[%(default)s]"
    )
    config.add_argument(
        "--smart",
        action="store_true",
        help="with tools that ask for the part under a click or a box",
    )
    config.set_defaults(run=print_config)


def list_partonomies(args: argparse.Namespace) -> int:
    """One line each."""
    print(f"{'name':<12}{'classes':>8}{'labels':>8}  {'generator':<14}title")
    for name in shipped_partonomies():
        found = load_partonomy(name)
        generator = found.generator if _at_hand(found) else "none at hand"
        numbers = f"{found.num_classes:>8}{found.labels_needed:>8}"
        print(f"{name:<12}{numbers}  {generator:<14}{found.title}")
    return 0


def show_partonomy(args: argparse.Namespace) -> int:
    """The tree with its merges and what is known of its generator; or an SVG file."""
    partonomy = load_partonomy(args.name)
    if args.svg:
        return _write_svg(args.svg, partonomy)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks the lines of a tree
    print(summary(partonomy))
    print(f"generator: {_generator(partonomy)}\n")
    print(tree_text(partonomy, color=_in_color(args.color)))
    for merge in partonomy.merges:
        of = f" (of {merge.of})" if merge.of else ""
        print(f"\nmerge {merge.name}{of}: {', '.join(merge.classes)}")
    return 0


def print_config(args: argparse.Namespace) -> int:
    """For Settings > Labeling Interface > Code."""
    print(labeling_config(load_partonomy(args.name), args.control, args.smart))
    return 0


def _write_svg(path: Path, partonomy: Partonomy) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tree_svg(partonomy), encoding="utf-8")
    except OSError as error:
        raise DganError(f"{path} cannot be written: {error.strerror}.") from error
    print(f"{path}: the tree of {partonomy.name}")
    return 0


def _generator(partonomy: Partonomy) -> str:
    if _at_hand(partonomy):
        return f"{partonomy.generator}, at hand"
    none = f"{partonomy.generator} is not" if partonomy.generator else "none"
    return (
        f"{none} at hand; bring one of {partonomy.wanted or 'such pictures'} "
        "(`dgan-backend generator train --images DIR --out RUN`)"
    )


def _at_hand(partonomy: Partonomy) -> bool:
    """Whether the generator that it names can be found."""
    if not partonomy.generator:
        return False
    from dgan_backend.generators.references import generator_folder  # imports torch

    try:
        generator_folder(partonomy.generator)
    except DganError:
        return False
    return True


def _in_color(choice: str) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not plain)
