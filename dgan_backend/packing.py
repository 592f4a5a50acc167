"""A version as one file: a tar with all that it needs to be served, and the hash of each part.

`manifest.json` comes first; the files of the version lie in `version/`, those of its generator,
unless that comes with the package, in `generator/`. What is read are regular files of known names
only, and none of them is run: JSON and safetensors.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgan_backend import __version__
from dgan_backend.errors import DganError
from dgan_backend.generators.native import file_hash, write_json
from dgan_backend.generators.references import generator_folder, shipped_generators
from dgan_backend.partonomy import Partonomy
from dgan_backend.registry import NAME, Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.sharing import GENERATOR_FILES, generator_is_there
from dgan_backend.student.native import STUDENT_CARD, STUDENT_WEIGHTS
from dgan_backend.versions import CARD, SOURCES, TRAINING, WEIGHTS

FORMAT = "dgan-backend packed version 1"
_MANIFEST = "manifest.json"
_MOST_MANIFEST = 2**20  # bytes
_VERSION_FILES = (CARD, WEIGHTS, TRAINING, SOURCES, STUDENT_CARD, STUDENT_WEIGHTS)
_KNOWN = {f"version/{name}" for name in _VERSION_FILES} | {
    f"generator/{name}" for name in GENERATOR_FILES
}
_NEEDED = {"name", "partonomy", "generator", "generator_id"}  # keys of a card
_KEPT = "generators"  # under MODEL_DIR, those that came with versions
_OF_ITS_PROJECT = ("project", "corrections", "corrected", "new", "left_out", "held_back",
                   "validation")  # fmt: skip


def pack(folder: Path, target: Path, with_generator: bool = True) -> list[str]:
    """Write a version's folder as one file, whole or not at all; returns the names of its parts.

    with_generator: unless it comes with the package. Raises DganError when the file is there
    already, or when the version cannot be served.
    """
    if target.exists():
        raise DganError(f"{target} is there already; choose another file, or delete it first.")
    card = Segmenter.load(folder).card  # what cannot be served here is worth nothing elsewhere
    parts = {f"version/{path.name}": path for path in _files(folder, _VERSION_FILES)}
    if with_generator and card.generator not in shipped_generators():
        found = _files(generator_folder(card.generator), GENERATOR_FILES)
        parts |= {f"generator/{path.name}": path for path in found}
    hashes = {name: file_hash(path) for name, path in parts.items()}
    manifest = {"format": FORMAT, "release": __version__, "version": card.name, "files": hashes}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=target.parent) as scratch:
        draft = Path(scratch) / "version.tar"
        with tarfile.open(draft, "w") as tar:
            _add_text(tar, _MANIFEST, json.dumps(manifest, indent=1))
            for name, path in parts.items():
                tar.add(path, name)
        draft.replace(target)
    return list(parts)


@dataclass(frozen=True)
class Packed:
    """A version whose file was unpacked into `folder`, where all parts are as they were written.

    card: of version.json.
    """

    path: Path
    folder: Path
    card: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.card["name"])

    @property
    def partonomy(self) -> Partonomy:
        """Raises DganError when its card has none."""
        return Partonomy.from_json(self.card["partonomy"])

    @property
    def version(self) -> Path:
        return self.folder / "version"

    @property
    def generator(self) -> Path | None:
        """The folder of its generator; None where that did not come along."""
        folder = self.folder / "generator"
        return folder if folder.is_dir() else None


def unpack(path: Path, folder: Path) -> Packed:
    """Unpack a file into a folder and check each part; raises DganError in one sentence."""
    try:
        with tarfile.open(path, "r:") as tar:
            hashes = _manifest(path, tar)
            for name, member in _members(path, tar).items():
                source, target = tar.extractfile(member), folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                assert source is not None
                with source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
        for name, digest in hashes.items():
            if not (folder / name).is_file():
                raise _damaged(path, f"{name} is missing")
            if file_hash(folder / name) != digest:
                raise _damaged(path, f"{name} has another SHA-256 than when it was written")
        card = json.loads((folder / "version" / CARD).read_text(encoding="utf-8"))
        if not isinstance(card, dict) or not set(card) >= _NEEDED:
            raise _damaged(path, f"its {CARD} is no version card")
    except FileNotFoundError:
        raise DganError(f"There is no file {path}.") from None
    except tarfile.TarError as error:
        raise DganError(
            f"{path} is no file of `versions export`, or it is cut short ({error})."
        ) from None
    except (ValueError, OSError) as error:
        raise DganError(f"{path} cannot be read ({error}).") from error
    return Packed(path, folder, card)


def take_in(packed: Packed, registry: Registry, model_dir: Path, project: int | None = None) -> str:
    """Put an unpacked version among those of MODEL_DIR; returns its name there.

    project: of which it becomes the next version, whatever it was; its labels are base then, since
    their tasks are another project's. None: it is what it was. Nothing is overwritten; raises
    DganError when there is a version of its name, or when it cannot be served here.
    """
    name = packed.name if project is None else _become(packed, registry, project)
    match = NAME.fullmatch(name)
    if match is None or match[2] != packed.partonomy.name or "/" in name:
        raise DganError(f"{name!r} is no project's version; say whose it is to be: --project N.")
    reference = _have_generator(packed, model_dir)
    staged = packed.version.rename(packed.folder / name)
    Segmenter.load(staged)
    registry.take(staged, reference)
    return name


def is_same(packed: Packed, folder: Path) -> bool:
    """Whether a version that is there is the very one: all but where its generator lies."""
    names = {path.name for path in _files(packed.version, _VERSION_FILES)}
    if names != {path.name for path in _files(folder, _VERSION_FILES)}:
        return False
    there = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return {**there, "generator": ""} == {**packed.card, "generator": ""} and all(
        file_hash(packed.version / name) == file_hash(folder / name) for name in names - {CARD}
    )


def check(packed: Packed) -> None:
    """Raises DganError, in one sentence, when it could not be served here."""
    if packed.generator is None and not generator_is_there(packed.card):
        raise _no_generator(packed)
    if packed.generator is not None:
        _tell_generator(packed, packed.generator)
    Segmenter.load(packed.version)


def _files(folder: Path, names: tuple[str, ...] | list[str]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    about, data = tarfile.TarInfo(name), text.encode()
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))


def _manifest(path: Path, tar: tarfile.TarFile) -> dict[str, str]:
    """The hash of each part, by its name."""
    first = tar.next()
    if first is None or first.name != _MANIFEST or not first.isreg():
        raise DganError(f"{path} is no file of `versions export`.")
    source = tar.extractfile(first)
    assert source is not None
    try:
        told = json.loads(source.read(_MOST_MANIFEST))
        form, hashes = told["format"], dict(told["files"])
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path, f"its {_MANIFEST} cannot be read: {error!r}") from None
    if form != FORMAT:
        raise DganError(f"{path} has format {form!r}; this release reads {FORMAT!r}.")
    if unknown := sorted(set(hashes) - _KNOWN):
        raise _damaged(path, f"it names {unknown[0]!r}, which is no part of a version")
    if f"version/{CARD}" not in hashes:
        raise _damaged(path, f"it has no {CARD}")
    return hashes


def _members(path: Path, tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The parts that there are, by name: regular files, each once."""
    members = [member for member in tar.getmembers() if member.name != _MANIFEST]
    for member in members:
        if member.name not in _KNOWN or member.type != tarfile.REGTYPE or member.issparse():
            raise _damaged(path, f"{member.name!r} is no part of a version")
    return {member.name: member for member in members}


def _damaged(path: Path, why: str) -> DganError:
    return DganError(f"{path} is damaged: {why}; nothing was imported.")


def _have_generator(packed: Packed, model_dir: Path) -> str:
    """See to it that its generator is here and that the card says where; returns what it says."""
    if generator_is_there(packed.card):
        return str(packed.card["generator"])
    if packed.generator is None:
        raise _no_generator(packed)
    _tell_generator(packed, packed.generator)
    Segmenter.load(packed.version)  # before anything is put where it stays
    files = _files(packed.generator, GENERATOR_FILES)
    digests = "".join(f"{file.name} {file_hash(file)}\n" for file in files)
    digest = hashlib.sha256(digests.encode()).hexdigest()[:16]
    target = (model_dir / _KEPT / digest).absolute()
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        packed.generator.rename(target)
    _tell_generator(packed, target)
    return str(target)


def _tell_generator(packed: Packed, folder: Path) -> None:
    packed.card["generator"] = str(folder)
    write_json(packed.version / CARD, packed.card)


def _no_generator(packed: Packed) -> DganError:
    card = packed.card
    backbone = f" with the backbone {card['backbone_id']}" if card.get("backbone_id") else ""
    return DganError(
        f"{packed.path} needs the generator {card['generator_id']}{backbone}, which is neither in "
        f"it nor here ({card['generator']!r}): export it with its generator, or install the "
        "release that brings it."
    )


def _become(packed: Packed, registry: Registry, project: int) -> str:
    """Make it the next version of a project; returns its name."""
    card, tree = packed.card, packed.partonomy
    if re.fullmatch(r"project-\d+", tree.name):  # of a project's own labels
        tree = replace(tree, name=f"project-{project}")
    told = {k: v for k, v in card.get("training", {}).items() if k not in _OF_ITS_PROJECT}
    name, told["imported"] = registry.next_name(tree, project), packed.name
    card.update(name=name, partonomy=tree.to_json(), training=told)
    sources = packed.version / SOURCES
    if sources.is_file():
        rows = json.loads(sources.read_text(encoding="utf-8"))
        write_json(sources, [{**row, "task": None, "key": ""} for row in rows])
        if SOURCES in card.get("files", {}):
            card["files"][SOURCES] = file_hash(sources)
    write_json(packed.version / CARD, card)
    return name
