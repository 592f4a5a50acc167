"""versions list, use, prune."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dgan_backend.cli import main
from dgan_backend.registry import Registry
from dgan_backend.versions import CARD

CHECKED = {"pictures": 24, "candidate": 0.8412, "current": 0.8, "difference": 0.0412}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    return tmp_path


def add(folder: Path, name: str, **training: object) -> None:
    (folder / name).mkdir()
    (folder / name / CARD).write_text(json.dumps({"training": training}))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["versions", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_versions_are_listed_with_what_became_of_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(folder, "p7-cat-v0001")
    add(
        folder,
        "p7-cat-v0002",
        time=1795491060.0,
        pictures=24,
        corrections=["a", "b"],
        validation=CHECKED,
    )
    add(folder, "p7-cat-v0003", pictures=25, validation=None, held_back="It is worse.")
    add(folder, "p8-cat-v0001", pictures=3)
    first, second, third, other = said(capsys, "list")
    assert first == "  p7-cat-v0001  ? pictures, 0 of them corrections"
    assert second.startswith("* p7-cat-v0002  2026-11-2")
    assert second.endswith(
        "  24 pictures, 2 of them corrections  "
        "mean IoU 0.841 (+0.041) on 24 pictures that it had not learned from"
    )
    assert third == ("  p7-cat-v0003  25 pictures, 0 of them corrections  held back: It is worse.")
    assert other.startswith("* p8-cat-v0001")
    assert said(capsys, "list", "--project", "8") == [other]


def test_before_the_first_version_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "list") == [f"No version was trained yet in {folder}."]


def test_a_version_is_chosen_by_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(folder, "p7-cat-v0001", held_back="It is worse.")
    add(folder, "p7-cat-v0002")
    assert said(capsys, "use", "p7-cat-v0001") == ["p7-cat-v0001 serves its project now."]
    assert [line[:14] for line in said(capsys, "list")] == ["* p7-cat-v0001", "  p7-cat-v0002"]


def test_a_version_that_is_not_there_is_an_error_that_names_those_that_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(folder, "p7-cat-v0001")
    assert main(["versions", "use", "p7-cat-v0002"]) != 0
    error = capsys.readouterr().err
    assert "no version 'p7-cat-v0002'" in error and "p7-cat-v0001" in error


def test_pruning_tells_what_it_deleted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 9):
        add(folder, f"p7-cat-v000{number}")
    add(folder, "p8-cat-v0001")
    assert said(capsys, "prune", "--project", "7") == [
        "Deleted: p7-cat-v0001, p7-cat-v0002, p7-cat-v0003."
    ]
    assert said(capsys, "prune", "--project", "7") == ["There was nothing to delete."]
    assert said(capsys, "prune", "--project", "7", "--keep", "1")
    left = [k.name for k in Registry(folder).versions()]
    assert left == ["p7-cat-v0008", "p8-cat-v0001"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["prune"], "--project"),
        (["prune", "--project", "7", "--keep", "-1"], "-1 is not 0 or more"),
        (["prune", "--project", "7", "--keep", "few"], "invalid"),
        (["use"], "NAME"),
        ([], "ACTION"),
    ],
)
def test_words_that_cannot_be_used_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["versions", *words])
    assert ended.value.code == 2
    assert error in capsys.readouterr().err
