"""MODEL_DIR on storage that two machines share: each has a mirror of its own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.inversion.latents import Latent, latents_of, projects_with_latents
from dgan_backend.loop.twins import Twins
from dgan_backend.partonomy import load_partonomy
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.sharing import Shared
from dgan_backend.storage import Storage
from dgan_backend.student.native import load_backbone, save_backbone
from dgan_backend.versions import WEIGHTS
from tests.builders import add_tiny_backbone, tiny_segmenter

TREE = load_partonomy("toonhead")
FIRST, SECOND = "p7-toonhead-v0001", "p7-toonhead-v0002"


@dataclass
class Machine:
    mirror: Path
    shared: Shared

    @property
    def registry(self) -> Registry:
        """As a process that starts now has it."""
        return Registry(self.mirror, shared=Shared(self.shared.place, self.mirror))

    @property
    def twins(self) -> Twins:
        return Twins(self.mirror, shared=self.shared)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return tiny_segmenter(tmp_path_factory.mktemp("models"))


@pytest.fixture
def place() -> Iterator[Storage]:
    place = Storage(f"memory://models-{secrets.token_hex(4)}")
    yield place
    place.delete_all()


@pytest.fixture
def machines(place: Storage, tmp_path: Path) -> tuple[Machine, Machine]:
    first, second = (Machine(tmp_path / n, Shared(place, tmp_path / n)) for n in ("a", "b"))
    return first, second


def publish(machine: Machine, segmenter: Segmenter, name: str, current: bool = True) -> None:
    named = Segmenter(
        replace(segmenter.card, name=name),
        segmenter.generator,
        segmenter.encoder,
        segmenter.ensemble,
        segmenter.student,
        segmenter.backbone,
        segmenter.data,
    )
    machine.registry.publish(named, current=current)


def test_what_one_publishes_serves_on_the_other(
    machines: tuple[Machine, Machine], segmenter: Segmenter
) -> None:
    here, there = machines
    assert there.registry.current(TREE, 7) == "toonhead-shipped"
    publish(here, segmenter, FIRST)
    registry = there.registry
    assert registry.current(TREE, 7) == FIRST
    files = [path.name for path in (there.mirror / FIRST).iterdir()]
    assert files == ["version.json"]  # nobody has used it here
    loaded = registry.segmenter(FIRST)
    segmenter.exact = loaded.exact = True  # stored weights are rounded; what is read fast may jump
    expected, found = segmenter.segment_seed(3), loaded.segment_seed(3)
    assert (expected.labels == found.labels).mean() > 0.99
    assert np.allclose(expected.uncertainty, found.uncertainty, atol=1e-3)
    assert len(registry.sources(FIRST)) == len(segmenter.data)


def test_a_choice_by_hand_holds_everywhere(
    machines: tuple[Machine, Machine], segmenter: Segmenter
) -> None:
    here, there = machines
    publish(here, segmenter, FIRST)
    publish(here, segmenter, SECOND)
    assert there.registry.current(TREE, 7) == SECOND
    there.registry.use(FIRST)
    assert here.registry.current(TREE, 7) == FIRST


def test_a_running_process_sees_news_within_seconds(
    machines: tuple[Machine, Machine], segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines
    registry = there.registry
    assert registry.versions(7) == []
    publish(here, segmenter, FIRST)
    monkeypatch.setattr("dgan_backend.sharing.FRESH_SECONDS", 0.0)
    assert [kept.name for kept in registry.versions(7)] == [FIRST]


def test_versions_never_change(machines: tuple[Machine, Machine], segmenter: Segmenter) -> None:
    publish(machines[0], segmenter, FIRST)
    with pytest.raises(DganError, match=f"has a version {FIRST} already"):
        publish(machines[1], segmenter, FIRST)


def test_what_is_deleted_is_gone_everywhere(
    machines: tuple[Machine, Machine], segmenter: Segmenter
) -> None:
    here, there = machines
    publish(here, segmenter, FIRST)
    publish(here, segmenter, SECOND)
    there.registry.segmenter(FIRST)
    assert here.registry.prune(7, keep=1) == [FIRST]
    assert [kept.name for kept in there.registry.versions()] == [SECOND]
    with pytest.raises(DganError, match="There is no version"):
        there.registry.segmenter(FIRST)
    assert there.registry.forget(7) == [SECOND]
    assert here.registry.versions() == []
    assert here.registry.current(TREE, 7) == "toonhead-shipped"
    assert (here.shared.place / "choices").names() == []
    assert (here.shared.place / "versions").names() == []


def test_a_generator_that_is_only_here_goes_along(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    here, there = machines
    own = tiny_segmenter(tmp_path / "own")
    publish(here, own, FIRST)
    os.rename(tmp_path / "own", tmp_path / "gone")  # another machine never had it
    loaded = there.registry.segmenter(FIRST)
    assert loaded.generator.id == own.generator.id and loaded.encoder is not None


def test_a_generator_with_another_backbone_is_not_the_one(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    here, there = machines
    own = tiny_segmenter(tmp_path / "own")
    add_tiny_backbone(tmp_path / "own" / "tiny")
    backbone = load_backbone(tmp_path / "own" / "tiny")
    own.card, own.backbone = replace(own.card, backbone_id=backbone.id), backbone
    publish(here, own, FIRST)
    own_file = tmp_path / "own" / "tiny" / "backbone.safetensors"
    tensors = {k: t + 1 for k, t in backbone.tensors.items() if t.is_floating_point()}
    save_backbone(own_file.parent, replace(backbone, tensors={**backbone.tensors, **tensors}))
    assert there.registry.segmenter(FIRST).backbone.id == backbone.id


def test_a_version_that_was_not_written_whole_is_none(
    machines: tuple[Machine, Machine], segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed between the files and the note."""
    here, there = machines

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Storage, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(here, segmenter, FIRST)
    monkeypatch.undo()
    assert there.registry.versions() == [] == here.registry.versions()
    publish(here, segmenter, FIRST)
    assert there.registry.segmenter(FIRST).version == FIRST


def test_damaged_files_are_told(
    machines: tuple[Machine, Machine], segmenter: Segmenter, place: Storage
) -> None:
    here, there = machines
    publish(here, segmenter, FIRST)
    (tar,) = (name for name in (place / "versions").names() if name.endswith(".tar"))
    data = bytearray(place.read(f"versions/{tar}"))
    data[700] ^= 1
    place.write(f"versions/{tar}", bytes(data))
    with pytest.raises(DganError, match="is damaged: its SHA-256"):
        there.registry.segmenter(FIRST)


def test_a_mirror_that_is_damaged_is_fetched_again(
    machines: tuple[Machine, Machine], segmenter: Segmenter
) -> None:
    first, second = machines
    publish(first, segmenter, FIRST)
    second.registry.segmenter(FIRST)
    weights = second.mirror / FIRST / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(b"damaged")
    assert second.registry.segmenter(FIRST).version == FIRST
    assert weights.read_bytes() == whole and second.registry.damaged(7) == []


def test_what_is_known_serves_on_while_storage_is_away(
    machines: tuple[Machine, Machine],
    segmenter: Segmenter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, there = machines
    publish(here, segmenter, FIRST)
    there.registry.segmenter(FIRST)

    def away(*arguments: object) -> None:
        raise DganError("s3://... cannot be read")

    monkeypatch.setattr(Storage, "names", away)
    registry = there.registry
    assert registry.current(TREE, 7) == FIRST
    assert registry.segmenter(FIRST).version == FIRST
    assert "Versions may be out of date" in caplog.text


def test_latents_are_shared(place: Storage) -> None:
    latent = Latent(torch.rand(1, 4, 8), 0.25)
    latents_of(place, "7.1").keep("a" * 64, latent)
    found = latents_of(Storage(place.url), "7.1").find("a" * 64)
    assert found is not None and torch.equal(found.w, latent.w) and found.error == 0.25
    assert projects_with_latents(place) == {"7.1"}
    assert len(latents_of(place, "7.1")) == 1
    latents_of(place, "7.1").forget()
    assert projects_with_latents(place) == set()


def test_model_dir_as_a_url() -> None:
    settings = Settings.from_env({"MODEL_DIR": "s3://bucket/models", "XDG_CACHE_HOME": "/cache"})
    other = Settings.from_env({"MODEL_DIR": "s3://bucket/others", "XDG_CACHE_HOME": "/cache"})
    assert settings.model_url == "s3://bucket/models"
    assert settings.model_dir.is_relative_to("/cache") and settings.model_dir != other.model_dir
    assert Settings.from_env({"MODEL_DIR": "/models"}).model_url == ""
