"""What a project without any version begins with."""

from __future__ import annotations

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.project import Project
from dgan_backend.records import version_name

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
