"""The clock of the loop, on a real Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioError
from dgan_backend.loop import sweeper as sweeper_module
from dgan_backend.loop.board import SPELLED, WORKS, Board
from dgan_backend.loop.connection import Connection
from dgan_backend.loop.sweeper import Sweeper
from tests.boards import redis_that_is_gone
from tests.builders import add_tiny_backbone, tiny_generator_folder
from tests.labeling import CONFIG, OTHER_CONFIG

UID, CREATED = "17.1795491060", "2026-11-24T03:31:00Z"
VERSION = "p17-toonhead-v0003"


class Site:
    """What Label Studio tells of a project; an error is raised."""

    def __init__(self) -> None:
        self.seen = "0 0 "
        self.unlabeled: int | DganError = 0
        self.error: DganError | None = None
        self.asked: list[object] = []
        self.config = CONFIG

    def project(self, number: int) -> dict[str, Any]:
        if self.error is not None:
            self.asked.append(number)
            raise self.error
        return {"id": number, "label_config": self.config, "created_at": CREATED}

    def fingerprint(self, project: int) -> str:
        self.asked.append(project)
        if self.error is not None:
            raise self.error
        return self.seen

    def count_without(self, project: int, version: str) -> int:
        self.asked.append((project, version))
        if isinstance(self.unlabeled, DganError):
            raise self.unlabeled
        return self.unlabeled


class World:
    """A sweeper with what it works on. jobs: (uid, work, id) of those enqueued. states: of jobs."""

    def __init__(self, board: Board, look_seconds: float = 3600.0) -> None:
        self.board, self.site = board, Site()
        self.version = VERSION
        self.damaged: list[str] = []
        self.jobs: list[tuple[str, str, str]] = []
        self.states: dict[str, tuple[str, float]] = {}
        self.sweeper = self.another(look_seconds)
        binding = Connection(UID, CONFIG).open().binding
        assert binding is not None
        board.note(UID, SPELLED, binding.spelling)

    def another(self, look_seconds: float = 3600.0) -> Sweeper:
        return Sweeper(
            self.board,
            self.enqueue,
            lambda job: self.states.get(job, ("", 0.0)),
            lambda _: self.site,  # type: ignore[arg-type, return-value]
            lambda _: self.version,
            look_seconds,
            damaged=lambda _: self.damaged,
        )

    def enqueue(self, uid: str, work: str, job: str) -> None:
        self.jobs.append((uid, work, job))
        self.states[job] = ("queued", 0.0)

    def works(self) -> list[str]:
        return [work for _, work, _ in self.jobs]

    def look(self) -> None:
        """As a sweeper that has not looked yet."""
        self.another().sweep()

    def marks(self) -> dict[str, int]:
        return {work: self.board.marks(UID, work) for work in WORKS}

    def done(self) -> None:
        """All jobs have done what was asked for."""
        for work in WORKS:
            self.board.settle(UID, work, self.board.marks(UID, work))
            self.board.clear(UID, work)


@pytest.fixture
def world(server: redis.Redis) -> World:
    """A connected project in which all was seen and is labeled."""
    server.flushdb()
    board = Board(server)
    board.remember(Connection(UID, CONFIG, "http://ls:8080", "secret"))
    board.note(UID, "annotations", "0 0 ")
    return World(board)


# Marks become jobs


def test_where_nothing_is_asked_for_there_is_no_job(world: World) -> None:
    world.sweeper.sweep()
    assert world.jobs == []


def test_a_mark_becomes_one_job(world: World) -> None:
    world.board.mark(UID, "label")
    for _ in range(3):
        world.board.mark(UID, "label")
        world.sweeper.sweep()
    assert world.jobs == [(UID, "label", world.board.job(UID, "label"))]


def test_a_connection_is_checked_once_label_studio_has_stored_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/setup comes before the backend and its webhook are there."""
    world.board.mark(UID, "check")
    world.sweeper.sweep()
    assert world.jobs == []
    monkeypatch.setattr(sweeper_module, "_SETTLING_SECONDS", 0.0)
    world.sweeper.sweep()
    assert world.works() == ["check"]


def test_training_is_asked_for_before_labeling(world: World) -> None:
    world.board.mark(UID, "label")
    world.board.mark(UID, "train")
    world.sweeper.sweep()
    assert world.works() == ["train", "label"]


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (("queued", 0.0), False),
        (("queued", 900.0), False),
        (("deferred", 0.0), False),
        (("started", 1.0), False),
        (("started", 11.0), False),
        (("started", 13.0), True),
        (("finished", 0.0), True),
        (("failed", 0.0), True),
        (("stopped", 0.0), True),
        (("", 0.0), True),
    ],
)
def test_a_job_that_is_lost_is_enqueued_again_after_a_moments_grace(
    world: World, state: tuple[str, float], again: bool
) -> None:
    world.board.mark(UID, "train")
    world.sweeper.sweep()
    (first,) = world.jobs
    world.states[first[2]] = state
    world.sweeper.sweep()
    assert len(world.jobs) == (2 if again else 1)
    assert world.board.job(UID, "train") == world.jobs[-1][2]


def test_a_job_at_work_is_left_to_it(world: World) -> None:
    world.board.mark(UID, "train")
    with world.board.lease(UID, "train") as lease:
        assert lease is not None
        world.sweeper.sweep()
    assert world.jobs == []
    world.sweeper.sweep()
    assert world.works() == ["train"], "its lease ended with the marks unsettled: it was killed"


def test_a_mark_that_came_while_a_job_ran_is_the_next_job(world: World) -> None:
    board = world.board
    board.mark(UID, "train")
    world.sweeper.sweep()
    seen = board.marks(UID, "train")
    board.clear(UID, "train")
    board.mark(UID, "train")
    board.settle(UID, "train", seen)
    world.sweeper.sweep()
    assert world.works() == ["train", "train"]


def test_a_failed_job_waits_until_something_new_is_asked_for(world: World) -> None:
    world.board.mark(UID, "train")
    world.board.failed(UID, "train")
    world.sweeper.sweep()
    assert world.jobs == []
    world.board.mark(UID, "train")
    world.sweeper.sweep()
    assert world.works() == ["train"]


def test_a_paused_project_keeps_its_marks(world: World) -> None:
    world.board.mark(UID, "train")
    world.board.pause(UID, True)
    world.sweeper.sweep()
    assert world.jobs == [] and world.site.asked == []
    world.board.pause(UID, False)
    world.sweeper.sweep()
    assert world.works() == ["train"]


def test_one_sweeper_at_a_time_is_at_it(world: World) -> None:
    world.board.mark(UID, "train")
    with world.board.only_one("sweeper", 60.0):
        world.sweeper.sweep()
    assert world.jobs == []


def test_another_that_is_faster_has_the_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.board.mark(UID, "train")
    monkeypatch.setattr(world.board, "claim", lambda *_: False)
    world.sweeper.sweep()
    assert world.jobs == []


# Jobs whose process died


def begin_and_die(world: World) -> None:
    """The job that is enqueued begins, and its process is killed."""
    job = world.board.job(UID, "train")
    assert job is not None
    with world.board.lease(UID, "train"):
        world.board.clear(UID, "train")
        world.board.begin(UID, "train", job)
    world.states[job] = ("failed", 60.0)


def die_before_it_begins(world: World) -> None:
    """Such as one that has no memory left while it imports."""
    world.states[str(world.board.job(UID, "train"))] = ("failed", 3.0)


def wait_seconds(world: World) -> float:
    return world.board.retry_seconds(UID, "train") or 0.0


@pytest.mark.parametrize("die", [begin_and_die, die_before_it_begins])
def test_jobs_that_die_one_after_the_other_wait_longer_and_longer_and_are_told(
    world: World, die: Callable[[World], None]
) -> None:
    world.board.mark(UID, "train")
    world.sweeper.sweep()
    waits = []
    for deaths in range(1, 6):
        die(world)
        for _ in range(3):
            world.sweeper.sweep()
        waits.append(wait_seconds(world))
        assert len(world.jobs) == (2 if deaths == 1 else deaths), "while it waits there is no job"
        assert len(world.board.complaints(UID)) == (0 if deaths == 1 else 1)
        world.board.hurry(UID, "train")  # its time is over
        world.sweeper.sweep()
        assert len(world.jobs) == deaths + 1
    for wait, (least, most) in zip(
        waits, [(0, 0), (2, 6), (6, 12), (15, 24), (34, 48)], strict=True
    ):
        assert least <= wait <= most
    (told,) = world.board.complaints(UID)
    assert "Training" in told["text"] and "out of memory?" in told["text"] and told["times"] == 4
    assert world.board.outcomes() == {("train", "died"): 5}


def test_a_job_that_ends_in_words_begins_a_new_row(world: World) -> None:
    """A restart now and then is no reason to complain."""
    world.board.mark(UID, "train")
    for _ in range(3):
        world.sweeper.sweep()
        begin_and_die(world)
        world.sweeper.sweep()
        job = world.board.job(UID, "train")
        assert job is not None
        world.board.clear(UID, "train")
        world.board.begin(UID, "train", job)
        world.board.ended(UID, "train", job)
    world.sweeper.sweep()
    assert world.board.complaints(UID) == [] and wait_seconds(world) == 0.0


def test_a_job_that_settled_what_was_asked_for_begins_a_new_row_though_it_dies(
    world: World,
) -> None:
    for _ in range(4):
        world.board.mark(UID, "train")
        world.sweeper.sweep()
        begin_and_die(world)
        world.board.settle(UID, "train", world.board.marks(UID, "train"))
        world.sweeper.sweep()
    assert world.board.complaints(UID) == [] and wait_seconds(world) == 0.0
    assert len(world.jobs) == 4


def test_a_job_that_runs_or_has_just_ended_is_not_dead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = world.board
    board.mark(UID, "train")
    with board.lease(UID, "train"):
        board.begin(UID, "train", "one")
        world.sweeper.sweep()
    assert board.begun(UID, "train") == {"one"}
    busy = board.busy

    def end_meanwhile(uid: str, work: Any) -> bool:
        board.ended(uid, work, "one")
        return busy(uid, work)

    monkeypatch.setattr(board, "busy", end_meanwhile)
    world.sweeper.sweep()
    assert board.outcomes() == {} and world.works() == ["train"]


def test_a_forgotten_project_leaves_nothing_of_its_deaths(
    world: World, server: redis.Redis
) -> None:
    world.board.begin(UID, "train", "one")
    world.board.count_death(UID, "train")
    world.board.forget(UID)
    assert not server.keys(f"*{UID}*")


# What nobody announced becomes marks


def test_a_project_is_looked_at_first_and_then_now_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [5.0]  # a machine that has just started
    monkeypatch.setattr(sweeper_module.time, "monotonic", lambda: now[0])
    sweeper = world.another(look_seconds=60.0)
    looks = []
    for now[0] in (5.0, 6.0, 64.0, 66.0, 100.0, 127.0):
        world.site.asked.clear()
        sweeper.sweep()
        looks.append(bool(world.site.asked))
    assert looks == [True, False, False, True, False, True]
    assert world.site.asked == [17, (17, VERSION)]


def test_annotations_that_nobody_announced_ask_for_a_training(world: World) -> None:
    world.site.seen = "1 1 2026-11-24"
    world.look()
    assert world.works() == ["train"]
    world.board.note(UID, "annotations", "1 1 2026-11-24")
    world.done()
    world.look()
    assert world.works() == ["train"]


def test_a_generator_that_has_changed_asks_for_a_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that `generator prepare` has given a backbone; what it was is seen once."""
    folder = tiny_generator_folder(tmp_path / "tiny")
    monkeypatch.setattr("dgan_backend.loop.starting.DEFAULT_GENERATOR", str(folder))
    other = Connection(UID, OTHER_CONFIG, "http://ls:8080", "secret")
    world.board.remember(other)
    binding = other.open().binding
    assert binding is not None
    world.board.note(UID, SPELLED, binding.spelling)
    world.site.config = OTHER_CONFIG
    world.look()
    assert world.works() == []
    add_tiny_backbone(folder)
    world.look()
    assert world.works() == ["train"]
    world.done()
    world.look()
    assert world.works() == ["train"]


@pytest.mark.parametrize("work", WORKS)
def test_looking_again_neither_adds_to_a_mark_nor_ends_a_failed_jobs_wait(
    world: World, work: Any
) -> None:
    world.site.seen, world.site.unlabeled = "1 1 2026-11-24", 3
    world.look()
    assert world.marks() == {"train": 1, "label": 1, "check": 0, "make": 0}
    world.board.failed(UID, work)
    world.board.note(UID, "tried", "0")
    world.look()
    assert world.marks() == {"train": 1, "label": 1, "check": 0, "make": 0}
    assert world.board.waits(UID, work)


def test_tasks_without_predictions_are_labeled(world: World) -> None:
    world.site.unlabeled = 3
    world.look()
    assert world.works() == ["label"]


def test_tasks_that_could_not_be_labeled_are_tried_again_after_a_while(world: World) -> None:
    world.site.unlabeled = 3
    world.look()
    world.board.note(UID, "unlabeled", f"{VERSION} 3")  # as a job does that left three
    world.done()
    world.look()
    assert world.marks()["label"] == 1
    tried = float(world.board.noted(UID, "tried"))
    world.board.note(UID, "tried", str(tried - sweeper_module._AGAIN_SECONDS))
    world.look()
    assert world.marks()["label"] == 2


@pytest.mark.parametrize("news", ["a task", "a version"])
def test_news_are_labeled_at_once(world: World, news: str) -> None:
    world.site.unlabeled = 3
    world.look()
    world.board.note(UID, "unlabeled", f"{VERSION} 3")
    world.done()
    if news == "a task":
        world.site.unlabeled = 4
    else:
        world.version = "p17-toonhead-v0004"
    world.look()
    assert world.marks()["label"] == 2


def test_labels_that_changed_and_nobody_told_ask_for_both(world: World) -> None:
    world.site.config = CONFIG.replace('value="hair"', 'value="hair" alias="Haare"')
    world.look()
    assert (world.marks()["train"], world.marks()["label"]) == (1, 1)
    connection = world.board.connection(UID)
    assert connection is not None and connection.schema == world.site.config
    world.done()
    before = world.marks()
    world.look()
    assert world.marks()["train"] == before["train"]


def test_predictions_with_older_labels_are_looked_at_now_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.board.note(UID, SPELLED, "")  # a picture was out of reach
    world.look()
    assert world.marks()["label"] == 1
    world.done()
    world.look()
    assert world.marks()["label"] == 1
    monkeypatch.setattr(sweeper_module, "_AGAIN_SECONDS", 0.0)
    world.look()
    assert world.marks()["label"] == 2


def test_before_the_first_version_nothing_is_to_be_labeled(world: World) -> None:
    world.version, world.site.unlabeled = "", 3
    world.look()
    assert world.jobs == [] and world.site.asked == [17]


@pytest.mark.parametrize("where", ["fingerprint", "count"])
def test_a_project_that_is_gone_is_forgotten(world: World, where: str) -> None:
    gone = LabelStudioError("Label Studio answered 404", 404, gone=True)
    if where == "fingerprint":
        world.site.error = gone
    else:
        world.site.unlabeled = gone
    world.board.mark(UID, "train")
    world.board.failed(UID, "train")
    world.look()
    assert world.board.connections() == [] and world.jobs == []


@pytest.mark.parametrize(
    "error",
    [
        LabelStudioError("refused", 401),
        LabelStudioError("a proxy answered 404", 404),
        LabelStudioError("unreachable"),
        DganError("something"),
    ],
    ids=["token", "proxy", "unreachable", "else"],
)
def test_a_label_studio_that_does_not_answer_changes_nothing(
    world: World, error: DganError, caplog: pytest.LogCaptureFixture
) -> None:
    world.site.error = error
    world.board.mark(UID, "label")
    world.look()
    assert len(world.board.connections()) == 1
    assert world.works() == ["label"], "what is marked is enqueued all the same"
    assert f"project-17: {error}" in caplog.text


UNUSABLE = "<View/>"


def test_a_config_that_was_mended_and_nobody_told_is_found(world: World) -> None:
    world.board.remember(Connection(UID, UNUSABLE, "http://ls:8080", "secret"))
    world.site.config = UNUSABLE
    world.look()
    assert world.jobs == [] and world.site.asked == [], "there is nothing to do"
    world.site.config = CONFIG
    world.look()
    assert world.works() == ["train", "label"]
    connection = world.board.connection(UID)
    assert connection is not None and connection.open().binding is not None


def test_a_project_that_cannot_be_used_and_is_gone_is_forgotten(world: World) -> None:
    world.board.remember(Connection(UID, UNUSABLE, "http://ls:8080", "secret"))
    world.site.error = LabelStudioError("Label Studio answered 404", 404, gone=True)
    world.look()
    assert world.board.connections() == []


def test_of_a_config_without_end_little_is_kept(world: World) -> None:
    world.site.config = "<View>" + "x" * 2**22
    world.look()
    connection = world.board.connection(UID)
    assert connection is not None and len(connection.schema) <= 2**20 + 1
    assert connection.open().binding is None
    world.done()
    world.look()
    assert world.works() == ["train", "label"], "it is no news when it is seen again"


def test_what_is_forgotten_while_it_is_looked_at_stays_forgotten(world: World) -> None:
    board = world.board
    (known,) = board.connections()
    board.forget(UID)
    board.update(known)
    assert board.connections() == []


def test_one_projects_label_studio_keeps_no_other_waiting(world: World) -> None:
    world.board.remember(Connection("16.1", CONFIG))
    world.site.error = LabelStudioError("unreachable")
    world.board.mark(UID, "train")
    world.look()
    assert world.site.asked == [16, 17] and world.works() == ["train"]


def test_a_label_studio_that_is_back_ends_the_wait_of_failed_jobs(world: World) -> None:
    """It is told on the status page meanwhile."""
    sweeper = world.another(look_seconds=0.0)
    world.site.error = LabelStudioError("unreachable")
    world.board.mark(UID, "train")
    for _ in range(6):
        world.board.failed(UID, "train")
    sweeper.sweep()
    assert world.jobs == []
    assert [told["text"] for told in world.board.complaints(UID)] == ["unreachable"]
    world.site.error = None
    sweeper.sweep()
    assert world.works() == ["train"]


def test_a_job_that_failed_for_another_reason_waits(world: World) -> None:
    world.board.mark(UID, "train")
    world.board.failed(UID, "train")
    world.another(look_seconds=0.0).sweep()
    assert world.jobs == []


# What is lost elsewhere is told again


def test_an_emptied_redis_is_told_of_all_projects(world: World, server: redis.Redis) -> None:
    board, (known,) = world.board, world.board.connections()
    other = Connection("18.1", CONFIG, "http://ls:8080")
    board.remember(other)
    board.pause(other.uid, True)
    world.sweeper.sweep()
    server.flushdb()
    world.sweeper.sweep()
    assert board.connections() == [known, other]
    assert board.paused(other.uid) and not board.paused(UID)
    assert all(board.unsettled(UID, work) for work in WORKS)
    assert {uid for uid, _, _ in world.jobs} == {UID}


def test_a_forgotten_project_stays_forgotten(world: World, server: redis.Redis) -> None:
    world.sweeper.sweep()
    world.board.forget(UID)
    world.sweeper.sweep()
    assert world.board.connections() == []
    server.flushdb()
    world.sweeper.sweep()
    assert world.board.connections() == []


def test_what_a_damaged_version_knew_is_learned_again_once(world: World) -> None:
    world.damaged = [VERSION]
    world.look()
    assert world.works() == ["train", "label"]
    (told,) = world.board.complaints(UID)
    assert VERSION in told["text"] and "learned again" in told["text"]
    world.done()
    world.look()
    assert world.works() == ["train", "label"]


# Its threads


def until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def end(sweeper: Sweeper) -> None:
    sweeper.stop()
    for thread in sweeper._threads:
        thread.join(5.0)
        assert not thread.is_alive()


def test_a_label_studio_that_hangs_keeps_no_job_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def hang(project: int) -> str:
        asked.set()
        answered.wait(60.0)
        return world.site.seen

    monkeypatch.setattr(world.site, "fingerprint", hang)
    world.sweeper.start()
    assert asked.wait(5.0)
    world.board.mark(UID, "train")
    world.sweeper.kick()
    try:
        assert until(lambda: world.works() == ["train"])
    finally:
        answered.set()
        end(world.sweeper)


def test_a_project_that_another_has_the_number_of_is_forgotten(
    world: World, server: redis.Redis
) -> None:
    """Anybody may send a /setup with a number that there is."""
    board = Board(server)
    made_up = f"{UID.partition('.')[0]}.1"
    board.remember(Connection(made_up, CONFIG, "http://ls:8080"))
    assert set(board.unconfirmed()) >= {made_up}
    world.sweeper._looked.clear()
    world.sweeper.look()
    assert not board.knows(made_up) and board.knows(UID)
    assert board.unconfirmed() == []


def test_what_a_look_marks_is_enqueued_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper_module, "EVERY", 60.0)
    world.site.seen = "1 1 2026-11-24"
    world.sweeper.start()
    assert until(lambda: world.works() == ["train"])
    end(world.sweeper)


def test_a_kick_is_heard_at_once_and_a_failed_pass_is_not_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweeper_module, "EVERY", 60.0)
    passed, fail = threading.Event(), [ZeroDivisionError(), redis.ConnectionError("gone")]

    def ensure() -> None:
        passed.set()
        if fail:
            raise fail.pop()

    monkeypatch.setattr(world.sweeper, "ensure", ensure)
    world.sweeper.start()
    for _ in range(4):
        assert passed.wait(5.0)
        passed.clear()
        world.sweeper.kick()
    end(world.sweeper)
    assert "Redis cannot be reached (gone)" in caplog.text
    assert "A pass over the projects failed" in caplog.text


def test_without_redis_a_pass_fails_as_redis_does(tmp_path: Path) -> None:
    with pytest.raises(redis.RedisError):
        World(Board(redis_that_is_gone(tmp_path))).sweeper.sweep()
