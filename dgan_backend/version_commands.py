"""Commands on trained versions: versions list, use, prune, export, import."""

from __future__ import annotations

import argparse
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dgan_backend.arguments import positive
from dgan_backend.errors import DganError
from dgan_backend.settings import Settings

if TYPE_CHECKING:
    from dgan_backend.registry import Kept, Registry


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    versions = commands.add_parser(
        "versions",
        help="list the versions that projects have, choose one, delete old ones, take one along",
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
    _add_export(actions)
    _add_import(actions)


def _add_export(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = actions.add_parser(
        "export",
        help="write a version to one file, with all that it needs to be served",
        description="The file holds the version with the latents, pictures and masks it learned "
        "from, its generator unless that comes with the package, and the SHA-256 of each part. "
        "`versions import` of another backend, or of this one later, takes it in. The licence of "
        "the generator holds for the file.",
    )
    command.add_argument("version", metavar="NAME", help="see `versions list`")
    command.add_argument("--out", type=Path, metavar="FILE", help="a new file [NAME.tar]")
    command.add_argument(
        "--without-generator",
        action="store_true",
        help="it is where the version goes; of a large one the file gets small",
    )
    command.set_defaults(run=export_version)


def _add_import(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = actions.add_parser(
        "import",
        help="take in a version that `versions export` wrote",
        description="Each part is checked by its SHA-256 and the version is loaded, before it is "
        "put under MODEL_DIR in one step. Nothing is overwritten: a version of that name that is "
        "there already stays, and the exit status is 0 where it is the very same, 2 where it is "
        "another.",
    )
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument(
        "--project",
        type=positive,
        metavar="N",
        help="make it the next version of this project, which it then serves; what it learned "
        "from is kept as its base, since its tasks are another project's [the project and the "
        "number that it had]",
    )
    command.add_argument(
        "--check", action="store_true", help="import nothing; say whether it could be"
    )
    command.set_defaults(run=import_version)


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


def export_version(args: argparse.Namespace) -> int:
    from dgan_backend.packing import pack

    target = args.out or Path(f"{args.version}.tar")
    parts = pack(_registry().folder(args.version), target, not args.without_generator)
    own = any(name.startswith("generator/") for name in parts)
    with_it = "with its generator" if own else "without a generator"
    print(f"{target}: {args.version}, {with_it}, {target.stat().st_size / 2**20:.1f} MiB")
    return 0


def import_version(args: argparse.Namespace) -> int:
    from dgan_backend import packing

    settings, registry = Settings.from_env(), _registry()
    settings.model_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=settings.model_dir) as scratch:
        packed = packing.unpack(args.file, Path(scratch))
        old = packed.name
        if args.check:
            packing.check(packed)
            print(f"{args.file}: {old} is whole and can be served here.")
            return 0
        if args.project is None and old in [k.name for k in registry.versions()]:
            if not packing.is_same(packed, registry.folder(old)):
                raise DganError(
                    f"There is another version {old} already, and it stays; --project N takes "
                    "this one in as the next version of project N."
                )
            print(f"{old} is there already, the very same.")
            return 0
        name = packing.take_in(packed, registry, settings.model_dir, args.project)
    (kept,) = (k for k in registry.versions() if k.name == name)
    print(f"{name} was imported{'' if name == old else f', as it was {old}'}.", end=" ")
    if registry.serving(kept):
        print(f"It serves project {kept.project} now.")
    else:
        print(f"Another one serves; `dgan-backend versions use {name}` changes that.")
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
