"""The commands that measure: `evaluate report`, `version`, `few-shot`, `causes`, `inversion`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dgan_backend.arguments import add_device, natural, positive
from dgan_backend.settings import Settings

_EVALUATIONS = ("report", "version", "few-shot", "causes", "inversion")
_METHODS = ("pixels", "unet", "unets", "interpreter", "interpreter+picture", "student")


def with_action(argv: Sequence[str]) -> list[str]:
    """`evaluate DOMAIN` is short for `evaluate report DOMAIN`."""
    words = list(argv)
    if words[:1] == ["evaluate"] and len(words) > 1:
        named = words[1] in _EVALUATIONS or words[1].startswith("-")
        words[1:1] = [] if named else ["report"]
    return words


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """evaluate report, version, few-shot, causes, inversion: see evaluation/commands.py."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure how right masks are",
        description="`evaluate DOMAIN --out DIR` is short for `evaluate report DOMAIN --out DIR`.",
    )
    actions = evaluate.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_report(actions)
    version = actions.add_parser(
        "version",
        help="masks and scores of one version on labeled pictures",
        description="Labels pictures from outside and holds that against their masks: how right "
        "the masks are, and whether score and uncertainty know it.",
    )
    version.add_argument("pairs", type=Path, help="folder with images/ and masks/, or an npz")
    version.add_argument("--version", default="toonhead", help="name or folder [%(default)s]")
    version.add_argument(
        "--skip",
        type=natural,
        default=0,
        help="leave out the first so many [%(default)s]",
    )
    version.add_argument(
        "--others",
        type=Path,
        nargs="+",
        default=[],
        metavar="PICTURE",
        help="pictures of something else, whose scores should be low",
    )
    version.add_argument("--sheet", type=Path, help="the worst pictures, to this png")
    version.add_argument("--json", type=Path, help="all of it, and each picture's score and mIoU")
    add_device(version)
    version.set_defaults(run=partial(_evaluate, "version"))
    few_shot = actions.add_parser(
        "few-shot",
        help="masks of outside pictures from 1, 4, 16 and 40 labels, beside baselines",
        description="Fits every method on five draws of labels from the first 60 pictures, or "
        "those of --pairs where there is a --test, and labels the others. On one core a U-Net or "
        "a student takes 1 minute (1 label) to 25 (40 labels), an interpreter 5, and all of it a "
        "day; begin with `--methods pixels student --counts 16 --draws 1`. What --json holds is "
        "not computed again.",
    )
    few_shot.add_argument(
        "--json",
        type=Path,
        default=Path("few-shot.json"),
        help="results; U-Nets are kept beside it, in the same name with .networks, 3 MB each "
        "[%(default)s]",
    )
    few_shot.add_argument("--plot", type=Path, help="mIoU over labels, to this png or svg")
    few_shot.add_argument(
        "--methods",
        nargs="+",
        default=list(_METHODS),
        choices=_METHODS,
        help="pixels: the interpreter's networks on colours alone; unet: from scratch, three seeds "
        "of each draw; unets: two of them that vote; interpreter: on the generator's maps of "
        "inverted pictures; interpreter+picture: and on colours; student: what fit makes [all]",
    )
    few_shot.add_argument(
        "--counts",
        nargs="+",
        type=positive,
        default=[1, 4, 16, 40],
        help="labeled pictures in a draw [1 4 16 40]",
    )
    few_shot.add_argument(
        "--draws",
        type=positive,
        default=5,
        help="how many times labels are drawn, by the seeds 0, 1, ... [%(default)s]",
    )
    few_shot.add_argument(
        "--turns",
        action="store_true",
        help="pictures have no up: they are learned at any angle [as the generator]",
    )
    few_shot.add_argument(
        "--jobs",
        type=natural,
        default=1,
        help="fits side by side; 0: only what --json holds already [%(default)s]",
    )
    few_shot.set_defaults(run=partial(_evaluate, "few_shot"))
    causes = actions.add_parser(
        "causes",
        help="where the interpreter loses: on samples, on reconstructions, or on pictures",
        description="A network trained on thousands of pairs stands in for the person who labels "
        "samples and reconstructions.",
    )
    causes.add_argument(
        "--person",
        type=Path,
        default=Path("tests/data/toonhead/person.safetensors"),
        help="weights of the stand-in [%(default)s]",
    )
    causes.add_argument(
        "--json",
        type=Path,
        default=Path("causes.json"),
        help="results, written anew [%(default)s]",
    )
    causes.set_defaults(run=partial(_evaluate, "causes"))
    inversion = actions.add_parser(
        "inversion",
        help="what refinement steps are worth: mIoU of the interpreter, seconds a picture",
        description="Inverts all pictures with so many steps, fits the interpreter on 16 of them "
        "and labels the test pictures, for each number of steps.",
    )
    inversion.add_argument(
        "--steps",
        type=natural,
        nargs="+",
        default=[0, 10, 30, 50, 200],
        help="of refinement, one row each; 0: the encoder alone [0 10 30 50 200]",
    )
    inversion.add_argument(
        "--perceptual", type=float, default=0.0, help="weight of the encoder's maps [%(default)s]"
    )
    inversion.add_argument(
        "--maps", choices=("generator", "generator+picture"), default="generator",
        help="what the interpreter reads [%(default)s]",
    )  # fmt: skip
    inversion.add_argument(
        "--json",
        type=Path,
        default=Path("inversion.json"),
        help="all measures of each row; those that it holds are not computed again [%(default)s]",
    )
    inversion.set_defaults(run=partial(_evaluate, "inversion"))
    for command in (few_shot, causes, inversion):
        command.add_argument(
            "--pairs",
            type=Path,
            default=Path("tests/data/toonhead/reference.npz"),
            help="npz or folder [%(default)s]",
        )
        command.add_argument(
            "--test",
            type=Path,
            help="npz or folder to measure on; labels are then drawn from all of --pairs [all but "
            "the first 60]",
        )
        command.add_argument(
            "--partonomy", default="toonhead", help="of the masks: name or yaml [%(default)s]"
        )
        command.add_argument(
            "--generator", default="toonhead", help="name, folder or file [%(default)s]"
        )
    for command in (causes, inversion):
        command.add_argument(
            "--draws",
            type=positive,
            default=2,
            help="how many times 16 labels are drawn, by the seeds 0, 1, ... [%(default)s]",
        )


def _add_report(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """evaluate report: see evaluation/reporting.py."""
    report = actions.add_parser(
        "report",
        help="the paper's table and curves for a domain, as a page and as JSON",
        description="Trains a student on generated pictures and a few labels, beside the same "
        "network on the labels alone, with transfer learning, with semi-supervised learning, and "
        "on hundreds of labels; measures them on pictures that nothing learned from; and tells "
        "whether uncertainty knows what is wrong. What the JSON holds is not computed again: "
        "stopped by Ctrl-C or killed, the same command goes on. A run takes some minutes, all of "
        "them hours; --quick is for seeing it work. A run that fails is named, and stops nothing "
        "but what needs it: the exit code is 1, and the same command tries it again.",
    )
    report.add_argument(
        "domain",
        metavar="DOMAIN",
        help="toonhead (in a checkout), or a folder with images/, masks/, partonomy.yaml and "
        "kept-out/, as `import-labels --out --keep-out` makes it",
    )
    report.add_argument("--out", type=Path, required=True, help="for NAME.html and NAME.json")
    report.add_argument(
        "--quick", action="store_true", help="everything, far too short to conclude from"
    )
    report.add_argument("--name", help="of the two files [the domain's]")
    report.add_argument(
        "--no-pictures",
        action="store_true",
        help="figures and plots alone, where pictures must not be passed on",
    )
    report.add_argument("--generator", help="name, folder or file [toonhead's; else needed]")
    report.add_argument("--partonomy", help="of the masks: name or yaml [the domain's]")
    report.add_argument("--test", type=Path, help="npz or folder to measure on [DOMAIN/kept-out]")
    report.add_argument(
        "--many",
        type=Path,
        help="more labeled pictures, for the fully supervised rows; without their labels, for the "
        "semi-supervised one [toonhead: rendered by Node; else DOMAIN, if the test is apart]",
    )
    report.add_argument(
        "--style",
        type=Path,
        help="labeled pictures of something alike, with any parts, that transfer learning begins "
        "with [toonhead: rendered by Node; else that row is left out]",
    )
    report.add_argument(
        "--person",
        type=Path,
        help="weights of a U-Net that judges samples [one of the most labels, trained for it on "
        "pictures of which half are as soft as samples]",
    )
    report.add_argument("--turns", action="store_true", help="no up [as the generator]")
    report.add_argument(
        "--draws",
        type=positive,
        help="how often labels are drawn, but for 40, drawn once [3; quick: 1]",
    )
    report.add_argument(
        "--work",
        type=Path,
        help="for pictures, versions and networks, 1 GB or so [OUT/work]",
    )
    report.add_argument(
        "--jobs",
        type=natural,
        default=2,
        help="runs side by side, a core each; 0: only what the JSON holds already [%(default)s]",
    )
    report.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    from dgan_backend.supervision import compute

    compute.restart_with(compute.environment(1))
    from dgan_backend.evaluation.reporting import report

    return report(args)


def _evaluate(command: str, args: argparse.Namespace) -> int:
    """With one thread where processes of its own run side by side."""
    from dgan_backend.supervision import compute

    alone = command in ("version", "inversion")
    threads = compute.share(1, Settings.from_env().threads) if alone else 1
    compute.restart_with(compute.environment(threads))
    from dgan_backend.evaluation import commands

    run: Callable[[argparse.Namespace], int] = getattr(commands, command)
    return run(args)
