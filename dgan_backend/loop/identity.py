"""What a project's generator is, so that one that has changed is noticed."""

from __future__ import annotations

from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.generators.native import read_card
from dgan_backend.generators.references import generator_folder
from dgan_backend.labelstudio.project import Project
from dgan_backend.loop.starting import starting_generator
from dgan_backend.student.native import backbone_id


def generator_identity(reference: str) -> list[str]:
    """What of a generator versions depend on: its weights, and its backbone's."""
    return [read_card(generator_folder(reference)).id, backbone_id(reference)]


def generator_now(project: Project) -> str:
    """The identity of a project's generator, as cheap text: of a file of another project its path
    and size; "" where there is none that can be read."""
    try:
        reference = starting_generator(project)
        path = Path(reference)
        if path.is_file():
            return f"{path} {path.stat().st_size}"
        return " ".join(generator_identity(reference))
    except (DganError, OSError):
        return ""
