"""The tutorial's commands, as they stand there, on the pictures that it is about."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dgan_backend import cli
from dgan_backend.evaluation import commands, few_shot, ruler
from dgan_backend.interpreter import FitSettings
from dgan_backend.labeled import load_pairs
from dgan_backend.labelstudio.corrections import Correction, correction_of
from dgan_backend.labelstudio.project import Project, open_project
from dgan_backend.labelstudio.regions import to_regions
from dgan_backend.loop.training import Training
from dgan_backend.loop.twins import Twins
from dgan_backend.registry import Registry
from dgan_backend.training import familiarity
from tests.builders import QUICK

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial-own-domain.md"
WBC = Path(os.environ.get("WBC") or ROOT.parent / "shared" / "data" / "wbc")
CLASSES = ("background", "cytoplasm", "nucleus")

needs_wbc = pytest.mark.skipif(
    not (WBC / "001.bmp").is_file(),
    reason=f"wbc is not here: {WBC} has no 001.bmp; see {TUTORIAL.name}, and set WBC to its folder",
)

# What the same commands get to do here: the last value of an option counts.
BUDGETS = {
    "generator train": "--pictures 32 --batch 8 --grow-at 16 --channels 8 8 8 8 8 --z-dim 8",
    "generator backbone": "--pictures 16",
    "fit": "--pictures 8 --steps 5 --members 1 --outside student",
    "evaluate version": "--skip 57",
    "segment": "",
    "sample": "--count 2",
    "evaluate few-shot": "--methods pixels --draws 1",
}
LONGER = {
    "generator train": "--pictures 6000 --grow-at 2000",
    "generator backbone": "--pictures 1000",
    "fit": "--pictures 2400 --outside student",
    "evaluate few-shot": "--methods pixels --draws 1",
}
SERVICES = ("start", "doctor", "import-labels FOLDER")


def blocks() -> list[str]:
    """Commands of the tutorial, each in one line."""
    text = "".join(re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(), re.DOTALL))
    return text.replace("\\\n", " ").splitlines()


def mentioned() -> list[str]:
    """Commands within sentences."""
    text = re.sub(r"```.*?```", "", TUTORIAL.read_text(), flags=re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`(dgan-backend [^`]+)`", text)]


def name_of(words: list[str]) -> str:
    return " ".join(words[: 2 if words[0] in ("generator", "evaluate", "partonomy") else 1])


@pytest.mark.parametrize("line", [*blocks(), *mentioned()])
def test_every_command_is_one(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "dgan-backend"
    numbered = ["7" if word == "N" else word for word in words]
    cli._parser().parse_args(numbered)  # argparse ends the test where there is no such option


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the tutorial works in."""
    (tmp_path / "wbc").symlink_to(WBC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return tmp_path


def follow(budgets: dict[str, str], most: int) -> None:
    """Do what the tutorial says, but for what waits for people. most: files of a pattern."""
    for line in blocks():
        words = shlex.split(line)[1:]
        if name_of(words).startswith(SERVICES):
            continue
        words = [file for word in words for file in spread(word, most)]
        words += budgets.get(name_of(words), "").split()
        assert cli.main(words) == 0, line


def spread(word: str, most: int) -> list[str]:
    if "*" not in word:
        return [word]
    found = sorted(str(path) for path in Path().glob(word))
    assert found, word
    return found[:most]


@needs_wbc
@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_the_tutorial_can_be_followed(
    beside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(familiarity, "_SAMPLES", 16)
    monkeypatch.setattr(familiarity, "_PICTURES", 16)
    monkeypatch.setattr(commands, "run", in_this_process)
    follow(BUDGETS, most=2)
    said = capsys.readouterr().out
    assert "Written to pairs: 180 labeled pictures; 60 more, kept out, to pairs/kept-out." in said
    assert len(load_pairs(Path("pairs"))) == 180
    assert '<Label value="nucleus"' in said  # the labeling config
    assert said.count("| nucleus | ") == 2 and "| pixels only | " in said
    for sheet in ("worst.png", "segmented.png", "samples.png"):
        with Image.open(sheet) as opened:
            assert opened.width > 100
    card = json.loads(Path("cells-v1/version.json").read_text())
    assert card["generator_id"].startswith("cells-")
    a_project_learns_with_it(beside)


def in_this_process(
    made: ruler.Ruler, results: ruler.Results, chosen: list[str], *more: Any
) -> ruler.Cells:
    """One cell of the ruler, quickly."""
    data = few_shot.FewShotSet.load(made.pairs, made.partonomy, made.test, made.turns)
    assert (data.pool, len(data.test()), data.partonomy.classes) == (180, 60, CLASSES)
    assert made.turns  # as the generator's card says
    with pytest.MonkeyPatch.context() as patch:
        quick = partial(FitSettings, members=2, steps=5, pixels=256)
        patch.setattr("dgan_backend.evaluation.methods.FitSettings", quick)
        patch.setattr(few_shot.FewShotSet, "test", lambda self: self.pairs.pick(range(180, 184)))
        found = made.compute(few_shot.Cell(chosen[0], 1, 0))
    results.value |= {"classes": list(CLASSES), "area": [0.5, 0.3, 0.2], "ceiling": {}}
    return {chosen[0]: {16: [{**found, "draw": 0}]}}


def a_project_learns_with_it(folder: Path) -> None:
    """Step 6: annotations of a project whose extra params are the tutorial's make a version."""
    (params,) = re.findall(r'\{"generator.*\}', TUTORIAL.read_text())
    params = params.replace("/absolute/path/to", str(folder))
    parser = argparse.Namespace(name="pairs/partonomy.yaml", control="brush", smart=False)
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", printed.append)
        cli.partonomy_commands.print_config(parser)
    project = open_project("7.1795491060", printed[0], params)
    pairs = load_pairs(Path("pairs")).pick(range(2))
    training = Training(
        Registry(folder / "models"),
        Twins(folder / "models"),
        project,
        lambda task: pairs.images[int(task["id"])],
        plan=replace(QUICK, student=replace(QUICK.student, members=1)),
    )
    corrections = [annotated(project, n, mask) for n, mask in enumerate(pairs.masks)]
    trained = training.run(corrections)
    assert trained.current, trained.said
    made = Registry(folder / "models").segmenter(trained.version)
    assert made.partonomy.classes == CLASSES
    assert made.generator.card.turns and made.student is not None


def annotated(project: Project, task: int, mask: np.ndarray) -> Correction:
    assert project.binding is not None, project.problem
    told = {
        "id": task + 1,
        "result": to_regions(mask, None, project.binding),
        "completed_by": 1,
        "updated_at": "x",
    }
    found = correction_of({"id": task, "data": {"image": "x"}, "annotations": [told]})
    assert found is not None
    return found


@needs_wbc
@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_what_the_tutorial_makes_finds_nuclei(
    beside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth of the tutorial's budget finds nuclei and most of the cytoplasm."""
    follow(LONGER, most=60)
    said = capsys.readouterr().out
    iou = dict(re.findall(r"\| (cytoplasm|nucleus) \| (\d+) \|", said))
    assert int(iou["nucleus"]) > 75 and int(iou["cytoplasm"]) > 50, iou
