"""The report: its plan, its runs on a tiny domain, its page and its JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dgan_backend import evaluation_commands
from dgan_backend.errors import DganError
from dgan_backend.evaluation import methods, reporting
from dgan_backend.evaluation.charts import Point, Series, chart
from dgan_backend.evaluation.domain import find_domain, rendered
from dgan_backend.evaluation.plan import FULL, QUICK, Plan, Run, Scale
from dgan_backend.evaluation.summary import Summary
from dgan_backend.interpreter import FitSettings
from tests.builders import add_tiny_backbone, tiny_generator_folder

TINY = Scale(
    labels=(1, 2),
    draws=1,
    pictures=8,
    synthetic=6,
    curve=(4, 6, 8),
    once=(1,),
    drops=(0.0, 0.1),
    many=(3, 10),
    part=8,
    judged=4,
    members=(1, 2),
    unet_pictures=8,
    interpreter_steps=5,
    taught=2,
    epochs=2,
)
TREE = """
name: blocks
labels_needed: 2
parts:
  - {name: background, index: 0}
  - {name: left block, index: 1}
  - {name: top, index: 2}
"""
ISSUES_KEYS = {
    "student_16", "supervised_16", "semi_supervised_16", "transfer_16", "supervised_100",
    "supervised_500", "supervised_2000", "inversion_16",
}  # fmt: skip


def write_pairs(folder: Path, count: int, first: int = 0) -> Path:
    """Pictures of 32 px whose colour gives the part away."""
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True)
    for n in range(first, first + count):
        random = np.random.RandomState(n)
        mask = np.repeat(np.repeat(random.randint(0, 3, (4, 4)), 8, axis=0), 8, axis=1)
        noise = random.randint(0, 20, (32, 32))
        image = np.stack([mask * 100 + noise, 255 - mask * 100 - noise, noise], axis=2)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{n:03d}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{n:03d}.png")
    return folder


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pairs(tmp_path_factory.mktemp("domain") / "blocks", 24)
    write_pairs(folder / "kept-out", 3, first=100)
    (folder / "partonomy.yaml").write_text(TREE.replace("left block", "block"))
    return folder


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_generator_folder(tmp_path_factory.mktemp("generator") / "tiny")
    add_tiny_backbone(folder)
    return folder


def arguments(domain: Path, generator: Path, out: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    evaluation_commands.add_commands(parser.add_subparsers())
    words = ["evaluate", str(domain), "--out", str(out), "--generator", str(generator), "--quick"]
    return parser.parse_args(evaluation_commands.with_action([*words, "--jobs", "1", *more]))


class Page(HTMLParser):
    """Tags that were opened and not closed, sources, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.sources += [v or "" for name, v in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_tiny_report_from_nothing(
    domain: Path, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Every run, twice the command, and once without pictures."""
    monkeypatch.setattr(reporting, "QUICK", TINY)
    quick = partial(FitSettings, steps=5, pixels=256)
    monkeypatch.setattr(methods, "FitSettings", quick)  # the interpreter's on inverted pictures
    style = write_pairs(tmp_path / "style", 3, first=200)
    args = arguments(domain, generator, tmp_path / "out", "--style", str(style))
    assert reporting.report(args) == 0
    path = tmp_path / "out" / "blocks.json"
    first = json.loads(path.read_text())
    page = Page((tmp_path / "out" / "blocks.html").read_text())
    assert page.open == [] and page.counts["svg"] >= 5 and page.counts["img"] == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for word in ("Where it is lost", "original's 5 folds", "minutes saved", "boundary F", "AUROC"):
        assert word in page.text
    assert "runs are still missing" not in page.text
    names = {"student_2", "supervised_2", "semi_supervised_2", "transfer_2", "inversion_2",
             "prelabeler_1", "supervised_3", "supervised_10"}  # fmt: skip
    assert names <= {name for name, value in first["miou"].items() if value is not None}
    assert first["uncertainty_auroc"] is None or 0 <= first["uncertainty_auroc"] <= 1
    assert set(first["miou_by_filter"]) == {"0", "0.1"}
    assert set(first["miou_by_synthetic"]) == {"4", "6", "8"}
    assert [row["members"] for row in first["ensemble"]] == [1, 2]
    assert set(first["causes"]) == {
        "generated_only", "judged_labels", "judged_pictures", "true_pictures"}  # fmt: skip
    assert 0 <= first["judge"]["miou_soft"] <= 1
    assert {"networks_labels_2", "real_pictures_2", "both_sources_2"} <= set(first["miou"])
    assert first["protocol"]["epochs"] == 2 and first["minutes_saved"]["parts"] > 0
    assert first["command"].startswith("dgan-backend") and first["failures"] == {}
    cells = {name.rpartition("-")[0]: cell for name, cell in first["cells"].items()}
    student = cells["student-2-draw0-of6-drop0.1"]
    assert student["generated_distinct"] <= student["generated_seen"] <= 16
    assert first["protocol"]["ours"] == student["miou"]  # its last epoch is the table's network
    long = cells["student-2-draw0-of6-drop0.1-times4"]
    assert long["generated_seen"] > student["generated_seen"]
    assert cells["semi_supervised-2-draw0"]["unlabeled"] == 24
    assert all(cell["commit"] is not None and cell["wall_seconds"] >= 0 for cell in cells.values())

    there = tmp_path / "out" / "blocks.html"
    elsewhere = ["--style", str(style), "--work", str(tmp_path / "elsewhere"), "--jobs", "0"]
    assert reporting.report(arguments(domain, generator, tmp_path / "out", *elsewhere)) == 0
    assert Page(there.read_text()).sources == page.sources  # as the page had them
    there.write_text(there.read_text().replace('data-of="version-', 'data-of="another-'))
    assert reporting.report(arguments(domain, generator, tmp_path / "out", *elsewhere)) == 0
    assert Page(there.read_text()).sources == page.sources[1:]

    cells["supervised-2-draw0"]["miou"] = 0.4321
    path.write_text(json.dumps(first))
    more = arguments(domain, generator, tmp_path / "out", "--style", str(style), "--no-pictures")
    assert reporting.report(more) == 0  # nothing is computed again
    again = json.loads(path.read_text())
    assert again["miou"]["supervised_2"] == 0.4321
    page = Page((tmp_path / "out" / "blocks.html").read_text())
    assert "img" not in page.counts and "43.2" in page.text
    assert "still missing" not in capsys.readouterr().out


@pytest.mark.parametrize("scale", [FULL, QUICK])
def test_everything_comes_after_what_it_needs_and_the_issues_figures_are_there(
    scale: Scale,
) -> None:
    plan = Plan(scale, 40, 2000, style=True)
    runs = plan.runs()
    assert len(set(runs)) == len(runs) == len({run.name for run in runs})
    for n, run in enumerate(runs):
        assert set(plan.needs(run)) <= set(runs[:n]), run
    assert set(Summary(plan, {}).mious()) >= ISSUES_KEYS
    student = plan.student(16, 0, scale.synthetic, 0.1)
    assert len(plan.samples(student)) * scale.part >= scale.synthetic / 0.9


def test_rows_that_cannot_be_are_left_out() -> None:
    plan = Plan(replace(FULL, draws=1), 40)
    methods = {run.method for run in plan.runs()}
    assert not methods & {"many", "judge", "transfer", "pretrained", "calibration",
                          "judged_labels", "true_pictures", "real_pictures"}  # fmt: skip
    with_person = {run.method for run in Plan(FULL, 40, 180, person=True).runs()}
    assert "judge" not in with_person and "judged_labels" in with_person


def test_where_there_are_fewer_labels_than_asked_for_all_of_them_are_the_most() -> None:
    plan = Plan(FULL, 40, 180)
    assert plan.many() == [Run("many", 100), Run("many", 180)]
    assert plan.judge() == Run("judge", 180)
    cells = {run: {"miou": 0.5 + n / 10} for n, run in enumerate(plan.many())}
    told = Summary(plan, cells).mious()
    assert (told["supervised_100"], told["supervised_180"]) == (0.5, 0.6)
    assert told["supervised_500"] is told["supervised_2000"] is None


def test_a_report_has_a_main_count_of_labels() -> None:
    assert Plan(FULL, 12).main == 4


def test_a_domain_is_found_or_what_it_lacks_is_said(
    domain: Path, generator: Path, tmp_path: Path
) -> None:
    found = find_domain(str(domain), str(generator))
    assert (found.name, found.test) == ("blocks", domain / "kept-out")
    assert found.partonomy.endswith("partonomy.yaml") and found.many == domain
    assert find_domain(str(domain), str(generator), domain).test == domain
    assert rendered(found, domain, 10, jobs=1) == found  # only toonhead is rendered
    with pytest.raises(DganError, match="with --generator"):
        find_domain(str(domain))
    with pytest.raises(DganError, match="there is no domain 'moon'"):
        find_domain("moon")
    bare = tmp_path / "bare"
    (bare / "images").mkdir(parents=True)
    with pytest.raises(DganError, match="what the masks' values mean is not known"):
        find_domain(str(bare), str(generator))
    assert find_domain(str(bare), str(generator), partonomy="cats").partonomy == "cats"


def test_what_was_measured_with_pictures_that_are_gone_is_not_shown_without_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "toonhead-10").mkdir()
    (tmp_path / "toonhead-10" / "done").touch()
    with pytest.raises(DganError, match="personas-10 is not there, and figures are known by"):
        rendered(find_domain("toonhead"), tmp_path, 10, jobs=0)


def test_where_nothing_is_kept_out_nothing_else_is_learned_from(
    generator: Path, tmp_path: Path
) -> None:
    alone = write_pairs(tmp_path / "alone", 2)
    found = find_domain(str(alone), str(generator), partonomy="cats")
    assert found.many is None  # it holds the test pictures
    args = arguments(alone, generator, tmp_path / "out", "--partonomy", "cats")
    assert "rows of many labels" in reporting._domain(args, tmp_path, 10).notes[0]


def test_without_node_rows_are_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = rendered(find_domain("toonhead"), tmp_path, 10, jobs=1)
    assert found.many is None and found.style is None and len(found.notes) == 2
    assert "Node 20 and npm, which are not installed" in found.notes[0]


def test_a_command_is_told_without_what_no_figure_follows_from() -> None:
    words = ["evaluate", "toonhead", "--jobs", "0", "--out", "x"]
    assert reporting._words(words) == ["evaluate", "toonhead", "--out", "x"]
    assert reporting._words(["evaluate", "--jobs=2"]) == words[:1]


def test_evaluate_domain_is_short_for_a_report() -> None:
    with_action = evaluation_commands.with_action
    assert with_action(["evaluate", "toonhead"]) == ["evaluate", "report", "toonhead"]
    for words in (["evaluate", "version", "x"], ["evaluate", "--help"], ["sample"], []):
        assert with_action(words) == words


def test_a_chart_shows_values_intervals_and_names() -> None:
    series = [Series("a < b", [Point(1, 0.5), Point(100, 0.75, 0.7, 0.8)]),
              Series("flat", [Point(0, 0.9)], flat=True), Series("empty", [])]  # fmt: skip
    drawn = Page(str(chart(series, "labels", "mIoU, %", logarithmic=True)))
    assert drawn.open == [] and drawn.counts["circle"] == 2 and drawn.counts["polyline"] == 1
    assert "a < b: 75.0 at 100" in drawn.text and "flat" in drawn.text
    assert "empty" not in drawn.text
    assert chart([Series("nothing", [])], "x", "y") is None
    assert chart([Series("alone", [Point(3, 0.0)])], "x", "y") is not None
