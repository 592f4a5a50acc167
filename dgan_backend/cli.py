"""The command line. Imports torch only in commands that compute, never in a supervisor."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dgan_backend import __version__
from dgan_backend.errors import DganError


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
    """serve, worker, start, demo: see server.py, jobs.py, launcher.py, demo.py."""


if __name__ == "__main__":
    sys.exit(main())
