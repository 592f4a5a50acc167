"""Commands on students of data sets: `student train`, and `student version`, which serves one."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgan_backend.arguments import above_zero, add_device, positive, seed, set_up_computing, share
from dgan_backend.errors import DganError
from dgan_backend.settings import Settings

if TYPE_CHECKING:
    from dgan_backend.segmenter import Segmenter
    from dgan_backend.student.course import UNetSettings
    from dgan_backend.student.network import SegmentationNetwork

_BACKBONES = ("light", "resnet50", "resnet101", "resnet152")
_TRAINING = "training.json"  # of a student: what it learned from
_EXAMPLES = """
examples:
  dgan-backend synthesize --count 10000 --side 128 --out heads
  dgan-backend student train heads --labels pairs --out heads-student
  dgan-backend student train --unlabeled photos --labels pairs --version heads-v1 --out s
  dgan-backend student version heads-student --out heads-v2
  dgan-backend segment photo.png --model heads-v2 --out parts
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    student = commands.add_parser(
        "student",
        help="train a segmentation network on a data set, and serve it",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = student.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_train(actions)
    _add_version(actions)


def _add_train(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = actions.add_parser(
        "train",
        help="DeepLab-V3 on sampled pictures, with or without people's labels",
        description="Trains a DeepLab-V3 on data sets that `synthesize` made (--format png), on "
        "unlabeled pictures that a version labels, or on samples that are made on the way. Killed "
        "or stopped by Ctrl-C, the same command goes on. The light network is for CPUs and small "
        "pictures; the ResNets want a GPU.",
    )
    train.add_argument(
        "sets",
        nargs="*",
        metavar="SET",
        help="folders or URLs of data sets [samples of --version, as they are made]",
    )
    train.add_argument("--out", type=Path, required=True, help="the student's folder")
    train.add_argument(
        "--version",
        default="toonhead",
        metavar="NAME",
        help="that labeled the samples: a shipped one, one under MODEL_DIR or a folder "
        "[%(default)s]",
    )
    train.add_argument(
        "--labels", type=Path, metavar="PAIRS", help="people's labels to learn from as well"
    )
    train.add_argument(
        "--unlabeled",
        type=Path,
        metavar="FOLDER",
        help="pictures of the domain that nobody labeled: --version labels them, and they are "
        "learned from instead of samples made on the way, or as much as from SETs",
    )
    train.add_argument(
        "--share",
        type=float,
        default=0.5,
        help="of the pictures of a batch, that is of --labels [%(default)s]",
    )
    train.add_argument(
        "--backbone", choices=_BACKBONES, default="light", help="light: for CPUs [%(default)s]"
    )
    train.add_argument(
        "--weights",
        type=Path,
        help="published weights of a ResNet (ImageNet) or a whole DeepLab-V3 (COCO), as "
        "torchvision has them: .pth or .safetensors [at random]",
    )
    train.add_argument("--pictures", type=positive, default=9600, help="seen in all [%(default)s]")
    train.add_argument("--batch", type=positive, default=4, help="[%(default)s]")
    train.add_argument(
        "--rate",
        type=above_zero,
        default=0.1,
        help="of the kernels, at its largest; with --weights 0.02 or so [%(default)s]",
    )
    train.add_argument("--side", type=positive, help="px of its pictures [the version's grid]")
    train.add_argument(
        "--filter",
        type=share,
        default=0.1,
        metavar="SHARE",
        help="of samples made on the way, the most uncertain ones, that is left out [%(default)s]",
    )
    train.add_argument("--seed", type=seed, default=0, help="[%(default)s]")
    add_device(train)
    train.set_defaults(run=_train)


def _add_version(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    version = actions.add_parser(
        "version",
        help="make a version whose pictures from outside a student labels",
        description="The version is --version with another student: the same interpreter, "
        "training pictures and sense of what is foreign. It serves like any other, and "
        "corrections go on from it.",
    )
    version.add_argument("student", type=Path, help="what `student train` wrote")
    version.add_argument(
        "--version", default="toonhead", metavar="NAME", help="to begin with [%(default)s]"
    )
    place = version.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, help="the version folder to write")
    place.add_argument(
        "--project", type=positive, metavar="N", help="its next version, which serves at once"
    )
    version.set_defaults(run=_version)


def _train(args: argparse.Namespace) -> int:
    """Train, or go on with, a student."""
    set_up_computing()
    from tqdm import tqdm

    from dgan_backend.factory.making import find_version
    from dgan_backend.generators.native import write_json
    from dgan_backend.student.course import correction_by, weights_by
    from dgan_backend.student.native import STUDENT_CARD, save_student
    from dgan_backend.student.student import Student
    from dgan_backend.student.teaching import Checkpoint, teach
    from dgan_backend.student_lessons import lessons

    if not 0.0 < args.share < 1.0:
        raise DganError(f"--share is between 0 and 1, not {args.share}.")
    if args.batch < 2 and args.backbone != "light":
        raise DganError("--batch is 2 or more with a ResNet, whose norms compare pictures.")
    version = find_version(args.version, Settings.from_env())
    segmenter = version.segmenter
    settings = _settings(args, segmenter)
    key = _key(args, settings, _side(args, segmenter), version.sha256)
    if (args.out / STUDENT_CARD).is_file():
        _check_same(args.out, key)
        print(f"{args.out} is there already.")
        return 0
    _warn_of_one_opinion(settings)
    network, begun = _network(args, segmenter.partonomy.num_classes)
    found = lessons(
        args, segmenter, _side(args, segmenter), partial(tqdm, unit="picture", desc="labeling")
    )
    told = {
        "sets": args.sets,
        "unlabeled": str(args.unlabeled or ""),
        "labels": str(args.labels or ""),
        "version": segmenter.version,
        "share": args.share if args.labels else 0.0,
        "begun_with": begun,
        "pictures": settings.pictures,
        "side": _side(args, segmenter),
        "key": key,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(args.out / "checkpoint.pt", key)
    bar = tqdm(total=settings.steps, unit="step", smoothing=0.05)
    with bar:

        def steps(numbers: Any) -> Any:
            bar.initial = bar.n = settings.steps - len(numbers)
            for number in numbers:
                yield number
                bar.update()

        teach(network, found, settings, checkpoint, steps)
    augment = settings.augment
    weights = weights_by(found.frequencies(network.num_classes), settings.balance)
    correction = tuple(correction_by(weights, settings.prior))
    write_json(args.out / _TRAINING, told)
    save_student(args.out, Student([network.cpu()], augment.mirror, augment.swap, correction))
    checkpoint.path.unlink(missing_ok=True)
    print(f"{args.out}: a student that saw {settings.pictures} pictures")
    return 0


def _key(args: argparse.Namespace, settings: UNetSettings, side: int, version: str) -> str:
    """Of all that the result follows from; files by what is in them. version: its interpreter's
    SHA-256."""
    from dgan_backend.generators.native import file_hash
    from dgan_backend.labeled import content_digest
    from dgan_backend.training.pictures import pictures_of

    depends = [
        asdict(settings),
        side,
        args.backbone,
        file_hash(args.weights) if args.weights and args.weights.is_file() else "",
        [_set_digest(url) for url in args.sets] or [version, args.filter],
        [content_digest(args.labels), args.share] if args.labels else [],
    ]
    if args.unlabeled is not None:
        depends.append([version, [file_hash(path) for path in pictures_of(args.unlabeled)]])
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()


def _set_digest(url: str) -> str:
    """Of a data set's card and manifest, which say what its pictures follow from."""
    from dgan_backend.factory.card import CARD
    from dgan_backend.factory.formats.png import MANIFEST
    from dgan_backend.storage import Storage

    folder = Storage(url)
    found = [folder.find(name) or b"" for name in (CARD, MANIFEST)]
    return hashlib.sha256(b"\n".join(found)).hexdigest()


def _check_same(out: Path, key: str) -> None:
    """Raises DganError when another student is there."""
    try:
        told = json.loads((out / _TRAINING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {}
    if told.get("key") != key:
        raise DganError(
            f"{out} holds a student of other settings, sets or labels; choose another --out, or "
            "remove it."
        )


def _warn_of_one_opinion(settings: UNetSettings) -> None:
    from dgan_backend.student.student import StudentSettings

    try:
        StudentSettings(1, settings).check()
    except DganError:
        print(
            "These pictures are not mirrored, as left and right are classes of their own, so one "
            "network is a single opinion: its uncertainty will be 0 everywhere, and its scores "
            "will say less. `dgan-backend fit` makes students of several networks.",
            file=sys.stderr,
        )


def _settings(args: argparse.Namespace, segmenter: Segmenter) -> UNetSettings:
    from dgan_backend.student.augment import AugmentSettings
    from dgan_backend.student.course import UNetSettings

    augment = AugmentSettings().for_classes(segmenter.partonomy.mirrored)
    if segmenter.generator.card.turns:
        augment = augment.at_any_angle()
    return UNetSettings(args.pictures, args.batch, args.rate, augment=augment, seed=args.seed)


def _network(args: argparse.Namespace, classes: int) -> tuple[SegmentationNetwork, str]:
    """At random, or with published weights; and what it was begun with, in words."""
    from dgan_backend.student.deeplab import DeepLab, DeepLabConfig, new_deeplab
    from dgan_backend.student.published import load_published

    network = new_deeplab(DeepLabConfig(args.backbone), classes, args.seed)
    begun = "random weights"
    if args.weights is not None:
        if not isinstance(network, DeepLab):
            raise DganError("nobody publishes weights of the light network; choose a --backbone.")
        begun = load_published(network, args.weights)
        print(f"{args.weights}: {begun}")
    return network.to(args.device), begun


def _side(args: argparse.Namespace, segmenter: Segmenter) -> int:
    return int(args.side or segmenter.card.label_resolution)


def _version(args: argparse.Namespace) -> int:
    """Write a version with another student."""
    set_up_computing()
    from dgan_backend.factory.making import find_version
    from dgan_backend.registry import Registry
    from dgan_backend.student.native import STUDENT_CARD, load_student

    settings = Settings.from_env()
    student = load_student(args.student)
    if student is None:
        raise DganError(
            f"{args.student} has no {STUDENT_CARD}; say `dgan-backend student train` until it is "
            "done."
        )
    base = find_version(args.version, settings).segmenter
    try:
        told = json.loads((args.student / _TRAINING).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DganError(f"{args.student} has no training.json ({error}); train it again.") from None
    if args.out is not None:
        made = base.with_student(student, args.out.name, told)
        made.save(args.out)
        print(f"{args.out}: as {base.version}, with the student of {args.student}")
        return 0
    registry = Registry.of(settings)
    name = registry.next_name(base.partonomy, args.project)
    registry.publish(base.with_student(student, name, told), current=True)
    print(
        f"{name}: as {base.version}, with the student of {args.student}; it serves project "
        f"{args.project} now"
    )
    return 0
