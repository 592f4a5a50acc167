"""Out-of-fold students: what a version would say of pictures that it has not learned from.

A twin of fold f goes the way of its version, but never sees the corrections of that fold. Twins
lie beside the versions, under MODEL_DIR/twins; they decide what is promoted and serve nobody.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.loop.validation import fold_of
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.sharing import Shared
from dgan_backend.student.native import load_student, save_student
from dgan_backend.student.student import Student
from dgan_backend.versions import TrainingSet

_FOLDER = "twins"

log = logging.getLogger(__name__)


class Twins:
    """Under one MODEL_DIR."""

    def __init__(self, model_dir: Path, device: str = "cpu", shared: Shared | None = None) -> None:
        self._folder, self._device, self._shared = model_dir / _FOLDER, device, shared

    @classmethod
    def of_settings(cls, settings: Settings) -> Twins:
        return cls(settings.model_dir, settings.device, Shared.of(settings))

    def of(self, segmenter: Segmenter, fold: int) -> Student | None:
        """The twin of a version; None where there is none.

        A version that has not learned from any correction of the fold is its own twin.
        """
        if segmenter.student is None:
            return None
        if not any(rows_of_fold(segmenter.data, fold)):
            networks = segmenter.student.networks[:1]
            mirror, swap = segmenter.student.mirror, segmenter.student.swap
            return Student(networks, mirror, swap, segmenter.student.correction)
        folder = self._folder / segmenter.version / str(fold)
        if self._shared is not None:
            self._shared.fetch_twin(f"{segmenter.version}.{fold}", folder)
        try:
            return load_student(folder, self._device) if folder.is_dir() else None
        except DganError as error:  # damaged; one is made again when it is needed
            log.warning("%s It is deleted.", error)
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def keep(self, version: str, fold: int, twin: Student) -> None:
        folder = self._folder / version / str(fold)
        folder.mkdir(parents=True, exist_ok=True)
        save_student(folder, twin)
        if self._shared is not None:
            self._shared.keep_twin(f"{version}.{fold}", folder)

    def delete(self, version: str) -> None:
        shutil.rmtree(self._folder / version, ignore_errors=True)
        if self._shared is not None:
            self._shared.delete_twins(f"{version}.")

    def forget(self, project: int) -> None:
        """Delete those of all versions of a project, also of one that was never finished."""
        for folder in self._folder.glob(f"p{project}-*-v[0-9]*"):
            shutil.rmtree(folder, ignore_errors=True)
        if self._shared is not None:
            self._shared.delete_twins(f"p{project}-")


def rows_of_fold(data: TrainingSet, fold: int) -> list[bool]:
    """Which pictures are corrections of that fold."""
    return [s.task is not None and fold_of(s.task) == fold for s in data.sources]
