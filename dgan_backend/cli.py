"""The command line. Imports torch only in commands that compute, never in a supervisor."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dgan_backend import __version__
from dgan_backend.errors import DganError
from dgan_backend.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (2 = the user can mend it, 130 = Ctrl-C)."""
    args = _parser().parse_args(argv)
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
    _add_service_commands(commands)
    return parser


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
    worker.set_defaults(run=_worker)
    _add_demo_command(commands)


def _add_demo_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="Label Studio with this backend and 24 pictures")
    demo.add_argument(
        "--state", type=Path, default=Path(".demo"), help="folder of all its data [%(default)s]"
    )
    demo.add_argument("--port", type=int, default=8080, help="of Label Studio [%(default)s]")
    demo.add_argument("--backend-port", type=int, default=9090, help="[%(default)s]")
    demo.add_argument(
        "--label-studio-python",
        type=Path,
        default=Path(".venv-label-studio/bin/python"),
        help="the Python that has label-studio installed [%(default)s]",
    )
    demo.add_argument("--browser", choices=("yes", "no"), default="no", help="open the page")
    demo.set_defaults(run=_demo)


def _settings(args: argparse.Namespace) -> Settings:
    settings = Settings.from_env()
    return settings if args.port is None else replace(settings, port=args.port)


def _start(args: argparse.Namespace) -> int:
    from dgan_backend import services

    settings = _settings(args)
    state = args.state or settings.model_dir.parent / "run"
    return services.start(settings, state, args.host)


def _serve(args: argparse.Namespace) -> int:
    from dgan_backend import compute

    settings = _settings(args)
    compute.restart_with(compute.environment(compute.share(1, settings.threads)))
    from dgan_backend.server import serve

    serve(settings, args.host)
    return 0


def _worker(args: argparse.Namespace) -> int:
    from dgan_backend import jobs

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


if __name__ == "__main__":
    sys.exit(main())
