"""What a training came to, as the job notes it on the board for /status."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dgan_backend.labelstudio.corrections import Correction
from dgan_backend.labelstudio.project import Project
from dgan_backend.loop.effort import effort

if TYPE_CHECKING:
    from dgan_backend.loop.training import Trained

NOTE = "training"  # its key among the board's notes
FINDINGS = "findings"  # of the doctor: a list of what is not "ok"


def outcome(project: Project, corrections: Sequence[Correction], trained: Trained) -> str:
    """A JSON object: time, version ("" = none was made), said, corrections (how many there are),
    left_out, removed_labels ({label: in how many tasks}), effort (see `effort`)."""
    assert project.binding is not None
    gone = Counter(label for c in corrections for label in c.unknown_labels(project.binding))
    return json.dumps(
        {
            "time": time.time(),
            "version": trained.version,
            "said": trained.said,
            "corrections": len(corrections),
            "left_out": [asdict(left) for left in trained.left_out],
            "removed_labels": dict(sorted(gone.items())),
            "effort": effort(corrections),
        }
    )


def read_outcome(noted: str) -> dict[str, Any]:
    """{} before there was one."""
    return dict(json.loads(noted)) if noted else {}
