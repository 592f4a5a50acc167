"""The command that makes a data set of sampled, labeled pictures: synthesize."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgan_backend.arguments import add_precision, natural, positive, seed, set_up_computing
from dgan_backend.errors import DganError
from dgan_backend.factory.order import DROPPED, FORMATS
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage

if TYPE_CHECKING:
    from dgan_backend.factory.card import Subject, Tally
    from dgan_backend.factory.making import Found
    from dgan_backend.factory.order import Order
    from dgan_backend.factory.shards import Shards
    from dgan_backend.segmenter import Segmenter

_DESCRIPTION = """
Samples pictures, finds their parts, leaves out the most uncertain tenth, and writes the --count
pictures that remain as a data set, with a card that says what it is. The work is shared out in
shards of some seconds, to processes of this machine or, with --redis, to all workers of a Redis,
on however many machines. Ctrl-C (or a crash) loses a few seconds of work at most: the same command
goes on where it was.
"""
_EXAMPLES = """
formats:
  png         images/, masks/ (values are class indices), manifest.jsonl
  coco        COCO panoptic: images/, panoptic/, annotations/panoptic.json
  webdataset  train-000000.tar, ...: <seed>.image.png, <seed>.mask.png, <seed>.json
  parquet     data/train-*.parquet, which `datasets` loads (pip install 'dgan-backend[parquet]')

examples:
  dgan-backend synthesize --count 10000 --out heads
  dgan-backend synthesize --count 10000 --out s3://bucket/heads --format webdataset
  dgan-backend synthesize --count 500 --out p7 --version p7-toonhead-v0003 --filter 0.2

on several machines, all of which reach one Redis and the storage, and know the version:
  REDIS_URL=redis://... MODEL_DIR=... dgan-backend worker            on each of them
  REDIS_URL=redis://... MODEL_DIR=... dgan-backend synthesize --redis --count 10000 --out s3://...
"""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    synthesize = commands.add_parser(
        "synthesize",
        help="make a data set of sampled, labeled pictures, as large as you like",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    synthesize.add_argument(
        "--count", type=positive, required=True, help="pictures that remain after the filter"
    )
    synthesize.add_argument(
        "--out",
        required=True,
        metavar="URL",
        help="folder, s3://bucket/folder (pip install 'dgan-backend[s3]'), or any other that "
        "fsspec reaches; new, or what the same command began",
    )
    synthesize.add_argument(
        "--version",
        default="toonhead",
        metavar="NAME",
        help="a shipped version, one under MODEL_DIR, or a folder [%(default)s]",
    )
    synthesize.add_argument(
        "--format", choices=FORMATS, default="png", help="see below [%(default)s]"
    )
    synthesize.add_argument(
        "--filter",
        type=float,
        default=DROPPED,
        metavar="SHARE",
        help="of all that are sampled, the most uncertain ones, that is left out [%(default)s]",
    )
    synthesize.add_argument("--psi", type=float, help="truncation [the generator's card]")
    synthesize.add_argument(
        "--seed-start",
        type=seed,
        metavar="SEED",
        help="the first one [a million times the version's number]",
    )
    synthesize.add_argument(
        "--exact", action="store_true", help="the interpreter reads every pixel [near borders]"
    )
    synthesize.add_argument(
        "--second-opinion",
        action="store_true",
        help="the version's U-Nets label samples, too: slower, masks are more often right, and "
        "uncertainty knows better what is wrong [the interpreter alone]",
    )
    add_precision(synthesize)
    synthesize.add_argument(
        "--side",
        type=positive,
        metavar="PX",
        help="of pictures and masks: finer masks than the generator's pictures are, which are "
        "enlarged [the generator's]",
    )
    who = synthesize.add_mutually_exclusive_group()
    who.add_argument(
        "--jobs",
        type=natural,
        metavar="N",
        help="processes of this machine; 0: this one alone [one a core; on cuda, one]",
    )
    who.add_argument(
        "--redis",
        action="store_true",
        help="the workers of REDIS_URL, or else those of the running `dgan-backend start`",
    )
    synthesize.add_argument(
        "--state", type=Path, help="with --redis: folder of the running `start` [beside MODEL_DIR]"
    )
    synthesize.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was made; 130 when it was stopped before it was done."""
    if args.jobs == 0:
        set_up_computing()
    settings, folder = Settings.from_env(), Storage(args.out)
    began = time.monotonic()
    with _makers(args, settings) as makers:
        commission = _commission(args, settings, folder)
        if commission is None:
            return 0
        makers.make(folder, commission)
        return _finish(folder, commission, began)
    print(
        f"dgan-backend: stopped. What is made lies in {folder}/shards; the same command goes on.",
        file=sys.stderr,
    )
    return 130


@dataclass(frozen=True)
class Commission:
    """What is to be done: the order with what is there of it already, and of what it is."""

    shards: Shards
    subject: Subject
    before: int  # pictures that were sampled before this command


def _commission(args: argparse.Namespace, settings: Settings, folder: Storage) -> Commission | None:
    """None, said, when there is nothing left to do."""
    from dgan_backend.factory.card import read_order
    from dgan_backend.factory.shards import Shards

    order, subject = _order(args, settings)
    if (finished := read_order(folder)) is not None:
        _check_same(folder, finished, order)
        Shards(folder, order).delete()  # a command that was killed may have left them
        print(f"{folder} is there already: {order.count:,} labeled pictures.")
        return None
    shards = Shards.found(folder)
    if shards is not None:
        _check_same(folder, shards.order, order)
    elif folder.names() or folder.folders():
        raise DganError(f"{folder} has other things in it; choose another --out.")
    else:
        shards = Shards(folder, order)
        shards.begin()
    if subject.generator.caution:
        print(f"dgan-backend: {subject.generator.caution}", file=sys.stderr)
    before = sum(len(shards.order.seeds(number)) for number in shards.done())
    return Commission(shards, subject, before)


def _order(args: argparse.Namespace, settings: Settings) -> tuple[Order, Subject]:
    from dgan_backend.factory.card import Subject
    from dgan_backend.factory.making import find_version
    from dgan_backend.factory.order import Order, samples_for, shard_size
    from dgan_backend.synthesis.batch import first_seed

    if args.format == "parquet":
        from dgan_backend.factory.formats.parquet import pyarrow

        pyarrow()
    found = find_version(args.version, settings)
    segmenter, generator = found.segmenter, found.segmenter.generator
    if not 0.0 <= args.filter < 1.0:
        raise DganError(f"--filter is a share from 0 up to, but not, 1; not {args.filter}.")
    order = Order(
        version=found.name,
        interpreter=found.sha256,
        generator=generator.card.sha256,
        generator_id=generator.id,
        count=args.count,
        drop=args.filter,
        truncation=segmenter.truncation if args.psi is None else args.psi,
        first=first_seed(segmenter.version) if args.seed_start is None else args.seed_start,
        shard=shard_size(
            max(generator.resolution, args.side or 0), samples_for(args.count, args.filter)
        ),
        format=args.format,
        exact=args.exact,
        side=args.side or 0,
        precision=_precision(segmenter, args.precision or settings.precision),
        student=_second_opinion(found) if args.second_opinion else "",
    )
    return order, Subject(segmenter.partonomy, generator.card)


def _second_opinion(found: Found) -> str:
    found.segmenter.ask_student()
    return found.student


def _precision(segmenter: Segmenter, wanted: str) -> str:
    """What is wanted, or float32 where it comes to the same here."""
    from dgan_backend.precision import FLOAT32

    segmenter.compute_in(wanted)
    return "float32" if segmenter.numbers == FLOAT32 else wanted


def _check_same(folder: Storage, there: Order, wanted: Order) -> None:
    before, now = there.to_json(), wanted.to_json()
    different = [
        f"{name} {before.get(name)} instead of {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if different:
        raise DganError(
            f"{folder} holds another data set ({'; '.join(different)}); choose another --out, or "
            "say what was said then."
        )


class Makers:
    """Who makes shards. tend: called a few times a second meanwhile."""

    def __init__(self, client: Callable[[], Any], tend: Callable[[], None]) -> None:
        self._client, self._tend = client, tend

    def make(self, folder: Storage, commission: Commission) -> None:
        from dgan_backend.factory.desk import Desk, key_of
        from dgan_backend.factory.waiting import Waiting

        shards, client = commission.shards, self._client()
        desk = Desk(client, key_of(folder.url, shards.order))
        with _bar("sampling and labeling", shards.order.samples, commission.before) as bar:
            waiting = Waiting(desk, shards, folder.url, self._tend, lambda n: _show(bar, n))
            try:
                waiting.run()
            finally:
                waiting.end()


class Alone(Makers):
    """This very process."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(lambda: None, lambda: None)
        self._settings = settings

    def make(self, folder: Storage, commission: Commission) -> None:
        from dgan_backend.factory import making

        shards, order = commission.shards, commission.shards.order
        segmenter = making.version_of(order, self._settings)
        with _bar("sampling and labeling", order.samples, commission.before) as bar:
            for number in sorted(set(range(order.shards)) - shards.done()):

                def tick(pictures: int) -> None:
                    bar.update()

                shards.write(number, making.items(segmenter, order, number, tick))


@contextmanager
def _makers(args: argparse.Namespace, settings: Settings) -> Iterator[Makers]:
    """Goes on behind the block when it was ended by a signal."""
    if args.jobs == 0 or args.redis:
        try:
            yield Alone(settings) if args.jobs == 0 else _workers_of(settings, args)
        except KeyboardInterrupt:
            return
    else:
        with _own_workers(settings, args.jobs) as makers:
            yield makers


def _workers_of(settings: Settings, args: argparse.Namespace) -> Makers:
    from dgan_backend import jobs

    client = jobs.reach(settings, args.state)
    if client is None:
        raise DganError(
            "--redis needs REDIS_URL, or a running `dgan-backend start`; without it, processes of "
            "this machine do the work."
        )
    if not jobs.workers(client):
        print(
            "dgan-backend: no worker is there yet; start some with `dgan-backend worker`.",
            file=sys.stderr,
        )
    if (folder := Storage(args.out)).local:
        print(
            f"dgan-backend: only workers of this machine reach {folder}; for others, --out has to "
            "be storage such as s3://bucket/folder.",
            file=sys.stderr,
        )
    return Makers(lambda: client, lambda: None)


@contextmanager
def _own_workers(settings: Settings, count: int | None) -> Iterator[Makers]:
    """A Redis and workers that live as long as this command."""
    from dgan_backend import jobs
    from dgan_backend.supervision import compute, services
    from dgan_backend.supervision.launcher import Launcher

    by_default = 1 if settings.device != "cpu" else compute.cores() // (settings.threads or 1)
    settings = replace(settings, workers=max(1, count or by_default))
    state = Path(tempfile.mkdtemp(prefix="dgan-synthesize-"))
    try:
        with Launcher(state, report=_say) as launcher:
            redis, settings = services.embedded_redis(settings, launcher.state)
            launcher.start(redis)
            env = dict(os.environ) | services.child_env(settings)
            for number in range(1, settings.workers + 1):
                launcher.spawn(services.worker(number, settings, env))
            yield Makers(lambda: jobs.connect(settings), launcher.tend)
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _finish(folder: Storage, commission: Commission, began: float) -> int:
    from dgan_backend.factory.finishing import finish

    order = commission.shards.order
    with _bar("writing", order.samples) as bar:
        tally: Tally = finish(folder, commission.shards, commission.subject, bar.update)
    seconds, made = time.monotonic() - began, order.samples - commission.before
    print(
        f"{folder}: {tally.pictures:,} labeled pictures ({order.format}); of {order.samples:,} "
        f"that were sampled, {order.samples - tally.pictures:,} with an uncertainty over "
        f"{tally.limit[0]:.4f} nats were left out. {made:,} were sampled now, in {seconds:.0f} s: "
        f"{made / seconds:.1f} a second, all included."
    )
    return 0


def _bar(what: str, pictures: int, before: int = 0) -> Any:
    """before: what was there, and counts for no pace."""
    from tqdm import tqdm

    return tqdm(total=pictures, initial=before, desc=what, unit="picture", smoothing=0.05)


def _show(bar: Any, pictures: int) -> None:
    bar.n = pictures
    bar.refresh()


def _say(line: str) -> None:
    print(f"dgan-backend: {line}", file=sys.stderr)
