"""The command line. Imports torch only in commands that compute, never in a supervisor."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from dgan_backend import (
    __version__,
    arguments,
    doctor_command,
    evaluation_commands,
    generator_commands,
    migration_commands,
    partonomy_commands,
    project_commands,
    push_commands,
    student_commands,
    synthesize_command,
    version_commands,
)
from dgan_backend.arguments import add_device, minutes, natural, positive, seed
from dgan_backend.errors import DganError
from dgan_backend.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (2 = the user can mend it, 130 = Ctrl-C)."""
    args = _parser().parse_args(
        evaluation_commands.with_action(sys.argv[1:] if argv is None else argv)
    )
    try:
        return int(args.run(args) or 0)
    except DganError as error:
        print(f"dgan-backend: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dgan-backend",
        description="A Label Studio ML backend that learns parts from 16 labeled images.",
    )
    parser.add_argument("--version", action="version", version=f"dgan-backend {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_model_commands(commands)
    generator_commands.add_commands(commands)
    evaluation_commands.add_commands(commands)
    _add_benchmark_command(commands)
    partonomy_commands.add_commands(commands)
    version_commands.add_commands(commands)
    push_commands.add_command(commands)
    synthesize_command.add_command(commands)
    student_commands.add_commands(commands)
    migration_commands.add_commands(commands)
    project_commands.add_commands(commands)
    doctor_command.add_command(commands)
    _add_service_commands(commands)
    return parser


def _add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """sample, segment, fit: see workbench.py."""
    sample = commands.add_parser("sample", help="sample pictures with their parts")
    sample.add_argument("--count", type=positive, default=24, help="[%(default)s]")
    sample.add_argument("--seed", type=seed, default=0, help="of the first one [%(default)s]")
    sample.add_argument("--truncation", type=float, help="psi [the generator's card]")
    arguments.add_precision(sample)
    sample.set_defaults(run=partial(_workbench, "sample"))
    segment = commands.add_parser("segment", help="find the parts of pictures from outside")
    segment.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    segment.set_defaults(run=partial(_workbench, "segment"))
    bare = sample.add_mutually_exclusive_group()
    bare.add_argument(
        "--generator",
        help="name, folder or file (see `generator import`): pictures of it, without parts",
    )
    for command in (bare, segment):
        command.add_argument(
            "--model", default="toonhead", help="a shipped version or a folder [%(default)s]"
        )
    for command in (sample, segment):
        command.add_argument("--sheet", type=Path, help="write all side by side to this picture")
        command.add_argument("--out", type=Path, help="write each one's files into this folder")
        command.add_argument(
            "--exact", action="store_true", help="the interpreter reads every pixel [near borders]"
        )
    fit = commands.add_parser("fit", help="learn parts from labeled pictures")
    fit.add_argument("pairs", type=Path, help="folder with images/ and masks/, or an npz")
    fit.add_argument("--out", type=Path, required=True, help="the version folder to write")
    fit.add_argument("--generator", default="toonhead", help="name, folder or file [%(default)s]")
    fit.add_argument("--partonomy", default="toonhead", help="name or YAML file [%(default)s]")
    fit.add_argument("--count", type=positive, help="use this many, drawn by --seed [all]")
    fit.add_argument("--pool", type=positive, help="draw from the first so many only [all]")
    fit.add_argument("--seed", type=seed, default=0, help="[%(default)s]")
    fit.add_argument(
        "--outside",
        choices=("auto", "student", "interpreter"),
        default="auto",
        help="what labels pictures from outside; auto: the better one on held-back labels",
    )
    fit.add_argument("--steps", type=positive, default=1200, help="interpreter's [%(default)s]")
    fit.add_argument(
        "--directions",
        type=natural,
        default=64,
        help="of the maps of each size that the interpreter reads; 0: all features [%(default)s]",
    )
    fit.add_argument(
        "--maps",
        choices=("generator", "generator+picture"),
        default="generator",
        help="what the interpreter reads [%(default)s]",
    )
    fit.add_argument("--members", type=positive, default=2, help="student's [%(default)s]")
    fit.add_argument("--pictures", type=positive, help="each of them sees at most [9600]")
    fit.add_argument(
        "--turns",
        action="store_true",
        help="pictures have no up: they are learned at any angle [as the generator]",
    )
    fit.add_argument(
        "--no-mirror",
        action="store_true",
        help="left and right differ in meaning; classes named `left ...` and `right ...` are "
        "swapped in mirrored pictures without it",
    )
    fit.set_defaults(run=partial(_workbench, "fit"))
    for command in (sample, segment, fit):
        add_device(command)


def _add_benchmark_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """benchmark: see benchmark/commands.py."""
    command = commands.add_parser(
        "benchmark",
        help="what labels cost beside the picture alone, and beside the original's way",
        description="Times pictures alone, with labels, and labeled the original's way, of the "
        "shipped generator and of random ones of 256, 512 and 1024 px. Up to 10 minutes on two "
        "cores with nothing else to do.",
    )
    command.add_argument("--json", type=Path, help="all figures, and a plot beside them")
    command.add_argument("--plot", type=Path, help="the plot, to this png or svg")
    command.add_argument("--quick", action="store_true", help="a small generator, to see it work")
    arguments.add_precision(command)
    command.set_defaults(run=_benchmark)


def _workbench(command: str, args: argparse.Namespace) -> int:
    arguments.set_up_computing()
    from dgan_backend import workbench

    run: Callable[[argparse.Namespace], int] = getattr(workbench, command)
    return run(args)


def _benchmark(args: argparse.Namespace) -> int:
    arguments.set_up_computing()
    from dgan_backend.benchmark.commands import benchmark

    return benchmark(args)


def _add_service_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """serve, worker, start, demo: see server.py, jobs.py, services.py, demo.py."""
    start = commands.add_parser(
        "start", help="run everything: Redis (unless REDIS_URL is set), web process, workers"
    )
    start.add_argument("--state", type=Path, help="folder for logs and Redis [beside MODEL_DIR]")
    start.set_defaults(run=_start)
    serve = commands.add_parser("serve", help="run the web process alone")
    serve.set_defaults(run=_serve)
    for command in (start, serve):
        command.add_argument(
            "--host", default="127.0.0.1", help="0.0.0.0 lets other machines in [%(default)s]"
        )
        command.add_argument("--port", type=int, help="[PORT, or 9090]")
    worker = commands.add_parser("worker", help="run one worker alone (needs REDIS_URL)")
    worker.add_argument("--burst", action="store_true", help="end when the queue is empty")
    worker.add_argument(
        "--check", action="store_true", help="run none; say whether one of this machine lives"
    )
    worker.set_defaults(run=_worker)
    _add_demo_command(commands)
    _add_loadtest_command(commands)


def _add_demo_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="Label Studio with this backend and 24 pictures")
    demo.add_argument(
        "--state", type=Path, default=Path(".demo"), help="folder of all its data [%(default)s]"
    )
    demo.add_argument("--port", type=int, default=8080, help="of Label Studio [%(default)s]")
    demo.add_argument("--backend-port", type=int, default=9090, help="[%(default)s]")
    _add_label_studio(demo)
    demo.add_argument("--browser", choices=("yes", "no"), default="no", help="open the page")
    demo.set_defaults(run=_demo)


def _add_label_studio(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--label-studio-python",
        type=Path,
        default=Path(".venv-label-studio/bin/python"),
        help="the Python that has label-studio installed [%(default)s]",
    )


def _add_loadtest_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """loadtest: see loadtest/."""
    command = commands.add_parser(
        "loadtest",
        help="simulated annotators against a real Label Studio with this backend",
        description="Starts Label Studio, Redis, web process and worker on free ports, as `demo` "
        "does, and ends them again. Annotators, each a user of Label Studio, take tasks as it "
        "deals them, keep drafts, submit, and change what they submitted, while pictures arrive "
        "and versions are trained. Told are p50, p95, p99 and the longest of each route as Label "
        "Studio waits for it, memory over time, and what became of each annotation and "
        "prediction. WORKERS and THREADS say how the backend runs.",
        epilog="exit status: 0, 1 when a correction was lost or a prediction doubled, 2 when it "
        "could not be run",
    )
    command.add_argument("--annotators", type=positive, default=20, help="[%(default)s]")
    command.add_argument(
        "--minutes",
        type=minutes,
        default=10.0,
        help="of labeling; start and end take a few more [%(default)s]",
    )
    command.add_argument(
        "--pictures",
        type=positive,
        default=240,
        help="of the shipped generator, in six parts; once all are labeled, annotators change "
        "what they did [%(default)s]",
    )
    command.add_argument(
        "--pause",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="that an annotator looks, and paints, on average [%(default)s]",
    )
    command.add_argument(
        "--patience",
        type=minutes,
        default=15.0,
        metavar="MINUTES",
        help="after the last annotation, until all must be learned [%(default)s]",
    )
    command.add_argument("--seed", type=seed, default=0, help="of what they do [%(default)s]")
    command.add_argument("--out", type=Path, metavar="FILE", help="all figures, as JSON")
    command.add_argument(
        "--state", type=Path, help="folder of all its data, with logs; it stays [a temporary one]"
    )
    _add_label_studio(command)
    command.set_defaults(run=_loadtest)


def _settings(args: argparse.Namespace) -> Settings:
    settings = Settings.from_env()
    return settings if args.port is None else replace(settings, port=args.port)


def _start(args: argparse.Namespace) -> int:
    from dgan_backend.supervision import services

    settings = _settings(args)
    return services.start(settings, args.state or services.state_of(settings), args.host)


def _serve(args: argparse.Namespace) -> int:
    from dgan_backend.supervision import compute

    settings = _settings(args)
    processes = 1 + settings.workers
    threads = compute.share(processes, settings.threads)
    compute.restart_with(compute.environment(threads, processes))
    from dgan_backend.server import serve

    serve(settings, args.host)
    return 0


def _worker(args: argparse.Namespace) -> int:
    from dgan_backend import jobs

    if args.check:
        return jobs.check_worker(Settings.from_env())
    return jobs.run_worker(Settings.from_env(), burst=args.burst)


def _demo(args: argparse.Namespace) -> int:
    from dgan_backend import demo

    return demo.run(
        demo.Options(
            state=args.state,
            port=args.port,
            backend_port=args.backend_port,
            label_studio_python=args.label_studio_python,
            browser=args.browser == "yes",
        )
    )


def _loadtest(args: argparse.Namespace) -> int:
    from dgan_backend import loadtest

    if args.pause <= 0:
        raise DganError(f"--pause is over 0 seconds, not {args.pause:g}.")
    names = [f.name for f in fields(loadtest.Options)]
    return loadtest.run(loadtest.Options(**{name: getattr(args, name) for name in names}))


if __name__ == "__main__":
    sys.exit(main())
