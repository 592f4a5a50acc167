"""`dgan-backend loadtest`: simulated annotators against all of it, and an account of the result."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from dgan_backend.demo import stack, studio
from dgan_backend.errors import DganError
from dgan_backend.loadtest import report
from dgan_backend.loadtest.trial import Options, Trial
from dgan_backend.supervision.launcher import Launcher

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Start everything, let them work, account for it, end everything. Returns 1 when a correction
    was lost or a prediction doubled, 130 when it was stopped."""
    command = studio.command(options.label_studio_python)
    if options.out is not None and options.out.is_dir():
        raise DganError(f"--out {options.out} is a folder; name a file.")
    stack.talk_directly()
    found: report.Report | None = None
    with _state(options) as state:
        with Launcher(state, report=_say) as launcher:
            found = Trial(options, launcher, command, _say).run()
        if found is None:
            return 130
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        _say("\n" + report.table(found))
    return int(report.failed(found))


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)


@contextmanager
def _state(options: Options) -> Iterator[Path]:
    if options.state is not None:
        yield options.state
        return
    with tempfile.TemporaryDirectory(prefix="dgan-load-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"
