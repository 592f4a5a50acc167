"""Which code made a figure."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def commit() -> str:
    """Of the checkout that this code lies in, with `+` where files were changed; "" elsewhere."""
    folder = Path(__file__).parent.parent  # the package: its report may be written beside it
    git = ["git", "-C", str(folder)]
    try:
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "."], capture_output=True
        )
    except OSError:
        return ""
    found = done.stdout.strip() if done.returncode == 0 else ""
    return found + ("+" if found and changed.stdout.strip() else "")
