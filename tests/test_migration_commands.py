"""import-labels and import-datasetgan, against a double of Label Studio behind real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dgan_backend import jobs
from dgan_backend.cli import main
from dgan_backend.labeled import load_pairs
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.labelstudio.corrections import correction_of
from dgan_backend.labelstudio.project import open_project
from dgan_backend.loop.board import Board
from dgan_backend.partonomy import load_partonomy
from dgan_backend.settings import Settings
from dgan_backend.supervision import services
from dgan_backend.supervision.launcher import Launcher
from tests.labeling import CONFIG
from tests.migrations import (
    box,
    datasetgan_folder,
    encoded,
    labelme_file,
    masks_folder,
    picture,
    shape,
)
from tests.studio import TOKEN, UID, Studio, studio_with

CARS = labeling_config(load_partonomy("car"), "polygon")
Run = tuple[int, str, str]


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Studio]:
    """Projects 7, of toon heads, and 8, of cars in polygons."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    with studio_with((7, CONFIG), (8, CARS)) as (made, _):
        monkeypatch.setenv("LABEL_STUDIO_URL", made.url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
        yield made


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """Two heads in LabelMe."""
    folder = tmp_path / "heads"
    labelme_file(
        folder / "a.json", [shape("face", box(1, 1, 9, 9)), shape("nose", box(3, 3, 5, 5))]
    )
    labelme_file(folder / "b.json", [shape("Face", box(0, 0, 4, 4))], embedded=True)
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Run:
    status = main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_labelme_into_a_project_once(
    studio: Studio, heads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "import-labels", heads, "--project", 7)
    assert status == 0 and out.endswith("Made in project 7: 2 annotated tasks.\n")
    assert "2 pictures with labels (labelme)." in out
    assert "reading" in err and "importing" in err  # the bars
    binding = open_project(UID, CONFIG).binding
    assert binding is not None
    first = correction_of(studio.of(7)[0])
    assert first is not None
    expected = np.zeros((12, 16), dtype=np.uint8)
    expected[1:9, 1:9], expected[3:5, 3:5] = 3, 5
    assert np.array_equal(first.mask(binding, 12, 16), expected)
    _, out, _ = run(capsys, "import-labels", heads, "--project", 7, "--format", "labelme")
    assert out.endswith("Made in project 7: 0 annotated tasks. 2 pictures had come before.\n")
    assert len(studio.of(7)) == 2
    labelme_file(heads / "a.json", [shape("face", box(1, 1, 9, 9))])
    _, out, _ = run(capsys, "import-labels", heads, "--project", 7)
    assert "Of those, 1 with other labels now; Label Studio keeps what it has." in out
    assert out.endswith("anew:\n  a.json\n")


def test_a_dry_run_writes_nothing(
    studio: Studio, heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (heads / "lost.png").write_bytes(b"")
    for target in (["--project", 7], ["--out", tmp_path / "out"], []):
        status, out, _ = run(capsys, "import-labels", heads, *target, "--dry-run")
        assert status == 0
        assert "nose  nose" in out and "1 picture without labels" in out and "  lost.png" in out
    assert not studio.writes() and not (tmp_path / "out").exists()


def test_a_dry_run_tells_all_that_is_wrong(
    studio: Studio, heads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (heads / "a.json").write_text('{"shapes": [')
    labelme_file(
        heads / "c.json", [shape("wing", box(0, 0, 2, 2)), shape("nose", [[1, 1], [2, 2]], "line")]
    )
    status, out, _ = run(capsys, "import-labels", heads, "--project", 7, "--dry-run")
    assert status == 1
    assert "wing: no class has that name or alias" in out
    assert "At fault: 1 file." in out and "a.json is not valid JSON" in out
    assert "left out: 1 line." in out
    status, out, _ = run(capsys, "import-labels", heads, "--dry-run")
    assert status == 1 and "At fault: 1 file." in out and "wing" in out
    status, _, err = run(capsys, "import-labels", heads, "--project", 7)
    assert status == 2 and "Nothing is imported:" in err and "a.json is not valid JSON" in err
    assert not studio.writes()


def test_labels_that_mean_nothing_are_renamed_or_left_out(
    studio: Studio, heads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelme_file(heads / "c.json", [shape("wing", box(0, 0, 2, 2))])
    words = ["import-labels", heads, "--project", 7]
    status, _, err = run(capsys, *words)
    assert status == 2 and "wing: no class has that name or alias" in err and "--rename" in err
    assert not studio.writes()
    status, out, _ = run(capsys, *words, "--skip-unmatched")
    assert status == 0 and "Left out, as they have no pixel of a class:\n  c.json" in out
    assert len(studio.of(7)) == 2
    assert run(capsys, *words, "--rename", "wing=ear")[0] == 0
    assert studio.of(7)[2]["annotations"][0]["result"][0]["value"]["brushlabels"] == ["ear"]


def test_masks_into_a_folder_with_their_own_partonomy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.repeat(np.array([[0, 1, 2, 255]], dtype=np.uint8), 4, axis=0)
    source = masks_folder(tmp_path / "cups", {"a": mask}, "background\nhandle\ncup\nnever seen")
    out = tmp_path / "pairs"
    status, said, _ = run(capsys, "import-labels", source, "--out", out)
    assert status == 0
    assert f"dgan-backend fit {out} --partonomy {out}/partonomy.yaml" in said
    tree = load_partonomy(out / "partonomy.yaml")
    assert (tree.name, tree.classes) == ("cups", ("background", "handle", "cup", "never seen"))
    (found,) = load_pairs(out).masks
    assert np.array_equal(found, mask)  # the numbers stay
    again = tmp_path / "again"
    assert run(capsys, "import-labels", out, "--out", again, "--format", "masks")[0] == 0
    assert np.array_equal(load_pairs(again).masks[0], found)


def test_pictures_with_masks_beside_them_into_a_folder_and_some_kept_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = np.repeat(np.array([[0, 128, 255, 255]], np.uint8), 4, axis=0)
    source, out = tmp_path / "cells", tmp_path / "pairs"
    source.mkdir()
    for n in range(5):
        (source / f"{n}.bmp").write_bytes(encoded(picture(4, 4, seed=n), "BMP"))
        (source / f"{n}.png").write_bytes(encoded(grey))
    words = ["import-labels", source, "--classes", "plasm=128,core=255", "--keep-out", 2]
    assert run(capsys, *words, "--dry-run")[0] == 0
    status, said, _ = run(capsys, *words, "--out", out)
    assert status == 0
    assert f"Written to {out}: 3 labeled pictures; 2 more, kept out, to {out}/kept-out." in said
    assert load_partonomy(out / "partonomy.yaml").classes == ("background", "plasm", "core")
    expected = np.repeat(np.array([[0, 1, 2, 2]], np.uint8), 4, axis=0)
    pairs = load_pairs(out) + load_pairs(out / "kept-out")
    assert all(np.array_equal(mask, expected) for mask in pairs.masks)
    assert sorted(pairs.names) == [f"{n}.bmp" for n in range(5)]
    status, _, err = run(capsys, *words, "--project", 7)
    assert status == 2 and "--keep-out is for --out" in err


def test_a_partonomy_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.array([[1, 3], [5, 0]], dtype=np.uint8)
    source = masks_folder(tmp_path / "heads", {"a": mask})
    words = ["import-labels", source, "--out", tmp_path / "out", "--classes", "toonhead"]
    status, said, _ = run(capsys, *words, "--partonomy", "toonhead")
    assert status == 0 and "--partonomy toonhead " in said
    assert np.array_equal(load_pairs(tmp_path / "out").masks[0], mask)


def test_datasetgan_into_a_project_of_polygons(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((40, 40), dtype=np.int64)
    mask[5:30, 5:35], mask[10:20, 10:20], mask[30:32, 30:34] = 3, 5, 8  # the last has 8 pixels
    folder = datasetgan_folder(tmp_path / "car_processed", {1: mask, 2: mask}, latents=2)
    words = ["import-datasetgan", folder, "--project", 8, "--generator", "sha256:57"]
    status, out, _ = run(capsys, *words)
    assert status == 0 and "Made in project 8: 2 annotated tasks.\n" in out
    assert "Ignored pixels of 2 pictures are bare in Label Studio, which means background" in out
    assert "Under 30 pixels and so not imported, in how many pictures: handles (2)." in out
    assert "image_i is row i - 1" in out
    assert [t["data"]["latent"]["index"] for t in studio.of(8)] == [0, 1]
    assert all("annotation" not in t["data"]["dgan"] for t in studio.of(8))
    binding = open_project("8", CARS).binding
    correction = correction_of(studio.of(8)[0])
    assert binding is not None and correction is not None
    expected = np.where(mask == 8, 0, mask)
    assert np.array_equal(correction.mask(binding, 40, 40), expected)
    _, out, _ = run(capsys, *words, "--min-pixels", 0)
    assert "Under" not in out and out.endswith("2 pictures had come before.\n")


def test_datasetgan_into_a_folder_keeps_what_it_ignores_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[:10], mask[0, :5] = 3, 8
    folder = datasetgan_folder(tmp_path / "car_processed", {0: mask})
    out = tmp_path / "pairs"
    assert run(capsys, "import-datasetgan", folder, "--out", out)[0] == 0
    (found,) = load_pairs(out).masks
    assert np.array_equal(found, np.where(mask == 8, 255, mask))
    assert not (out / "partonomy.yaml").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["import-labels", "heads"], "Say where to: --project N or --out FOLDER"),
        (["import-labels", "no", "--dry-run"], "There is no folder no"),
        (["import-labels", "heads/a.json", "--dry-run"], "There is no folder heads/a.json"),
        (["import-labels", ".", "--project", "6"], "There is no project 6"),
        (["import-labels", "heads", "--out", "heads"], "heads is there already"),
        (["import-labels", "empty", "--dry-run"], "looks like none of datasetgan, labelme, masks"),
        (["import-labels", "empty", "--dry-run", "--format", "labelme"], "no JSON file of LabelMe"),
        (["import-datasetgan", "heads", "--dry-run"], "no image_mask0.npy with image_0.jpg"),
        (["import-labels", "heads", "--project", "7", "--partonomy", "car"], "its own partonomy"),
        (["import-labels", "heads", "--dry-run", "--set", "car_20"], "for the format datasetgan"),
        (["import-labels", "heads", "--dry-run", "--classes", "car"], "use --rename"),
        (["import-labels", "heads", "--dry-run", "--rename", "wing"], "is not OLD=NEW"),
        (["import-labels", "heads", "--dry-run", "--rename", "x=y"], "there are: Face, face, nose"),
        (["import-labels", "heads", "--dry-run", "--partonomy", "x"], "no partonomy 'x'"),
    ],
)
def test_what_cannot_be_done_is_told_with_a_remedy(
    studio: Studio,
    heads: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *words)
    assert status == 2 and said in err
    assert not studio.writes()


def test_without_label_studio_it_says_what_to_set(
    heads: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    status, _, err = run(capsys, "import-labels", heads, "--project", "7")
    assert status == 2 and "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY" in err


def test_the_off_by_one_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import-datasetgan", "--help"])
    assert ended.value.code == 0
    assert "image_{i} is row i - 1 and image_0 is no row" in capsys.readouterr().out


def test_two_imports_at_once_are_kept_apart_where_there_is_a_redis(
    studio: Studio, heads: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["import-labels", heads, "--project", 7, "--state", tmp_path]
    with Launcher(tmp_path) as launcher:
        child, settings = services.embedded_redis(Settings(), launcher.state)
        launcher.start(child)
        with jobs.connect(settings) as client, Board(client).lease(UID, "make") as lease:
            assert lease is not None
            status, _, err = run(capsys, *words)
            assert status == 2 and "are being made right now" in err
        assert not studio.writes()
        assert run(capsys, *words)[0] == 0
