"""pause, resume, forget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import torch

from dgan_backend.cli import main
from dgan_backend.inversion.latents import Latent, latents_of
from dgan_backend.loop.board import Board
from dgan_backend.registry import Registry
from dgan_backend.storage import Storage
from dgan_backend.vault import Vault
from tests.boards import embedded_redis
from tests.statuses import UID, add_version, connect

OTHER = "17.1700000000"  # another Label Studio's


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def server(state: Path) -> Iterator[redis.Redis]:
    with embedded_redis(state) as client:
        yield client


@pytest.fixture
def board(server: redis.Redis) -> Board:
    server.flushdb()
    return Board(server)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def run(models: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(state, capsys)


class Runner:
    """The command line, with the running backend's state folder."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._state, self._capsys = state, capsys

    def __call__(self, *words: str, status: int = 0) -> str:
        assert main([*words, "--state", str(self._state)]) == status
        told = self._capsys.readouterr()
        return told.out + told.err


def test_a_project_is_paused_and_resumed_by_number_or_uid(run: Runner, board: Board) -> None:
    connect(board)
    assert run("pause", "--project", "17") == f"Project {UID} is paused.\n"
    assert board.paused(UID)
    assert run("resume", "--project", UID) == f"Project {UID} goes on.\n"
    assert not board.paused(UID)


@pytest.mark.parametrize("command", ["pause", "resume", "forget"])
def test_a_number_of_two_label_studios_is_not_guessed(
    run: Runner, board: Board, command: str
) -> None:
    connect(board)
    connect(board, OTHER)
    said = run(command, "--project", "17", status=2)
    assert f"Several Label Studios have a project 17: {OTHER}, {UID}" in said
    assert f"--project {OTHER}" in said


def test_unknown_projects_are_answered_with_the_known_ones(run: Runner, board: Board) -> None:
    assert "no project 3; this backend knows: none" in run("pause", "--project", "3", status=2)
    connect(board)
    assert f"knows: {UID}." in run("forget", "--project", "3", status=2)


def test_redis_url_comes_first(run: Runner, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hidden@127.0.0.1:1/0")
    said = run("pause", "--project", "17", status=2)
    assert "Redis at redis://127.0.0.1:1/0 cannot be used" in said and "hidden" not in said


def test_where_no_redis_is_known_that_is_said(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--project", "17", "--state", str(tmp_path)]
    assert main(["pause", *words]) == 2
    assert "No Redis is known" in capsys.readouterr().err
    add_version(models, 1)
    assert main(["forget", *words, "--yes"]) == 0
    assert Registry(models).versions() == []


def test_a_backend_that_was_stopped_is_said(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with embedded_redis(tmp_path / "stopped"):
        pass
    assert main(["forget", "--project", "17", "--state", str(tmp_path / "stopped"), "--yes"]) == 2
    assert "The Redis of `dgan-backend start` does not answer" in capsys.readouterr().err


# Forget


def fill(models: Path, board: Board, uid: str = UID, number: int = 1) -> str:
    connect(board, uid)
    board.mark(uid, "train")
    name = add_version(models, number, uid)
    (models / "twins" / name / "0").mkdir(parents=True)
    Registry(models).use(name)
    return name


def left(models: Path) -> list[str]:
    return sorted(str(p.relative_to(models)) for p in models.rglob("*") if p.is_file() or (
        p.parent.name == "twins"))  # fmt: skip


def test_all_of_a_project_is_forgotten_and_nothing_of_another(
    run: Runner, board: Board, models: Path, server: redis.Redis
) -> None:
    name = fill(models, board)
    other = fill(models, board, "170.1")
    unfinished = [models / "p17-toonhead-v0002.partial", models / "twins" / "p17-toonhead-v0002"]
    for folder in unfinished:
        folder.mkdir()
    kept = {key: server.hgetall(key) for key in server.scan_iter() if server.type(key) == b"hash"}
    said = run("forget", "--project", "17", "--yes")
    assert f"Removed: {name}, what is noted of {UID}." in said
    assert "Label Studio keeps its tasks" in said
    assert left(models) == [
        f"{other}/version.json", "p170-toonhead.170.1.current.json", f"twins/{other}",
    ]  # fmt: skip
    assert [c.uid for c in board.connections()] == ["170.1"]
    assert board.unsettled("170.1", "train") and not board.unsettled(UID, "train")
    assert not any(UID.encode() in value for key in kept for value in server.hgetall(key))
    assert not any(folder.exists() for folder in unfinished)


def test_of_two_label_studios_one_is_forgotten(run: Runner, board: Board, models: Path) -> None:
    ours, theirs = fill(models, board), fill(models, board, OTHER, 2)
    (models / "p17-toonhead-v0003.partial").mkdir()  # whose it is cannot be told
    run("forget", "--project", UID, "--yes")
    assert [k.name for k in Registry(models).versions()] == [theirs]
    assert left(models) == [
        f"{theirs}/version.json", f"p17-toonhead.{OTHER}.current.json", f"twins/{theirs}",
    ]  # fmt: skip
    assert (models / "p17-toonhead-v0003.partial").exists()
    assert [c.uid for c in board.connections()] == [OTHER]
    assert ours not in run("forget", "--project", "17", "--yes")
    assert left(models) == [] and not list(models.glob("*.partial"))


def test_where_a_project_lives_is_forgotten_alone(run: Runner, board: Board, models: Path) -> None:
    fill(models, board)
    Vault(Storage(models)).keep_token(UID, "http://ls:8080", "theirs")
    assert f"project {UID} is in is forgotten" in run("forget", "--project", "17", "--connection")
    assert board.connections() == []
    assert Vault(Storage(models)).token(UID, "http://ls:8080") == ""
    assert [kept.uid for kept in Registry(models).versions()] == [UID]


def test_versions_fitted_by_hand_are_forgotten_by_their_number(
    run: Runner, board: Board, models: Path
) -> None:
    folder = models / "p17-toonhead-v0001"
    folder.mkdir(parents=True)
    (folder / "version.json").write_text('{"training": {}}')
    assert "Removed: p17-toonhead-v0001." in run("forget", "--project", "17", "--yes")
    assert left(models) == []


def test_latents_of_a_project_that_has_no_version_yet_are_found(
    run: Runner, board: Board, models: Path
) -> None:
    latent = Latent(torch.zeros(1, 2, 4), 0.1)
    for uid in (UID, "170.1"):
        latents_of(models, uid).keep("a" * 64, latent)
    assert "latents of 1 pictures" in run("forget", "--project", "17", "--yes")
    assert len(latents_of(models, UID)) == 0 and len(latents_of(models, "170.1")) == 1


@pytest.mark.parametrize(
    ("answer", "gone"), [("y", True), ("Yes", True), ("", False), ("n", False)]
)
def test_it_asks_first(
    run: Runner,
    board: Board,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    gone: bool,
) -> None:
    fill(models, board)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    said = run("forget", "--project", "17", status=0 if gone else 1)
    assert "Of project 17" in said and "p17-toonhead-v0001, what is noted of" in said
    assert ("Nothing was removed." in said) is not gone
    assert (Registry(models).versions() == []) is gone
    assert (board.connections() == []) is gone


def test_a_job_that_runs_is_waited_for(
    run: Runner, board: Board, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it still writes, a version even, is forgotten with the rest."""
    fill(models, board)
    asked = []

    def busy(self: Board, uid: str, work: str) -> bool:
        asked.append(work)
        if len(asked) == 3:
            add_version(models, 2)
            board.complain(uid, "It failed.")
        return len(asked) < 4

    monkeypatch.setattr(Board, "busy", busy)
    run("forget", "--project", "17", "--yes")
    assert Registry(models).versions() == [] and board.complaints(UID) == []
