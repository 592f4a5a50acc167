"""What people name a generator by, and what is loaded for it: a shipped name, a native folder, or a
file of another project."""

from __future__ import annotations

from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.generators.checkpoints import converted
from dgan_backend.generators.native import CARD, Generator, read_generator

SHIPPED = Path(__file__).parent.parent / "shipped" / "generators"


def load_generator(name: str | Path, device: str = "cpu") -> Generator:
    """Load a shipped generator by its name, or a native folder or a file of another project by its
    path; see checkpoints.py for those files.

    Raises DganError that names the file at fault and what to do.
    """
    return read_generator(generator_folder(name), device)


def shipped_generators() -> list[str]:
    """Names of the generators that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CARD}"))


def generator_folder(name: str | Path) -> Path:
    """The native folder that a shipped name or a path means; raises DganError when none does.

    Of a file of another project, it is the one that the file is converted to.
    """
    if isinstance(name, str) and name in shipped_generators():
        return SHIPPED / name
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        return converted(path)
    known = ", ".join(shipped_generators()) or "none"
    raise DganError(
        f"There is no generator {str(name)!r}: shipped are {known}; or give a folder or a file."
    )
