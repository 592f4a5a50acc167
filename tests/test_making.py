"""What the loop makes by itself, on a real Redis and a double of Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from dgan_backend.generators import load_generator
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.labelstudio.regions import to_regions
from dgan_backend.loop import stopping, work
from dgan_backend.loop.bench import Bench
from dgan_backend.loop.board import Board, Lost
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.training import Training, read_corrections
from dgan_backend.partonomy import from_labels, load_partonomy
from dgan_backend.pictures import Picture
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.synthesis.importing import CHUNK
from dgan_backend.synthesis.pushing import Order, Pusher
from dgan_backend.synthesis.undoing import undo
from tests.builders import QUICK, tiny_generator_folder, tiny_segmenter
from tests.labeling import CONFIG
from tests.pickled import ada_pickle, small_tensors
from tests.studio import TOKEN, UID, Studio, studio_with

OWN = labeling_config(from_labels("own", ["wing", "tail", "beak"]))
V1, V2 = "p7-toonhead-v0001", "p7-toonhead-v0002"
SISTER = 8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of toon heads for project 7, and a generator beside them."""
    folder = tmp_path_factory.mktemp("models")
    segmenter = tiny_segmenter(folder)
    for version in (V1, V2):
        segmenter.card = replace(segmenter.card, name=version)
        segmenter.save(folder / version)
    return folder


class World:
    """Project 7 in Label Studio, connected to this backend with some extra params."""

    def __init__(self, studio: Studio, site: LabelStudioClient, client: redis.Redis) -> None:
        self.studio, self.site, self.board = studio, site, Board(client)
        self.client = client
        self.models = Path()

    def connect(self, models: Path, config: str = OWN, **params: Any) -> None:
        self.models = models
        self.studio.projects[7]["label_config"] = config
        self.board.remember(Connection(UID, config, self.studio.url, TOKEN, params))
        self.board.mark(UID, "make")

    def bench(self) -> Bench:
        return Bench.open(Settings(model_dir=self.models), self.client)

    def make(self) -> None:
        work.do(self.bench(), UID, "make")

    def publish(self, version: str) -> None:
        """What a training tells when its version was made current."""
        self.board.note(UID, "to make", version)
        self.board.mark(UID, "make")

    def kinds(self, project: int = 7) -> list[str]:
        return [task["data"].get("dgan", {}).get("kind", "") for task in self.studio.of(project)]

    def complaints(self) -> list[str]:
        return [entry["text"] for entry in self.board.complaints(UID)]


@pytest.fixture
def world(server: redis.Redis) -> Iterator[World]:
    server.flushdb()
    with studio_with((7, OWN)) as (studio, site):
        yield World(studio, site, server)


@pytest.fixture
def generator(tmp_path: Path) -> str:
    return str(tiny_generator_folder(tmp_path / "tiny"))


# Seed tasks


def test_an_empty_project_with_labels_of_its_own_gets_pictures_to_begin_with(
    world: World, tmp_path: Path, generator: str
) -> None:
    world.connect(tmp_path, generator=generator)
    world.make()
    assert world.kinds() == ["seed"] * 16  # labels_needed of its partonomy
    made = load_generator(generator)
    for task in world.studio.of(7):
        latent = task["data"]["latent"]
        assert latent["generator"] == made.id
        assert task["data"]["dgan"]["batch"] == f"{made.id}-seed-x16-s0"
        assert not task["predictions"] and not task["annotations"]
    assert len({task["data"]["latent"]["seed"] for task in world.studio.of(7)}) == 16
    assert not world.board.unsettled(UID, "make")
    assert world.board.progress(UID, "make") is None


def test_they_are_made_once(world: World, tmp_path: Path, generator: str) -> None:
    world.connect(tmp_path, generator=generator)
    world.make()
    before = world.studio.writes()
    world.connect(tmp_path, generator=generator)  # connected again
    world.make()
    assert world.studio.writes() == before


def test_those_that_people_deleted_do_not_come_back(
    world: World, tmp_path: Path, generator: str
) -> None:
    world.connect(tmp_path, generator=generator)
    world.make()
    world.studio.tasks.clear()
    world.connect(tmp_path, generator=generator)
    world.make()
    assert not world.studio.of(7)
    world.connect(tmp_path, generator=generator, seed_tasks=2)  # unless they are asked for
    world.make()
    assert len(world.studio.of(7)) == 2


def test_a_job_that_was_killed_makes_what_lacks(
    world: World, tmp_path: Path, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect(tmp_path, generator=generator, seed_tasks=CHUNK + 5)
    checks = [0]

    def dying(bench: Bench, uid: str, lease: Any) -> Any:
        def check() -> None:
            checks[0] += 1
            if checks[0] == 4:  # the second chunk is uploaded, and not imported
                raise Lost

        return check

    with monkeypatch.context() as patch, pytest.raises(Lost):
        patch.setattr(work, "giving_way", dying)
        world.make()
    assert len(world.studio.of(7)) == CHUNK and len(world.studio.files) == CHUNK + 5
    assert world.board.unsettled(UID, "make")
    world.make()
    seeds = {task["data"]["latent"]["seed"] for task in world.studio.of(7)}
    assert len(seeds) == len(world.studio.of(7)) == len(world.studio.files) == CHUNK + 5


def test_a_project_that_is_paused_meanwhile_gets_the_rest_when_it_goes_on(
    world: World, tmp_path: Path, generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_TELL_SECONDS", 0.0)
    world.connect(tmp_path, generator=generator, seed_tasks=CHUNK + 5)
    world.studio.before["GET /api/projects/7/file-uploads"] = lambda: world.board.pause(UID, True)
    world.make()
    assert not world.studio.of(7) and world.board.unsettled(UID, "make")
    assert not world.complaints()
    world.board.pause(UID, False)
    world.make()
    assert len(world.studio.of(7)) == CHUNK + 5


@pytest.mark.parametrize(
    ("params", "tasks"),
    [({}, 1), ({"seed_tasks": 3}, 4), ({"seed_tasks": 0}, 1)],
    ids=["not asked", "asked", "refused"],
)
def test_into_a_project_that_has_tasks_they_come_only_when_asked_for(
    world: World, tmp_path: Path, generator: str, params: dict[str, Any], tasks: int
) -> None:
    world.site.import_tasks(7, [{"data": {"image": "/theirs.png"}}])
    world.connect(tmp_path, generator=generator, **params)
    world.make()
    assert len(world.studio.of(7)) == tasks


def test_an_empty_project_gets_none_when_the_extra_params_say_so(
    world: World, tmp_path: Path, generator: str
) -> None:
    world.connect(tmp_path, generator=generator, seed_tasks=0)
    world.make()
    assert not world.studio.of(7) and not world.board.unsettled(UID, "make")


def test_a_trained_project_gets_none_unless_asked(world: World, models: Path) -> None:
    world.connect(models, CONFIG)
    world.make()
    assert not world.studio.of(7)
    world.connect(models, CONFIG, seed_tasks=2)
    world.make()
    assert world.kinds() == ["seed", "seed"]
    latent = world.studio.of(7)[0]["data"]["latent"]
    assert latent["generator"] == world.bench().registry.segmenter(V2).generator.id


@pytest.mark.parametrize(
    ("config", "params", "said"),
    [
        (labeling_config(load_partonomy("car")), {}, "generator train --images"),
        (OWN, {"generator": "nowhere"}, "no generator 'nowhere'"),
    ],
)
def test_where_no_generator_makes_such_pictures_people_are_told_once(
    world: World, tmp_path: Path, config: str, params: dict[str, Any], said: str
) -> None:
    world.connect(tmp_path, config, **params)
    world.make()
    assert not world.studio.of(7)
    (told,) = world.complaints()
    assert said in told
    assert not world.board.unsettled(UID, "make")  # it would be told again and again


def test_a_partonomy_without_generator_takes_the_one_that_is_named(
    world: World, tmp_path: Path, generator: str
) -> None:
    config = labeling_config(load_partonomy("car"))
    world.connect(tmp_path, config, generator=generator, seed_tasks=2)
    world.make()
    assert world.kinds() == ["seed", "seed"]


def test_from_the_first_few_annotations_of_seed_tasks_a_version_is_learned(
    world: World, tmp_path: Path, generator: str
) -> None:
    """On exact latents: nothing is inverted."""
    world.connect(tmp_path, generator=generator, seed_tasks=6)
    world.make()
    connection = world.board.connection(UID)
    assert connection is not None
    project, bench = connection.open(), world.bench()
    assert project.binding is not None
    mask = np.zeros((16, 16), np.uint8)
    mask[:5], mask[5:9], mask[9:12] = 1, 2, 3
    for task in world.studio.of(7)[:4]:
        world.studio.annotate(task["id"], to_regions(mask, None, project.binding))

    def fetch(task: Any) -> Picture:
        return np.zeros((16, 16, 3), np.uint8)

    training = Training(bench.registry, bench.twins, project, fetch, plan=QUICK)
    trained = training.run(read_corrections(world.site, 7))
    assert trained.current and not trained.left_out
    learned = bench.registry.segmenter(trained.version)
    assert [source.factor for source in learned.data.sources] == [1.0] * 4
    made = load_generator(generator)
    first = world.studio.of(7)[0]["data"]["latent"]
    exact = made.mapping(made.latent_from_seed(first["seed"]), truncation=first["truncation"])
    assert (learned.data.w[0] == exact[0]).all()


def test_a_generator_file_of_another_project_is_begun_with_and_learned_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no encoder, and its licence is told where its pictures are made."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    tensors = small_tensors(16)
    (tmp_path / "birds.pkl").write_bytes(ada_pickle(tensors))
    world.connect(tmp_path, generator=str(tmp_path / "birds.pkl"), seed_tasks=4)
    world.make()
    (told,) = world.complaints()
    assert told.startswith("Of the 4 pictures made: pictures of the generator birds come under")
    connection = world.board.connection(UID)
    assert connection is not None
    project, bench = connection.open(), world.bench()
    assert project.binding is not None
    mask = np.zeros((16, 16), np.uint8)
    mask[:5], mask[5:9], mask[9:12] = 1, 2, 3
    for task in world.studio.of(7):
        world.studio.annotate(task["id"], to_regions(mask, None, project.binding))

    def fetch(task: Any) -> Picture:
        return np.zeros((16, 16, 3), np.uint8)

    training = Training(bench.registry, bench.twins, project, fetch, plan=QUICK)
    trained = training.run(read_corrections(world.site, 7))
    learned = bench.registry.segmenter(trained.version)
    assert learned.encoder is None and learned.generator.id.startswith("birds-")
    (tmp_path / "birds.pkl").unlink()  # what it was converted to is enough
    assert Segmenter.load(tmp_path / trained.version).segment_seed(3).labels.shape == (16, 16)
    assert learned.segment_image(np.zeros((16, 16, 3), np.uint8)).labels.shape == (16, 16)


# Synthetic tasks


def test_each_version_brings_synthetic_tasks_once(world: World, models: Path) -> None:
    world.connect(models, CONFIG, synthetic_per_version=3)
    world.make()
    assert SISTER not in world.studio.projects  # none was published since
    world.publish(V1)
    world.make()
    assert world.kinds(SISTER) == ["synthetic"] * 3 and not world.studio.of(7)
    world.publish(V2)
    world.make()
    batches = {task["data"]["dgan"]["batch"] for task in world.studio.of(SISTER)}
    assert batches == {f"{V1}-x3-s1000000", f"{V2}-x3-s2000000"}


def test_what_was_taken_back_is_not_made_again(world: World, models: Path) -> None:
    world.connect(models, CONFIG, synthetic_per_version=3)
    world.publish(V1)
    world.make()
    undo(world.site, [SISTER], f"{V1}-x3-s1000000")
    world.connect(models, CONFIG, synthetic_per_version=3)
    world.make()
    assert not world.studio.of(SISTER)


def test_they_go_into_the_project_itself_where_the_extra_params_say_so(
    world: World, models: Path
) -> None:
    world.connect(models, CONFIG, synthetic_per_version=2, same_project=True)
    world.publish(V1)
    world.make()
    assert world.kinds() == ["synthetic"] * 2 and SISTER not in world.studio.projects


def test_what_the_command_line_pushed_already_is_not_pushed_again(
    world: World, models: Path
) -> None:
    world.connect(models, CONFIG, synthetic_per_version=2)
    connection = world.board.connection(UID)
    assert connection is not None
    segmenter = world.bench().registry.segmenter(V1)
    Pusher(world.site, connection.open(), segmenter).push(Order(2))
    world.publish(V1)
    world.make()
    assert world.kinds(SISTER) == ["synthetic"] * 2


@pytest.mark.parametrize("urgent", ["train", "label"])
def test_making_gives_way_to_what_people_wait_for(world: World, models: Path, urgent: Any) -> None:
    other = "9.1795507200"
    world.connect(models, CONFIG, synthetic_per_version=2)
    world.board.remember(Connection(other, CONFIG))
    world.board.mark(other, urgent)
    world.publish(V1)
    world.make()
    assert not world.kinds(SISTER) and world.board.unsettled(UID, "make")
    assert not world.board.waits(UID, "make") and not world.complaints()  # it is no failure
    with world.board.lease(other, urgent):  # another worker is at it
        world.make()
    assert world.kinds(SISTER) == ["synthetic"] * 2


@pytest.mark.parametrize("state", ["failed", "paused"])
def test_making_does_not_wait_for_what_nobody_is_going_to_do_now(
    world: World, models: Path, state: str
) -> None:
    other = "9.1795507200"
    world.connect(models, CONFIG, synthetic_per_version=2)
    world.board.remember(Connection(other, CONFIG))
    world.board.mark(other, "train")
    if state == "failed":
        world.board.failed(other, "train")
    else:
        world.board.pause(other, True)
    world.publish(V1)
    world.make()
    assert world.kinds(SISTER) == ["synthetic"] * 2
