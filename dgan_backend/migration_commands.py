"""Commands that bring labels people already have: import-labels, import-datasetgan."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dgan_backend.arguments import positive, seed
from dgan_backend.errors import DganError
from dgan_backend.settings import Settings

if TYPE_CHECKING:
    from dgan_backend.labelstudio.client import LabelStudioClient
    from dgan_backend.labelstudio.project import Project
    from dgan_backend.migration.collection import Collection, Entry
    from dgan_backend.migration.matching import Matching
    from dgan_backend.migration.survey import Survey
    from dgan_backend.migration.tasks import Imported

FORMATS = ("datasetgan", "labelme", "masks")
_SHOWN = 20  # names of pictures
_DESCRIPTION = """
Reads all of SOURCE first and tells what it holds: labels and the classes they mean, files at fault,
pictures without labels. Only when nothing is at fault it is imported: into a project of Label
Studio (--project), as tasks with submitted annotations, which the backend learns from like those
drawn there; or into a new folder (--out) that `dgan-backend fit FOLDER` takes. The same import
again makes only what is missing; what is in Label Studio already is not changed.
"""
_FORMATS = """
formats:
  labelme     JSON files, with the picture inside (imageData) or beside them (imagePath, never
              outside of SOURCE). polygon, rectangle, circle and mask are taken over; point, line
              and linestrip have no area and are left out. A part lies above what it is a part
              of, else a later shape above an earlier one. `__ignore__` is ignored.
  masks       images/NAME.* with masks/NAME.png (grey or palette, the value is the class number) or
              masks/NAME.npy, or each mask beside its picture (a.jpg, a.png). 0 is background, 255
              says nothing, unless it is named. What the numbers mean stands in classes.txt,
              classes.json or partonomy.yaml beside them, or in --classes.
  datasetgan  see `dgan-backend import-datasetgan --help`
"""
_EXAMPLES = """
examples:
  dgan-backend import-labels labelme/ --project 7 --dry-run      what would be imported
  dgan-backend import-labels labelme/ --project 7
  dgan-backend import-labels masks/ --out pairs --partonomy tree.yaml
  dgan-backend import-labels cells/ --classes cytoplasm=128,nucleus=255 --out pairs --keep-out 60
"""
_DATASETGAN = """
SOURCE is a folder with image_{i}.jpg and image_mask{i}.npy (class numbers), or the released
dataset_release/, of which --set chooses one: car_20, face_34, cat_16, or the testing data
car_20_class, car_ade_12_class, face_34_class, cat_16_class (pictures and .npy files, paired in the
order of their names). Names of the classes are known but for cat_16, whose are not public; a folder
of your own needs --classes (or --set, if its numbers are those of a set). Classes with fewer than
30 pixels in a picture are ignored, since DatasetGAN's training drops them.

Latents, and the off-by-one: labels need none, so nothing is said of them unless --generator gives
the id of the StyleGAN1 that made the pictures. Then each task says which row of
latent_stylegan1.npy its picture is. In the released sets image_{i} is row i. But
make_training_data.py writes the picture of the mean latent as image_0 and does not store that
latent: in folders made with it image_{i} is row i - 1 and image_0 is no row, although DatasetGAN's
trainer takes row i, which is the next picture's. Such a file has one row less than there are
pictures, and that is how it is told; where pictures were removed, say --first-latent 1 yourself.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    labels = commands.add_parser(
        "import-labels",
        help="bring labels you already have: LabelMe, index masks, DatasetGAN",
        description=_DESCRIPTION,
        epilog=_FORMATS + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    labels.add_argument("source", type=Path, metavar="SOURCE", help="the folder")
    labels.add_argument("--format", choices=FORMATS, help="[what SOURCE looks like]")
    released = commands.add_parser(
        "import-datasetgan",
        help="bring the annotations that DatasetGAN released, or were made for it",
        description=_DESCRIPTION + _DATASETGAN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    released.add_argument("source", type=Path, metavar="SOURCE", help="the folder")
    released.set_defaults(format="datasetgan")
    for command in (labels, released):
        _add_options(command)
        command.set_defaults(run=run)


def _add_options(command: argparse.ArgumentParser) -> None:
    where = command.add_mutually_exclusive_group()
    where.add_argument("--project", type=int, metavar="N", help="into it; the number in its URL")
    where.add_argument("--out", type=Path, metavar="FOLDER", help="into a new folder")
    command.add_argument("--dry-run", action="store_true", help="tell what would be imported")
    command.add_argument(
        "--partonomy",
        metavar="NAME",
        help="whose classes are meant, with --out: shipped, or a YAML file [a shipped one that all "
        "labels fit, else one made of the labels]",
    )
    command.add_argument(
        "--classes",
        default="",
        metavar="NAMES",
        help="names of class numbers: NAME=NUMBER,NAME=NUMBER; a text file, one name a line; JSON; "
        "or a partonomy (name or YAML)",
    )
    command.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="take the label OLD for NEW; as often as needed",
    )
    command.add_argument(
        "--skip-unmatched", action="store_true", help="leave out labels that mean no class"
    )
    command.add_argument(
        "--min-pixels",
        type=int,
        metavar="N",
        help="ignore classes with fewer in a picture [0; datasetgan: 30]",
    )
    command.add_argument(
        "--keep-out",
        type=positive,
        metavar="N",
        help="with --out, put so many pictures into FOLDER/kept-out, to measure on",
    )
    command.add_argument(
        "--seed", type=seed, default=0, help="which ones are kept out [%(default)s]"
    )
    command.add_argument(
        "--state", type=Path, help="folder of the running `start` [beside MODEL_DIR]"
    )
    only = command.add_argument_group("datasetgan")
    only.add_argument("--set", default="", metavar="NAME", help="one of the released sets")
    only.add_argument("--generator", default="", metavar="ID", help="of the pictures' StyleGAN1")
    only.add_argument("--latents", type=Path, metavar="FILE", help="[latent_stylegan1.npy]")
    only.add_argument(
        "--first-latent",
        type=int,
        choices=(0, 1),
        help="number of the picture that is row 0 of the latents [told by how many there are]",
    )


def run(args: argparse.Namespace) -> int:
    """Tell what is there, then import it; 0 when nothing is wrong."""
    if args.project is None and args.out is None and not args.dry_run:
        raise DganError("Say where to: --project N or --out FOLDER; or look with --dry-run.")
    if args.project is not None and args.partonomy:
        raise DganError("A project has its own partonomy; leave --partonomy out.")
    if args.keep_out and args.out is None and not args.dry_run:
        raise DganError("--keep-out is for --out: a project's pictures are all learned from.")
    if args.out is not None:
        from dgan_backend.migration.folder import check_free

        check_free(args.out)
    if args.project is None:
        return _import(args, None, None)
    from dgan_backend.project_access import label_studio, open_project_of

    with label_studio(Settings.from_env()) as site:
        return _import(args, site, open_project_of(site, args.project))


def _import(
    args: argparse.Namespace, site: LabelStudioClient | None, project: Project | None
) -> int:
    from dgan_backend.migration.survey import report, survey

    collection = _read(args)
    least = _least(args, collection.format)
    found = survey(collection, _bar, least)
    matching = _matching(args, collection, found, project)
    for line in report(found, matching, collection, least):
        print(line)
    if args.dry_run:
        wrong = found.faults or (matching.unmatched and not args.skip_unmatched)
        return 1 if wrong or not found.pictures else 0
    found.check()
    if not args.skip_unmatched:
        matching.check()
    if site is None or project is None:
        return _write(args, collection, matching, least)
    from dgan_backend.migration.tasks import import_entries
    from dgan_backend.project_access import alone

    with alone(Settings.from_env(), project, args.state) as check:
        entries = _bar("importing", collection.entries)
        done = import_entries(site, project, entries, matching, collection.format, least, check)
    _say(done, project)
    return 0


def _read(args: argparse.Namespace) -> Collection:
    from dgan_backend.migration import datasetgan, labelme, masks

    folder: Path = args.source
    if not folder.is_dir():
        raise DganError(f"There is no folder {folder}.")
    known = {
        "masks": masks.is_masks,
        "datasetgan": datasetgan.is_datasetgan,
        "labelme": labelme.is_labelme,
    }
    kind = args.format or next((name for name, is_it in known.items() if is_it(folder)), None)
    if kind is None and masks.is_side_by_side(folder):
        kind = "masks"
    if kind is None:
        raise DganError(
            f"{folder} looks like none of {', '.join(FORMATS)}; say which with --format to be told "
            "what it lacks."
        )
    if kind == "datasetgan":
        latents = datasetgan.Latents(args.generator, args.latents, args.first_latent)
        return datasetgan.read_datasetgan(folder, args.set, args.classes, latents)
    if args.set or args.generator or args.latents or args.first_latent is not None:
        raise DganError(
            "--set, --generator, --latents and --first-latent are for the format datasetgan; "
            f"{folder} is {kind}."
        )
    if kind == "masks":
        return masks.read_masks(folder, args.classes)
    if args.classes:
        raise DganError("--classes names class numbers, and labelme has names; use --rename.")
    return labelme.read_labelme(folder)


def _least(args: argparse.Namespace, kind: str) -> int:
    from dgan_backend.migration.datasetgan import FORMAT, LEAST_PIXELS

    if args.min_pixels is None:
        return LEAST_PIXELS if kind == FORMAT else 0
    return max(0, int(args.min_pixels))


def _matching(
    args: argparse.Namespace, collection: Collection, found: Survey, project: Project | None
) -> Matching:
    from dgan_backend.migration.matching import match, partonomy_of
    from dgan_backend.partonomy import load_partonomy

    renames = _renames(args.rename, found)
    if project is not None and project.binding is not None:
        binding = project.binding
        return match(found.labels, binding.partonomy, renames, binding)
    if named := args.partonomy or collection.partonomy:
        return match(found.labels, load_partonomy(named), renames)
    if not found.labels:
        found.check()  # there is nothing to make a partonomy of
    labels = collection.names[1:] or found.labels
    meant = [renames.get(label, label) for label in labels]
    return match(found.labels, partonomy_of(meant, args.source.resolve().name), renames)


def _renames(given: list[str], found: Survey) -> dict[str, str]:
    renames = {}
    for text in given:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not (equals and old and new):
            raise DganError(f"--rename {text!r} is not OLD=NEW.")
        if old not in found.regions:
            raise DganError(
                f"--rename {text!r}: no picture has the label {old!r}; there are: "
                f"{', '.join(found.labels)}."
            )
        renames[old] = new
    return renames


def _write(args: argparse.Namespace, collection: Collection, matching: Matching, least: int) -> int:
    from dgan_backend.migration.folder import KEPT_OUT, PARTONOMY, is_shipped, write_folder
    from dgan_backend.migration.survey import counted

    entries = _bar("writing", collection.entries)
    kept = (args.keep_out or 0, args.seed)
    count, bare = write_folder(entries, matching, args.out, least, kept)
    _say_bare(bare)
    shipped = is_shipped(matching.partonomy)
    partonomy = matching.partonomy.name if shipped else args.out / PARTONOMY
    aside = f"; {kept[0]} more, kept out, to {args.out / KEPT_OUT}" if args.keep_out else ""
    print(f"Written to {args.out}: {counted(count, 'labeled picture')}{aside}. Next:")
    print(f"  dgan-backend fit {args.out} --partonomy {partonomy} --generator NAME --out VERSION")
    return 0


def _say(done: Imported, project: Project) -> None:
    from dgan_backend.migration.survey import counted

    there = f" {counted(done.there, 'picture')} had come before." if done.there else ""
    print(f"Made in project {project.number}: {counted(done.created, 'annotated task')}.{there}")
    if done.unsaid and not project.options.ignore_bare:
        print(
            f"Ignored pixels of {counted(done.unsaid, 'picture')} are bare in Label Studio, which "
            'means background unless the extra params say {"unlabeled": "ignore"}.'
        )
    if done.changed:
        print(
            f"Of those, {len(done.changed)} with other labels now; Label Studio keeps what it has. "
            "Delete their tasks there to import them anew:"
        )
        _list(done.changed)
    _say_bare(done.bare)


def _say_bare(names: list[str]) -> None:
    if names:
        print("Left out, as they have no pixel of a class:")
        _list(names)


def _list(names: list[str]) -> None:
    for name in names[:_SHOWN]:
        print(f"  {name}")
    if len(names) > _SHOWN:
        print(f"  and {len(names) - _SHOWN} more")


def _bar(name: str, entries: Iterable[Entry]) -> Iterable[Entry]:
    from tqdm import tqdm

    return tqdm(list(entries), desc=name, unit="picture")
