"""What label-studio-ml 1.0.9 pins, with known holes, is not even imported: docs/security.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINNED = ("flask", "werkzeug", "itsdangerous", "jinja2")
CODE = f"""
import sys
import dgan_backend.server, dgan_backend.jobs, dgan_backend.cli
import dgan_backend.loop.work, dgan_backend.loop.bench
from dgan_backend.settings import Settings
from pathlib import Path
dgan_backend.server.create_app(Settings(model_dir=Path(sys.argv[1])))
print([name for name in {PINNED!r} if name in sys.modules])
"""


def test_no_flask_is_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_nobody_imports_it_in_the_source() -> None:
    for path in (ROOT / "dgan_backend").rglob("*.py"):
        words = path.read_text()
        assert not any(f"import {name}" in words for name in PINNED), path
        assert not any(f"from {name}" in words for name in PINNED), path
