"""Which version serves a project: shipped versions and those under MODEL_DIR."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgan_backend.errors import DamagedError, DganError
from dgan_backend.generators.native import write_json
from dgan_backend.partonomy import Partonomy
from dgan_backend.records import version_name
from dgan_backend.segmenter import Segmenter, shipped_versions
from dgan_backend.settings import Settings
from dgan_backend.sharing import Shared
from dgan_backend.storage import Storage
from dgan_backend.versions import CARD, Source, read_sources

_LOADED = 8  # versions held in memory
NAME = re.compile(r"p(\d+)-(.+)-v(\d{4,})")  # of a project's version: project, partonomy, number
_DAMAGED = ".damaged"  # end of the name of a folder that was put aside

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """A version under MODEL_DIR. project, partonomy, number: of its name. uid: of the project
    that it was trained for ("" = fitted by hand). held_back: why it was not made current; "" = it
    may be. training: what its card tells."""

    name: str
    project: int
    partonomy: str
    number: int
    uid: str
    held_back: str
    training: dict[str, Any]


class Registry:
    """Versions by name, each loaded once per process while it is in use. Safe to use from many
    threads, and together with other processes: what is current is read from disk every time.
    """

    def __init__(
        self,
        model_dir: Path,
        device: str = "cpu",
        shared: Shared | None = None,
        precision: str = "float32",
    ) -> None:
        """shared: where `model_dir` mirrors storage that several machines share. precision: as
        PRECISION has it."""
        self._model_dir = model_dir
        self._device = device
        self._shared = shared
        self._precision = precision
        self._loaded: OrderedDict[str, Segmenter] = OrderedDict()
        self._kept: dict[Path, tuple[tuple[int, int], Kept]] = {}  # by card, with its stamp
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Registry:
        shared = Shared.of(settings)
        return cls(settings.model_dir, settings.device, shared, settings.precision)

    def current(
        self, partonomy: Partonomy, project: int | None = None, uid: str = ""
    ) -> str | None:
        """The version that serves a project with that partonomy, or None before it is trained.

        The last of those named `p<project>-<partonomy>-v<NNNN>`, but for those held back, unless
        another was made current after it came; else the shipped one. Versions trained for another
        project of that number (another Label Studio's) do not count.
        """
        own = self._own(partonomy.name, project, uid)
        shipped = f"{partonomy.name}-shipped"
        return own or (shipped if shipped in shipped_versions() else None)

    def serving(self, kept: Kept) -> bool:
        """Whether a version serves the project that it was trained for."""
        return self._own(kept.partonomy, kept.project, kept.uid) == kept.name

    def _own(self, partonomy: str, project: int | None, uid: str) -> str | None:
        """The current one of a project's own versions."""
        if project is None:
            return None
        own = [k for k in self.versions(project, uid) if k.partonomy == partonomy]
        _, chosen, last = max(map(_told, self._pointers(partonomy, project, uid)))
        free = [k for k in own if not k.held_back]
        if chosen in [k.name for k in own] and not any(k.number > last for k in free):
            return chosen
        return free[-1].name if free else None

    def versions(self, project: int | None = None, uid: str = "") -> list[Kept]:
        """Those of a project, or of all, in the order of their numbers."""
        found = [self._read(self._model_dir / name) for name in self._names(project)]
        own = [k for k in found if k is not None and (not uid or k.uid in ("", uid))]
        return sorted(own, key=lambda k: (k.project, k.partonomy, k.number))

    def damaged(self, project: int) -> list[str]:
        """The names of a project's versions that were put aside."""
        found = (name.removesuffix(_DAMAGED) for name in self._listed(project, _DAMAGED))
        return sorted(name for name in found if NAME.fullmatch(name))

    def _names(self, project: int | None) -> list[str]:
        """Of folders that may be versions. Asked for with every request, so without globs."""
        return [name for name in self._listed(project) if NAME.fullmatch(name)]

    def _listed(self, project: int | None, ending: str = "") -> list[str]:
        prefix = "p" if project is None else f"p{project}-"
        if self._shared is not None:
            self._shared.pull()
        try:
            names = os.listdir(self._model_dir)
        except OSError:
            return []
        return [name for name in names if name.startswith(prefix) and name.endswith(ending)]

    def next_name(self, partonomy: Partonomy, project: int) -> str:
        """The name of the next version, whatever the last one's fate was."""
        names = [*self._names(project), *self.damaged(project)]
        found = [match for name in names if (match := NAME.fullmatch(name))]
        own = [int(match[3]) for match in found if match[2] == partonomy.name]
        return version_name(partonomy.name, project, max(own, default=0) + 1)

    def publish(self, segmenter: Segmenter, *, current: bool) -> None:
        """Write a version whole, and make it current. One that is not held back is current as soon
        as its folder is there: a process that is killed right then has lost nothing."""
        if self._shared is None:
            segmenter.save(self._model_dir / segmenter.version)
        else:
            with tempfile.TemporaryDirectory(prefix="dgan-version-") as scratch:
                folder = Path(scratch) / segmenter.version
                segmenter.save(folder)
                self._shared.publish(segmenter.version, folder, segmenter.card.generator)
        if current:
            self.use(segmenter.version)

    def take(self, folder: Path, generator: str) -> None:
        """Take in a version that another MODEL_DIR had, which lies whole in a folder of its name
        beside MODEL_DIR's. generator: as its card has it. Raises DganError when there is one of
        that name."""
        if self._shared is not None:
            self._shared.publish(folder.name, folder, generator)
            return
        try:
            folder.rename(self._model_dir / folder.name)
        except OSError as error:
            raise DganError(
                f"{self._model_dir / folder.name} cannot be written ({error.strerror}); versions "
                "are never overwritten."
            ) from error

    def use(self, version: str) -> None:
        """Make a version current; raises DganError when there is no such version."""
        if self._shared is not None:
            self._shared.pull(at_once=True)
        kept = self._read(self._model_dir / version)
        if kept is None or kept.name != version:
            names = ", ".join(k.name for k in self.versions()) or "none"
            raise DganError(f"There is no version {version!r} under {self._place}: {names}.")
        path = self._pointer(kept.partonomy, kept.project, kept.uid)
        own = [k.number for k in self.versions(kept.project) if k.partonomy == kept.partonomy]
        last = max(own, default=kept.number)
        told = {"version": version, "last": last, "time": time.time()}
        if self._shared is None:
            write_json(path, told)
        else:
            self._shared.choose(path.name, told)

    def prune(self, project: int, keep: int) -> list[str]:
        """Delete a project's versions but for the last `keep`, the current one and the last good
        one; returns their names. Each partonomy, and each Label Studio, counts for itself. The
        very last one always stays: numbers are not given twice, and its card tells what was
        learned."""
        gone = []
        versions = self.versions(project)
        for group in sorted({(k.partonomy, k.uid) for k in versions}):
            own = [k for k in versions if (k.partonomy, k.uid) == group]
            chosen = [_told(path)[1] for path in self._pointers(group[0], project)]
            free = [k.name for k in own if not k.held_back]
            stay = {*chosen, *(k.name for k in own[-max(keep, 1) :]), *free[-1:]}
            gone += [k.name for k in own if k.name not in stay]
        for version in gone:
            self._delete(version)
        return gone

    def forget(self, project: int, uid: str = "") -> list[str]:
        """Delete all versions of a project; returns their names. uid: only those that were
        trained for it, where another Label Studio has a project of that number."""
        versions = [k for k in self.versions(project) if not uid or k.uid == uid]
        for k in versions:
            for path in self._pointers(k.partonomy, project):
                if not uid or _told(path)[1] == k.name:
                    path.unlink(missing_ok=True)
                    if self._shared is not None:
                        self._shared.forget_choice(path.name)
            self._delete(k.name)
        if not uid:  # what a process that was killed was writing, and what was put aside
            for ending in (".partial", _DAMAGED):
                for folder in self._model_dir.glob(f"p{project}-*-v[0-9]*{ending}"):
                    shutil.rmtree(folder, ignore_errors=True)
        return [k.name for k in versions]

    def sources(self, version: str) -> tuple[Source, ...]:
        """Where the pictures of a version under MODEL_DIR come from."""
        try:
            return read_sources(self.folder(version))
        except DganError:
            return ()

    def segmenter(self, version: str) -> Segmenter:
        """The segmenter of a version; raises DganError when there is no such version.

        DamagedError: it was one. It is put aside, so the version before serves from now on.
        """
        with self._lock:
            if version not in self._loaded:
                loaded = self._load(version)
                loaded.compute_in(self._precision)
                self._loaded[version] = loaded
                while len(self._loaded) > _LOADED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(version)
            return self._loaded[version]

    def _load(self, version: str) -> Segmenter:
        folder = self.folder(version)
        try:
            return Segmenter.load(folder, device=self._device)
        except DamagedError as error:
            if folder.parent != self._model_dir:
                raise  # it came with the package
            if self._shared is None:
                _put_aside(folder)
                raise DamagedError(
                    f"{error} Version {version} was put aside, and the one before serves; what it "
                    "had learned is learned again by itself."
                ) from error
            log.error("%s It is fetched again.", error)
            shutil.rmtree(folder, ignore_errors=True)
            self._shared.pull(at_once=True)
            return Segmenter.load(self.folder(version), device=self._device)

    def folder(self, version: str) -> Path:
        """Where a version lies; raises DganError when there is no such version."""
        folder = shipped_versions().get(version, self._model_dir / version)
        if self._shared is not None and folder.parent == self._model_dir:
            self._shared.pull()
            self._shared.fetch(version)
        if not folder.is_dir():
            raise DganError(f"There is no version {version!r}; look into {self._place}.")
        return folder

    @property
    def _place(self) -> Path | Storage:
        """What people call MODEL_DIR."""
        return self._model_dir if self._shared is None else self._shared.place

    def _read(self, folder: Path) -> Kept | None:
        """None where a folder's name or card is not a version's, or it was just deleted."""
        card, match = folder / CARD, NAME.fullmatch(folder.name)
        try:
            status = card.stat()
            stamp = status.st_ino, status.st_mtime_ns
            known = self._kept.get(card)
            if known is not None and known[0] == stamp:
                return known[1]
            training = json.loads(card.read_text(encoding="utf-8"))["training"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ValueError) and match is not None and self._shared is None:
                _put_aside(folder)
            return None
        if match is None or not isinstance(training, dict):
            return None
        kept = Kept(
            name=folder.name,
            project=int(match[1]),
            partonomy=match[2],
            number=int(match[3]),
            uid=str(training.get("project", "")),
            held_back=str(training.get("held_back", "")),
            training=training,
        )
        self._kept[card] = stamp, kept
        return kept

    def _delete(self, version: str) -> None:
        """Its card first: without it, a folder is no version."""
        if self._shared is not None:
            self._shared.delete(version)
        folder = self._model_dir / version
        (folder / CARD).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        with self._lock:
            self._kept.pop(folder / CARD, None)
            self._loaded.pop(version, None)

    def _pointers(self, partonomy: str, project: int, uid: str = "") -> list[Path]:
        """Files that tell of a choice for a project; without a uid those of all Label Studios."""
        shared = self._pointer(partonomy, project)
        if uid:
            return [self._pointer(partonomy, project, uid), shared]
        return [shared, *self._model_dir.glob(f"p{project}-{partonomy}.*.current.json")]

    def _pointer(self, partonomy: str, project: int, uid: str = "") -> Path:
        """Versions fitted by hand are chosen for all projects of that number."""
        of = f"{partonomy}.{uid}" if uid else partonomy
        return self._model_dir / f"p{project}-{of}.current.json"


def _put_aside(folder: Path) -> None:
    """In one step, for whoever looks after the disk; nothing happens where another process has."""
    target = folder.with_name(folder.name + _DAMAGED)
    shutil.rmtree(target, ignore_errors=True)
    try:
        folder.rename(target)
        log.error("Version %s is damaged: it was put aside as %s", folder.name, target)
    except OSError as error:
        log.error("Version %s is damaged, and stays where it is: %s", folder.name, error)


def _told(pointer: Path) -> tuple[float, str, int]:
    """When a version was made current, its name, and the number of the last one at that time."""
    try:
        told = json.loads(pointer.read_text(encoding="utf-8"))
        version, last = str(told["version"]), int(told["last"])
        return float(told.get("time", 0.0)), version, last
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, "", 0
