"""push on the command line, against a double of Label Studio behind real HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgan_backend.cli import main
from dgan_backend.loop.board import Board
from dgan_backend.settings import Settings
from dgan_backend.supervision import compute, services
from dgan_backend.supervision.launcher import Launcher
from tests.boards import embedded_redis
from tests.builders import tiny_models
from tests.labeling import CONFIG, OTHER_CONFIG
from tests.studio import TOKEN, UID, Studio, studio_with

VERSION = "p7-toonhead-v0003"
SISTER = 9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL_DIR in which a tiny version serves project 7."""
    return tiny_models(tmp_path_factory.mktemp("models"), VERSION)


@pytest.fixture
def studio(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """Projects 7, of toon heads, and 8, of labels that nothing is known of."""
    for key, value in compute.environment(1).items():
        if key not in os.environ:  # or the process would start anew
            monkeypatch.setenv(key, value)
    monkeypatch.delenv("REDIS_URL", raising=False)
    with studio_with((7, CONFIG), (8, OTHER_CONFIG)) as (made, _):
        monkeypatch.setenv("LABEL_STUDIO_URL", made.url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        monkeypatch.setenv("MODEL_DIR", str(models))
        yield made


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["push", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_push_says_what_it_made_and_undo_what_it_removed(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = f"{VERSION}-x4-s3000000"
    status, out, err = run(capsys, "--project", "7", "--count", "4")
    assert (status, out) == (0, f"4 tasks were made in project {SISTER}.\nBatch: {batch}\n")
    assert "sampling" in err and "creating tasks" in err  # the bars
    status, out, _ = run(capsys, "--project", "7", "--count", "4")
    assert (status, out.splitlines()[0]) == (
        0,
        f"0 tasks were made in project {SISTER}. 4 of it were there.",
    )
    studio.annotate(studio.of(SISTER)[0]["id"], [])
    status, out, _ = run(capsys, "--project", "7", "--undo", batch)
    assert (status, out) == (
        0,
        f"3 tasks of {batch} were deleted, 1 stay.\n  project {SISTER}, task 1: it is annotated.\n",
    )


def test_a_licence_that_says_non_commercial_is_repeated_once(
    studio: Studio, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = models / "tiny" / "card.json"
    before = card.read_text()
    assert '"licence": ""' in before
    card.write_text(before.replace('"licence": ""', '"licence": "CC BY-NC 4.0"'))
    _, _, err = run(capsys, "--project", "7", "--count", "3")
    card.write_text(before)
    said = "dgan-backend: pictures of the generator tiny come under its licence: CC BY-NC 4.0."
    assert err.count(said) == 1
    _, _, err = run(capsys, "--project", "7", "--count", "4")
    assert "licence" not in err


def test_seed_and_place_are_taken_from_the_options(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--project", "7", "--count", "2", "--seed", "5", "--same-project", "--annotations"]
    assert run(capsys, *words)[1].endswith(f"Batch: {VERSION}-x2-s5\n")
    assert len(studio.of(7)) == 2 and all(task["annotations"] for task in studio.of(7))
    assert run(capsys, "--project", "7", "--count", "2", "--for-labeling")[0] == 0
    assert len(studio.of(7)) == 4


def test_extra_params_come_from_the_backend_that_is_connected(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = {"model_version": "sam", "extra_params": {}}
    ours = {"model_version": "toonhead-shipped", "extra_params": {"partonomy": "huhu"}}
    studio.backends[7] = [theirs, ours]
    status, _, err = run(capsys, "--project", "7", "--count", "2")
    assert status == 2 and "Project 7: The extra params name the partonomy 'huhu'" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--project", "8", "--count", "3"], "Project 8 has no version"),
        (["--project", "8", "--count", "3"], "submit a few annotations first"),
        (["--project", "6", "--count", "3"], "There is no project 6"),
        (["--project", "6", "--undo", "x"], "There is no project 6"),
        (["--project", "7", "--count", "0"], "1 to 10000 tasks, not 0"),
        (["--project", "7", "--count", "3", "--seed", "-1"], "not -1"),
        (["--project", "7", "--undo", "x"], "no task of the batch 'x' in project 7"),
        (
            ["--project", "7", "--count", "3", "--annotations", "--for-labeling"],
            "without annotations; choose one",
        ),
    ],
)
def test_what_cannot_be_done_is_told_with_a_remedy_and_writes_nothing(
    studio: Studio, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    status, _, err = run(capsys, *words)
    assert status == 2 and said in err
    assert not studio.writes()


@pytest.mark.parametrize("name", ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"])
def test_without_label_studio_it_says_what_to_set(
    studio: Studio,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.delenv(name)
    status, _, err = run(capsys, "--project", "7", "--count", "3")
    assert status == 2 and "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY" in err


@pytest.mark.parametrize(
    "words",
    [
        ["--count", "3"],
        ["--project", "7"],
        ["--project", "7", "--count", "3", "--undo", "x"],
        ["--project", "7", "--count", "few"],
    ],
)
def test_words_that_do_not_fit_together_are_refused(words: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["push", *words])
    assert ended.value.code == 2


@pytest.mark.parametrize("known", ["REDIS_URL", "--state"])
@pytest.mark.parametrize("what", [["--count", "2"], ["--undo", "x"]], ids=["push", "undo"])
def test_two_pushes_at_once_are_kept_apart_where_there_is_a_redis(
    studio: Studio,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    known: str,
    what: list[str],
) -> None:
    from dgan_backend import jobs

    with Launcher(tmp_path) as launcher:
        child, settings = services.embedded_redis(Settings(), launcher.state)
        launcher.start(child)
        state = ["--state", str(tmp_path)] if known == "--state" else []
        if not state:
            monkeypatch.setenv("REDIS_URL", settings.redis_url)
        with jobs.connect(settings) as client, Board(client).lease(UID, "make") as lease:
            assert lease is not None
            status, _, err = run(capsys, "--project", "7", *what, *state)
            assert status == 2 and "are being made right now" in err
        assert not studio.writes()
        assert run(capsys, "--project", "7", "--count", "2", *state)[0] == 0


def test_the_redis_of_start_is_found_and_need_not_run(
    studio: Studio,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    undo = ["--project", "7", "--undo", "x"]
    with embedded_redis(tmp_path / "run") as client, Board(client).lease(UID, "make"):
        assert "are being made right now" in run(capsys, *undo)[2]
    assert "no task of the batch" in run(capsys, *undo)[2]
    assert "does not answer" in run(capsys, *undo, "--state", str(tmp_path / "run"))[2]
