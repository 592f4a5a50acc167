"""The command that brings sampled pictures with their labels into Label Studio, and takes them
back: push. Torch is imported only to sample."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.project import Project
from dgan_backend.project_access import alone, label_studio, open_project_of
from dgan_backend.settings import Settings

if TYPE_CHECKING:
    from dgan_backend.segmenter import Segmenter
    from dgan_backend.synthesis.pushing import Order, Pushed
    from dgan_backend.synthesis.undoing import Undone

_SHOWN = 20  # tasks that stay
_DESCRIPTION = """
Samples pictures, finds their parts with the version that serves the project, leaves out the most
uncertain tenth, and makes tasks with predictions of the others: in a project beside it, titled
`... (synthetic)`, so that nobody's queue is flooded. What was pushed is a batch with a name, and
the same push again makes only what is missing of it. Needs LABEL_STUDIO_URL and
LABEL_STUDIO_API_KEY, and MODEL_DIR as the backend has it.
"""
_EXAMPLES = """
examples:
  dgan-backend push --project 7 --count 200                   200 tasks in the sister project
  dgan-backend push --project 7 --count 20 --for-labeling     the 20 least sure, for people
  dgan-backend push --project 7 --undo p7-toonhead-v0003-x200-s3000000
"""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    push = commands.add_parser(
        "push",
        help="make tasks of sampled, labeled pictures in Label Studio; take them back",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    push.add_argument("--project", type=int, required=True, help="the number in its URL")
    what = push.add_mutually_exclusive_group(required=True)
    what.add_argument("--count", type=int, metavar="M", help="tasks that arrive, 1 to 10000")
    what.add_argument(
        "--undo", metavar="BATCH", help="delete what nobody touched of this batch, here and there"
    )
    push.add_argument(
        "--for-labeling",
        action="store_true",
        help="the most uncertain ones instead, into the project itself, where corrections are "
        "learned from; Label Studio's uncertainty sampling asks for the lowest score first",
    )
    push.add_argument(
        "--same-project", action="store_true", help="into the project itself, not its sister"
    )
    push.add_argument(
        "--annotations",
        action="store_true",
        help="submitted annotations instead of predictions; they are learned from only where "
        "somebody changes them",
    )
    push.add_argument(
        "--seed", type=int, help="the first one [a million times the version's number]"
    )
    push.add_argument(
        "--state", type=Path, help="folder of the running `start` or demo [beside MODEL_DIR]"
    )
    push.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was made or removed; 0 also when that is nothing."""
    settings = Settings.from_env()
    with label_studio(settings) as site:
        if args.undo:
            _say_undone(_undo(settings, site, args.project, args.undo, args.state), args.undo)
            return 0
        _prepare(settings)
        from dgan_backend.synthesis.pushing import Order

        order = Order(args.count, args.for_labeling, args.seed, args.same_project, args.annotations)
        _say_pushed(push(settings, site, args.project, order, args.state))
    return 0


def push(
    settings: Settings,
    site: LabelStudioClient,
    number: int,
    order: Order,
    state: Path | None = None,
) -> Pushed:
    """Push samples of the version that serves a project. state: the folder of a running `start`."""
    from dgan_backend.synthesis.pushing import Pusher

    project = open_project_of(site, number)
    segmenter = _serving(settings, project)
    if caution := segmenter.generator.card.caution:
        print(f"dgan-backend: {caution}", file=sys.stderr)
    with alone(settings, project, state) as check:
        return Pusher(site, project, segmenter, check, _bar).push(order)


def _undo(
    settings: Settings, site: LabelStudioClient, number: int, batch: str, state: Path | None
) -> Undone:
    from dgan_backend.synthesis import sister
    from dgan_backend.synthesis.undoing import undo

    project = open_project_of(site, number, usable=False)
    beside = sister.find(site, number)
    projects = [number] if beside is None else [int(beside["id"]), number]
    with alone(settings, project, state) as check:
        return undo(site, projects, batch, check)


def _serving(settings: Settings, project: Project) -> Segmenter:
    from dgan_backend.registry import Registry

    assert project.binding is not None
    registry = Registry.of(settings)
    version = registry.current(project.binding.partonomy, project.number, project.uid)
    if version is None:
        raise DganError(
            f"Project {project.number} has no version in {settings.models} yet, so nothing is "
            "known of its parts; submit a few annotations first. If it has one elsewhere, set "
            "MODEL_DIR as the backend has it."
        )
    return registry.segmenter(version)


def _prepare(settings: Settings) -> None:
    """Have the memory allocator and the threads set for what is to be computed."""
    from dgan_backend.supervision import compute

    compute.restart_with(compute.environment(compute.share(1, settings.threads)))


def _bar(name: str, steps: Iterable[int]) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(list(steps), desc=name, unit="picture")


def _say_pushed(pushed: Pushed) -> None:
    there = f" {pushed.there} of it were there." if pushed.there else ""
    print(f"{pushed.created} tasks were made in project {pushed.target}.{there}")
    print(f"Batch: {pushed.batch}")


def _say_undone(undone: Undone, batch: str) -> None:
    print(f"{undone.removed} tasks of {batch} were deleted, {len(undone.stayed)} stay.")
    for stayed in undone.stayed[:_SHOWN]:
        print(f"  project {stayed.project}, task {stayed.task}: {stayed.why}.")
    if len(undone.stayed) > _SHOWN:
        print(f"  and {len(undone.stayed) - _SHOWN} more")
