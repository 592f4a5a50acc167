"""Versions on storage that several machines share: MODEL_DIR as a URL.

On storage lie `versions/NAME.json` (a note: the card, and which bundle has the files), bundles,
`twins/`, `generators/` and the files that say which version serves a project. A local folder
mirrors that: cards and choices of all versions, the files of those that were used here. So what
reads a local MODEL_DIR reads this one; only writing goes to storage first. A bundle is one tar,
named by its content and checked by its SHA-256; the note that names it is written after it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.generators.native import file_hash, read_card
from dgan_backend.generators.references import generator_folder, shipped_generators
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.student.native import backbone_id
from dgan_backend.versions import CARD

FRESH_SECONDS = 3.0  # what others did is seen after so long
GENERATOR_FILES = tuple(  # of a native folder, with encoder and backbone
    f"{part}.{ending}"
    for part in ("card", "generator", "encoder", "backbone")
    for ending in ("json", "safetensors")
)
CHOICE = ".current.json"  # how the files end that say which version serves a project

log = logging.getLogger(__name__)


class Bundles:
    """Folders of files, each as one tar and a note beside it."""

    def __init__(self, place: Storage) -> None:
        self._place = place

    def names(self) -> set[str]:
        return {name[:-5] for name in self._place.names() if name.endswith(".json")}

    def note(self, name: str) -> dict[str, Any] | None:
        """What was told with a bundle, beside `tar` and `sha256`; None where there is none."""
        text = self._place.find(f"{name}.json")
        try:
            return None if text is None else dict(json.loads(text))
        except ValueError as error:
            raise DganError(f"{self._place}/{name}.json is damaged; delete it.") from error

    def put(self, name: str, files: Iterable[Path], **told: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="dgan-bundle-") as scratch:
            path = Path(scratch) / "bundle.tar"
            with tarfile.open(path, "w") as tar:
                for file in sorted(files):
                    tar.add(file, file.name)
            digest = file_hash(path)
            tar_name = f"{name}-{digest[:16]}.tar"
            self._place.put(path, tar_name)
        note = {**told, "tar": tar_name, "sha256": digest}
        self._place.write(f"{name}.json", json.dumps(note).encode())

    def get(self, name: str, folder: Path) -> bool:
        """Unpack a bundle into a folder, which has its files one by one, whole; False where there
        is none. Raises DganError when it is damaged."""
        note = self.note(name)
        if note is None:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as scratch:
            path = Path(scratch) / "bundle.tar"
            self._place.get(note["tar"], path)
            if file_hash(path) != note["sha256"]:
                raise DganError(f"{self._place}/{note['tar']} is damaged: its SHA-256 is another.")
            with tarfile.open(path) as tar:
                tar.extractall(Path(scratch) / "files", filter="data")
            for file in (Path(scratch) / "files").iterdir():
                os.replace(file, folder / file.name)
        return True

    def delete(self, name: str) -> None:
        note = self.note(name)
        self._place.delete(f"{name}.json", *([note["tar"]] if note else []))


class Shared:
    """One MODEL_DIR on storage. mirror: the local folder that everything is read from."""

    def __init__(self, place: Storage, mirror: Path) -> None:
        self.place, self._mirror = place, mirror
        self._versions = Bundles(place / "versions")
        self._twins = Bundles(place / "twins")
        self._generators = Bundles(place / "generators")
        self._choices = place / "choices"
        self._local = Storage(mirror)
        self._pulled = -FRESH_SECONDS
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Shared | None:
        """None where MODEL_DIR is a local folder."""
        if not settings.model_url:
            return None
        return cls(Storage(settings.model_url), settings.model_dir)

    # Versions

    def pull(self, at_once: bool = False) -> None:
        """Have cards and choices of the mirror as they are on storage. When that cannot be reached,
        they stay as they were, and the log says so."""
        with self._lock:
            if not at_once and time.monotonic() - self._pulled < FRESH_SECONDS:
                return
            try:
                self._pull_cards()
                self._pull_choices()
            except DganError as error:
                log.warning("Versions may be out of date: %s", error)
            self._pulled = time.monotonic()

    def publish(self, name: str, folder: Path, generator: str) -> None:
        """Put a version there; raises DganError when there is one of that name: they never change.

        generator: as its card has it; one that does not come with the package goes along.
        """
        if self._versions.note(name) is not None:
            raise DganError(f"{self.place} has a version {name} already, and they never change.")
        bundle = (
            "" if generator in shipped_generators() else self._share(generator_folder(generator))
        )
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        self._versions.put(name, folder.iterdir(), card=card, generator=bundle)
        self.pull(at_once=True)

    def fetch(self, name: str) -> None:
        """Have the files of a version in the mirror."""
        folder = self._mirror / name
        if not (folder / CARD).is_file() or (folder / _WHOLE).is_file():
            return
        with self._lock:
            self._versions.get(name, folder)
            note = self._versions.note(name)
            if note is not None and note["generator"]:
                self._find_generator(folder, note["generator"])
            (folder / _WHOLE).touch()

    def delete(self, name: str) -> None:
        self._versions.delete(name)

    def choose(self, file: str, value: dict[str, Any]) -> None:
        """Write what says which version serves a project."""
        self._choices.write(file, json.dumps(value).encode())
        self.pull(at_once=True)

    def forget_choice(self, file: str) -> None:
        self._choices.delete(file)

    # Twins

    def keep_twin(self, name: str, folder: Path) -> None:
        self._twins.put(name, folder.iterdir())

    def fetch_twin(self, name: str, folder: Path) -> None:
        """Nothing happens where there is none."""
        if not folder.is_dir():
            self._twins.get(name, folder)

    def delete_twins(self, beginning: str) -> None:
        """Of versions whose names begin so."""
        for name in self._twins.names():
            if name.startswith(beginning):
                self._twins.delete(name)

    def _pull_cards(self) -> None:
        there = self._versions.names()
        for path in self._mirror.glob("p*-v*/"):
            if path.name not in there:
                (path / CARD).unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)
        for name in there:
            if not (self._mirror / name / CARD).is_file() and (note := self._versions.note(name)):
                self._local.write(f"{name}/{CARD}", json.dumps(note["card"]).encode())

    def _pull_choices(self) -> None:
        there = {name: self._choices.find(name) for name in self._choices.names()}
        for name, text in there.items():
            if text is not None and text != self._local.find(name):
                self._local.write(name, text)
        self._local.delete(
            *(n for n in self._local.names() if n.endswith(CHOICE) and n not in there)
        )

    def _share(self, generator: Path) -> str:
        """The bundle of a generator with its encoder and backbone, as they are now."""
        files = [generator / name for name in GENERATOR_FILES if (generator / name).is_file()]
        digests = "".join(f"{file.name} {file_hash(file)}\n" for file in files)
        bundle = hashlib.sha256(digests.encode()).hexdigest()[:16]
        if self._generators.note(bundle) is None:
            self._generators.put(bundle, files)
        return bundle

    def _find_generator(self, folder: Path, bundle: str) -> None:
        """A generator that is not where the card says is fetched, and the card of the mirror says
        where it is."""
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if generator_is_there(card):
            return
        target = self._mirror / "shared-generators" / bundle
        if not (target / _WHOLE).is_file():
            self._generators.get(bundle, target)
            (target / _WHOLE).touch()
        moved = {**card, "generator": str(target)}
        self._local.write(f"{folder.name}/{CARD}", json.dumps(moved).encode())


def generator_is_there(version: dict[str, Any]) -> bool:
    """Whether the generator that a version's card names is here, with the version's backbone."""
    reference = version["generator"]
    try:
        found = read_card(generator_folder(reference)).id
        needed = version.get("backbone_id", "")
        return bool(found == version["generator_id"] and needed in ("", backbone_id(reference)))
    except DganError:
        return False


_WHOLE = ".whole"  # beside files of which none is missing
