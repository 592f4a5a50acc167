"""What a project without any version begins with."""

from __future__ import annotations

from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.generators.native import read_card
from dgan_backend.generators.references import generator_folder
from dgan_backend.labelstudio.project import Project
from dgan_backend.records import version_name
from dgan_backend.student.native import backbone_id

DEFAULT_GENERATOR = "toonhead"  # of a project with labels of its own that names none


def starting_generator(project: Project) -> str:
    """Name or folder of the generator that a first version is learned on; raises DganError that
    says what to bring where no generator makes what the labels are of."""
    if project.binding is None:
        raise DganError(project.problem)
    tree = project.binding.partonomy
    if project.options.generator:
        return project.options.generator
    if tree.wanted and not tree.generator:
        raise DganError(tree.missing_generator(version_name(tree.name, project.number, 1)))
    return tree.generator or DEFAULT_GENERATOR


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
