"""Which version serves a project: shipped interpreters and those under MODEL_DIR."""

from __future__ import annotations

import threading
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.partonomy import Partonomy
from dgan_backend.segmenter import Segmenter, shipped_versions
from dgan_backend.versions import CARD


class Registry:
    """Versions by name, each loaded at most once per process. Safe to use from many threads."""

    def __init__(self, model_dir: Path, device: str = "cpu") -> None:
        self._model_dir = model_dir
        self._device = device
        self._loaded: dict[str, Segmenter] = {}
        self._lock = threading.Lock()

    def current(self, partonomy: Partonomy, project: int | None = None) -> str | None:
        """The version that serves a project with that partonomy, or None before it is trained.

        Of the versions under MODEL_DIR named `p<project>-<partonomy>-v<NNNN>` the last one; else
        the shipped one.
        """
        pattern = f"p{project}-{partonomy.name}-v[0-9][0-9][0-9][0-9]"
        own = sorted(path.parent.name for path in self._model_dir.glob(f"{pattern}/{CARD}"))
        if own:
            return own[-1]
        shipped = f"{partonomy.name}-shipped"
        return shipped if shipped in shipped_versions() else None

    def segmenter(self, version: str) -> Segmenter:
        """The segmenter of a version; raises DganError when there is no such version."""
        with self._lock:
            if version not in self._loaded:
                self._loaded[version] = Segmenter.load(self._folder(version), device=self._device)
            return self._loaded[version]

    def _folder(self, version: str) -> Path:
        folder = shipped_versions().get(version, self._model_dir / version)
        if not folder.is_dir():
            raise DganError(f"There is no version {version!r}; look into {self._model_dir}.")
        return folder
