"""Commands on trained versions: versions list, use, prune."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import TYPE_CHECKING

from dgan_backend.settings import Settings

if TYPE_CHECKING:
    from dgan_backend.registry import Kept, Registry


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    versions = commands.add_parser(
        "versions", help="list the versions that projects have, choose one, delete old ones"
    )
    actions = versions.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="all under MODEL_DIR; * = serves its project")
    listing.add_argument("--project", type=int, help="only this one's")
    listing.set_defaults(run=list_versions)
    use = actions.add_parser(
        "use",
        help="have a version serve its project, also one that was held back",
        description="Web processes and workers see it at once; predictions are renewed within "
        "a minute. The next training goes on from it.",
    )
    use.add_argument("version", metavar="NAME")
    use.set_defaults(run=use_version)
    prune = actions.add_parser("prune", help="delete old versions; the current one stays")
    prune.add_argument("--project", type=int, required=True)
    prune.add_argument("--keep", type=_count, default=5, help="the last so many stay [%(default)s]")
    prune.set_defaults(run=prune_versions)


def list_versions(args: argparse.Namespace) -> int:
    registry = _registry()
    found = registry.versions(args.project)
    if not found:
        print(f"No version was trained yet in {Settings.from_env().models}.")
    for kept in found:
        print(_line(kept, registry.serving(kept)))
    return 0


def use_version(args: argparse.Namespace) -> int:
    _registry().use(args.version)
    print(f"{args.version} serves its project now.")
    return 0


def prune_versions(args: argparse.Namespace) -> int:
    from dgan_backend.loop.twins import Twins

    gone = _registry().prune(args.project, args.keep)
    twins = Twins.of_settings(Settings.from_env())
    for version in gone:
        twins.delete(version)
    print(f"Deleted: {', '.join(gone)}." if gone else "There was nothing to delete.")
    return 0


def _line(kept: Kept, serves: bool) -> str:
    """`* p7-toonhead-v0003  2026-11-24 18:02  24 pictures, 8 corrections; mean IoU .84 ...`"""
    told = kept.training
    parts = [f"{'*' if serves else ' '} {kept.name}"]
    if when := told.get("time"):
        parts.append(datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M"))
    corrections = len(told.get("corrections", ()))
    parts.append(f"{told.get('pictures', '?')} pictures, {corrections} of them corrections")
    if checked := told.get("validation"):
        parts.append(
            f"mean IoU {checked['candidate']:.3f} ({checked['difference']:+.3f}) on "
            f"{checked['pictures']} pictures that it had not learned from"
        )
    if kept.held_back:
        parts.append(f"held back: {kept.held_back}")
    return "  ".join(parts)


def _registry() -> Registry:
    from dgan_backend.registry import Registry

    return Registry.of(Settings.from_env())


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value
