"""versions export and import: one version as one file, and back."""

from __future__ import annotations

import hashlib
import io
import json
import random
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dgan_backend.cli import main
from dgan_backend.generators.native import file_hash
from dgan_backend.partonomy import from_labels
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.storage import Storage
from dgan_backend.versions import CARD, Source, read_version
from tests.builders import tiny_segmenter

NAME = "p7-toonhead-v0003"
TRAINING = {"project": "7.1795491060", "pictures": 2, "corrections": ["key"], "time": 1795491060.0}


def publish(folder: Path, segmenter: Segmenter, name: str) -> None:
    """A version with one correction of task 12."""
    segmenter.card = replace(
        segmenter.card, name=name, training={**segmenter.card.training, **TRAINING}
    )
    segmenter.data = replace(segmenter.data, sources=(Source(), Source(12, "key")))
    Registry(folder).publish(segmenter, current=True)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL_DIR with a version on a generator of its own."""
    folder = tmp_path_factory.mktemp("origin")
    publish(folder, tiny_segmenter(folder / "own"), NAME)
    return folder


@pytest.fixture(scope="module")
def packed(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(origin, tmp_path_factory.mktemp("packed") / "version.tar")


def exported(origin: Path, target: Path, *words: str, name: str = NAME) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_DIR", str(origin))
        assert main(["versions", "export", name, "--out", str(target), *words]) == 0
    return target


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another backend's MODEL_DIR."""
    folder = tmp_path / "models"
    monkeypatch.setenv("MODEL_DIR", str(folder))
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that ends with status 2, in one line."""
    capsys.readouterr()
    assert main(["versions", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in sorted(folder.iterdir())}


@pytest.fixture
def moved(origin: Path, packed: Path) -> Iterator[Path]:
    """The file where the generator that the version was fitted on is not: it has another folder
    on that machine, or none."""
    shutil.move(origin / "own", origin / "moved")
    yield packed
    shutil.move(origin / "moved", origin / "own")


def test_what_was_exported_serves_elsewhere(
    moved: Path, here: Path, origin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["versions", "import", str(moved)]) == 0
    assert capsys.readouterr().out == f"{NAME} was imported. It serves project 7 now.\n"
    registry = Registry(here)
    loaded = registry.segmenter(NAME)
    card, ensemble, _, data = read_version(origin / NAME)
    assert torch.equal(loaded.ensemble.w1, ensemble.w1)
    assert torch.equal(loaded.data.w, data.w) and loaded.data.sources == data.sources
    assert loaded.card.training == card.training
    assert loaded.segment_seed(3).labels.shape == (16, 16)
    assert Path(loaded.card.generator).is_relative_to(here)
    assert not list(here.glob(".importing-*"))
    assert registry.current(loaded.partonomy, 7, TRAINING["project"]) == NAME


def test_a_restored_version_is_what_it_was(packed: Path, here: Path, origin: Path) -> None:
    """Where its generator lies where it lay, byte for byte."""
    assert main(["versions", "import", str(packed)]) == 0
    assert hashes(here / NAME) == hashes(origin / NAME)


def test_nothing_is_overwritten(
    packed: Path, here: Path, origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["versions", "import", str(packed)]) == 0
    capsys.readouterr()
    assert main(["versions", "import", str(packed)]) == 0
    assert "is there already, the very same" in capsys.readouterr().out
    shutil.copytree(origin, tmp_path / "other")
    card = tmp_path / "other" / NAME / "version.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "training": {"pictures": 99}}))
    other = exported(tmp_path / "other", tmp_path / "other.tar")
    said = refused(capsys, "import", str(other))
    assert f"another version {NAME} already, and it stays" in said
    assert hashes(here / NAME) == hashes(origin / NAME)
    assert "is there already" in refused(capsys, "export", NAME, "--out", str(packed))


def test_a_folder_that_is_no_version_is_not_overwritten_either(
    packed: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / NAME).mkdir(parents=True)
    (here / NAME / "notes.txt").write_text("mine")
    assert "never overwritten" in refused(capsys, "import", str(packed))
    assert [path.name for path in (here / NAME).iterdir()] == ["notes.txt"]


def test_in_another_project_its_labels_are_base(
    moved: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        assert main(["versions", "import", str(moved), "--project", "3"]) == 0
        name = f"p3-toonhead-v000{number}"
        assert capsys.readouterr().out == (
            f"{name} was imported, as it was {NAME}. It serves project 3 now.\n"
        )
    loaded = Registry(here).segmenter(name)
    assert loaded.data.sources == (Source(), Source())
    assert loaded.card.training["imported"] == NAME
    assert not {"project", "corrections"} & set(loaded.card.training)
    assert Registry(here).current(loaded.partonomy, 3, "3.1700000000") == name
    assert len(list((here / "generators").iterdir())) == 1


def test_labels_of_a_projects_own_become_the_other_projects_own(here: Path, tmp_path: Path) -> None:
    origin, tree = tmp_path / "origin", from_labels("project-7", ["crown", "brim"])
    publish(origin, tiny_segmenter(origin / "own", tree), "p7-project-7-v0001")
    path = exported(origin, tmp_path / "own.tar", name="p7-project-7-v0001")
    assert main(["versions", "import", str(path), "--project", "3"]) == 0
    tree = from_labels("project-3", ["crown", "brim"])
    assert Registry(here).current(tree, 3, "3.1700000000") == "p3-project-3-v0001"


def test_a_shipped_version_becomes_a_projects_own(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(here, tmp_path / "shipped.tar", name="toonhead-shipped")
    with tarfile.open(path) as tar:
        assert not [name for name in tar.getnames() if name.startswith("generator/")]
    assert "say whose it is to be: --project" in refused(capsys, "import", str(path))
    assert main(["versions", "import", str(path), "--project", "3"]) == 0
    assert Registry(here).segmenter("p3-toonhead-v0001").student is not None


def test_without_its_generator_it_says_which_one_it_needs(
    origin: Path, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(origin, tmp_path / "small.tar", "--without-generator")
    shutil.move(origin / "own", origin / "moved")
    try:
        for words in (("import", str(path)), ("import", str(path), "--check")):
            assert "needs the generator tiny-" in refused(capsys, *words)
    finally:
        shutil.move(origin / "moved", origin / "own")
    assert Registry(here).versions() == []
    assert main(["versions", "import", str(path)]) == 0


def test_checking_imports_nothing(
    moved: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["versions", "import", str(moved), "--check"]) == 0
    assert "is whole and can be served here" in capsys.readouterr().out
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_byte_is_noticed(
    packed: Path, here: Path, origin: Path, tmp_path: Path, seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Or it was one that tells nothing, as the owner in a header does."""
    data = bytearray(packed.read_bytes())
    dice = random.Random(seed)
    data[dice.randrange(len(data) - 10240 if seed % 3 else 2048)] ^= 1 << dice.randrange(8)
    path = tmp_path / "damaged.tar"
    path.write_bytes(data)
    if main(["versions", "import", str(path)]) == 0:
        assert hashes(here / NAME) == hashes(origin / NAME)
    else:
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert Registry(here).versions() == []


Parts = dict[str, bytes]


def parts_of(path: Path) -> Parts:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}


def tar_of(parts: Parts) -> bytes:
    """b"-> PATH" makes a link to a file of the machine."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, content in parts.items():
            about = tarfile.TarInfo(name)
            if content.startswith(b"-> "):
                about.type, about.linkname = tarfile.SYMTYPE, content[3:].decode()
            else:
                about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return sink.getvalue()


def without(parts: Parts, name: str) -> bytes:
    return tar_of({k: v for k, v in parts.items() if k != name})


def elsewhere(parts: Parts) -> bytes:
    """Its card says that it belongs outside MODEL_DIR; the hash is right."""
    card, manifest = json.loads(parts[f"version/{CARD}"]), json.loads(parts["manifest.json"])
    card["name"], card["partonomy"]["name"] = "p1-../../evil-v0001", "../../evil"
    text = json.dumps(card).encode()
    manifest["files"][f"version/{CARD}"] = hashlib.sha256(text).hexdigest()
    told = json.dumps(manifest).encode()
    return tar_of({**parts, f"version/{CARD}": text, "manifest.json": told})


WEIGHTS = "version/interpreter.safetensors"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: tar_of(parts)[: 2**14], "cut short"),
        (lambda parts: b"", "cut short"),
        (lambda parts: b"no tar at all" * 100, "no file of `versions export`"),
        (lambda parts: without(parts, "manifest.json"), "no file of `versions export`"),
        (lambda parts: without(parts, WEIGHTS), f"{WEIGHTS} is missing"),
        (lambda parts: tar_of({**parts, WEIGHTS: b"others"}), "has another SHA-256"),
        (lambda parts: tar_of({**parts, "version/more.py": b"evil"}), "is no part of a version"),
        (lambda parts: tar_of({**parts, "../evil": b"evil"}), "is no part of a version"),
        (lambda parts: tar_of({**parts, WEIGHTS: b"-> /etc/passwd"}), "is no part of a version"),
        (elsewhere, "is no project's version"),
    ],
    ids=[
        *("cut", "empty", "no tar", "no manifest", "missing", "others"),
        *("more", "outside", "link", "elsewhere"),
    ],
)
def test_what_is_no_whole_version_is_refused_in_one_sentence(
    packed: Path, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: Callable[[Parts], bytes], said: str,
) -> None:  # fmt: skip
    path = tmp_path / "changed.tar"
    path.write_bytes(change(parts_of(packed)))
    assert said in refused(capsys, "import", str(path))
    assert list(here.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["changed.tar", "models"]


def test_a_file_that_is_not_there_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no file nowhere.tar" in refused(capsys, "import", "nowhere.tar")
    assert "There is no version" in refused(capsys, "export", "p9-toonhead-v0001")


def test_what_is_imported_into_shared_storage_is_there_for_all(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://models-{secrets.token_hex(4)}"
    monkeypatch.setenv("MODEL_DIR", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    try:
        assert main(["versions", "import", str(moved)]) == 0
        again = tmp_path / "again.tar"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
        shutil.rmtree(tmp_path / "here")
        assert Registry.of(Settings.from_env()).segmenter(NAME).version == NAME
        assert main(["versions", "export", NAME, "--out", str(again)]) == 0
        assert main(["versions", "import", str(again)]) == 0  # the very same
    finally:
        Storage(url).delete_all()
