"""The ruler: draws, cells that are kept, tables and plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from dgan_backend import cli
from dgan_backend.cli import main
from dgan_backend.errors import DganError
from dgan_backend.evaluation import causes, methods, report
from dgan_backend.evaluation.few_shot import (
    COUNTS,
    DRAWS,
    Cell,
    FewShotSet,
    Outcome,
    measure,
)
from dgan_backend.evaluation.ruler import FORMAT, METHODS, Results, Ruler, run
from dgan_backend.generators import load_generator
from dgan_backend.generators.native import write_tensors
from dgan_backend.interpreter import FitSettings
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.unet import UNet, UNetConfig
from tests.builders import add_tiny_backbone, tiny_generator_folder

CLASSES = 16
ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "tests" / "data" / "toonhead" / "reference.npz"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """62 pictures whose colour gives the part away."""
    random = np.random.RandomState(0)
    masks = np.repeat(np.repeat(random.randint(0, 3, (62, 4, 4)), 8, axis=1), 8, axis=2)
    images = np.stack([masks * 100, 255 - masks * 100, masks * 0], axis=3).astype(np.uint8)
    path = tmp_path_factory.mktemp("set") / "pairs.npz"
    np.savez(path, image=images, mask=masks.astype(np.uint8))
    return path


def test_draws_are_fixed_nested_and_leave_the_held_back_ones_out(pairs: Path) -> None:
    data = FewShotSet.load(pairs, "toonhead")
    four, forty = data.draw(4, 2).names, data.draw(40, 2).names
    assert forty[:4] == four == data.draw(4, 2).names
    assert data.draw(4, 3).names != four
    held = data.held_back(2).names
    assert len(held) == 20
    assert not set(held) & set(forty)
    test = data.test().names
    assert len(test) == 2
    assert not set(test) & (set(forty) | set(held))


def test_too_few_pictures_are_said(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "few.npz",
        image=np.zeros((60, 8, 8, 3), np.uint8),
        mask=np.zeros((60, 8, 8), np.uint8),
    )
    with pytest.raises(DganError, match="has 60 pictures"):
        FewShotSet.load(tmp_path / "few.npz", "toonhead")


def saved(path: Path, masks: np.ndarray, first: int = 0) -> Path:
    """A set with these masks, whose pictures are each of one colour."""
    shades = np.arange(first, first + len(masks), dtype=np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (*masks.shape, 3))
    np.savez(path, image=images, mask=masks)
    return path


def test_a_mask_that_holds_no_class_is_named(tmp_path: Path) -> None:
    masks = np.zeros((61, 32, 32), np.uint8)
    masks[7, 3, 3], masks[8, 3, 3] = 255, 200
    path = saved(tmp_path / "pairs.npz", masks)
    with pytest.raises(DganError, match=r"pairs.npz\[8\] holds 200; .* are 0 to 15, and 255"):
        FewShotSet.load(path, "toonhead")


def test_pictures_of_any_size_are_framed(tmp_path: Path) -> None:
    masks = np.ones((61, 24, 48), np.uint8)
    data = FewShotSet.load(saved(tmp_path / "pairs.npz", masks), "toonhead")
    assert {image.shape for image in data.pairs.images} == {(128, 128, 3)}
    mask = data.test().masks[0]
    assert (mask[32:96] == 1).all() and (mask[:32] == 255).all() and (mask[96:] == 255).all()


def test_what_is_measured_on_may_lie_apart(tmp_path: Path) -> None:
    pool = saved(tmp_path / "pool.npz", np.ones((30, 32, 32), np.uint8))
    test = saved(tmp_path / "test.npz", np.ones((3, 32, 32), np.uint8), first=30)
    data = FewShotSet.load(pool, "toonhead", test)
    assert data.largest == 10
    assert data.test().names == ["test.npz[0]", "test.npz[1]", "test.npz[2]"]
    drawn = {*data.draw(10, 0).names, *data.held_back(0).names}
    assert drawn == {f"pool.npz[{n}]" for n in range(30)}
    assert data.digest != FewShotSet.load(pool, "toonhead", pool_copy(tmp_path)).digest
    with pytest.raises(
        DganError, match=r"test.npz\[0\] of .* is the same picture as pool.npz\[28\]"
    ):
        saved(tmp_path / "test.npz", np.ones((3, 32, 32), np.uint8), first=28)
        FewShotSet.load(pool, "toonhead", test)
    with pytest.raises(DganError, match="has 3 pictures; 20 choose the baseline's settings"):
        FewShotSet.load(pool_copy(tmp_path), "toonhead", pool)


def pool_copy(folder: Path) -> Path:
    return saved(folder / "more.npz", np.ones((3, 32, 32), np.uint8), first=40)


def test_what_nobody_labeled_is_not_measured() -> None:
    true = np.zeros((2, 8, 8), np.uint8)
    true[:, :4] = 1
    labels = true.copy()
    true[0, :2] = 255
    labels[0, :2] = 0  # would be wrong
    uncertainty = np.zeros((2, 8, 8), np.float32)
    found = measure(true, Outcome(labels, uncertainty, np.zeros(2), 1.0, 0.1, {}), 2)
    assert found["miou"] == found["boundary_f"] == 1.0
    assert found["wrong"] == 0.0 and found["auroc"] is None  # nothing is wrong


def test_pictures_without_an_up_are_learned_at_any_angle(pairs: Path) -> None:
    for turns, angle in ((False, 20), (True, 180)):
        data = FewShotSet.load(pairs, "toonhead", turns=turns)
        assert methods.default_unet(data).augment.rotation == angle
        assert methods.unet_settings(data, {"rate": 1, "pictures": 1}).augment.rotation == angle


def test_what_was_measured_stays_recognised_and_is_what_the_readme_shows() -> None:
    """Keys, and so days of computing, do not depend on what other sets need."""
    results = Results(ROOT / "docs" / "few-shot.json")
    ruler = ruler_of(REFERENCE, ROOT / "docs")
    cells = results.by_method(ruler, ruler.cells(METHODS, COUNTS, DRAWS))
    known = sum(len(measured) for by_count in cells.values() for measured in by_count.values())
    assert known == len(results.value["cells"])
    readme = (ROOT / "README.md").read_text()
    for table in report.tables(results.value, cells).split("\n\n"):
        assert table in readme


def test_measures_of_a_cell_know_scores_and_uncertainty() -> None:
    true = np.zeros((3, 4, 4), np.uint8)
    true[:, :2] = 1
    labels = true.copy()
    labels[0, 0] = 0  # 4 wrong
    labels[1, 0, :2] = 0  # 2 wrong
    uncertainty = (labels != true).astype(np.float32)
    scores = np.array([0.1, 0.5, 0.9])
    found = measure(true, Outcome(labels, uncertainty, scores, 1.0, 0.1, {}), 2)
    assert found["wrong"] == pytest.approx(6 / 48)
    assert found["auroc"] == 1.0
    assert found["spearman"] == pytest.approx(1.0)
    assert found["median_score"] == 0.5


def ruler_of(pairs: Path, folder: Path) -> Ruler:
    return Ruler(pairs, "toonhead", "toonhead", folder)


class Small(Ruler):
    """Its networks of pixels learn little, in whatever process."""

    def compute(self, cell: Cell, choice: dict[str, Any] | None = None) -> dict[str, Any]:
        small = FitSettings(members=2, pixels=1024, steps=100)
        with patch.object(methods, "paper_settings", lambda *_, **__: small):
            return super().compute(cell, choice)


def test_the_ruler_keeps_what_it_measured(pairs: Path, tmp_path: Path) -> None:
    ruler = Small(pairs, "toonhead", "toonhead", tmp_path)
    path = tmp_path / "results.json"
    run(ruler, Results(path), ["pixels"], [1], draws=1)
    stored = json.loads(path.read_text())
    (cell,) = stored["cells"].values()
    assert cell["miou"] > 0.4  # the colour says it all; a label may lack a class, and CPUs differ
    cell["miou"] = 0.125
    path.write_text(json.dumps(stored))
    again = Results(path)
    cells = run(ruler, again, ["pixels"], [1], draws=1)
    assert cells["pixels"][1][0]["miou"] == 0.125
    assert "12.5 (1)" in report.tables(again.value, cells)


def test_results_that_depend_on_something_else_are_not_used(pairs: Path, tmp_path: Path) -> None:
    ruler, results = ruler_of(pairs, tmp_path), Results(tmp_path / "r.json")
    cell = Cell("student", 1, 0)
    results.keep("cells", cell.name, {"key": ruler.key("student", 1), "miou": 1.0})
    assert results.by_method(ruler, [cell])["student"][1][0]["miou"] == 1.0
    with np.load(pairs) as stored:
        np.savez(tmp_path / "other.npz", image=255 - stored["image"], mask=stored["mask"])
    assert results.by_method(ruler_of(tmp_path / "other.npz", tmp_path), [cell]) == {}


def test_the_key_knows_the_unets_choice_and_the_number_of_labels(
    pairs: Path, tmp_path: Path
) -> None:
    ruler = ruler_of(pairs, tmp_path)
    short, long = {"rate": 0.004, "pictures": 8}, {"rate": 0.004, "pictures": 16}
    assert ruler.key("unet", 4, short) != ruler.key("unet", 4, long)
    assert ruler.key("unet", 4, short) != ruler.key("unets", 4, short)
    assert ruler.key("student", 1) != ruler.key("student", 16)


def test_the_key_knows_weights_and_cards(pairs: Path, tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    add_tiny_backbone(folder)
    ruler = Ruler(pairs, "toonhead", str(folder), tmp_path)
    for method, card in (("student", "backbone.json"), ("interpreter", "encoder.json")):
        before = ruler.key(method, 4)
        path = folder / card
        path.write_text(path.read_text() + " ")
        assert ruler.key(method, 4) != before


def test_a_generator_without_its_parts_is_told_before_anything_is_computed(
    pairs: Path, tmp_path: Path
) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    ruler = Ruler(pairs, "toonhead", str(folder), tmp_path)
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(DganError, match=r"encoder train .*tiny"):
        run(ruler, Results(tmp_path / "r.json"), ["pixels", "interpreter"], [1])
    assert not (tmp_path / "r.json").exists()
    without = ruler.key("student", 4)  # one begins at random where there is no backbone
    ruler.check_parts(["student"])
    add_tiny_backbone(folder)
    assert ruler.key("student", 4) != without


def test_the_command_line_offers_what_the_ruler_has() -> None:
    args = cli._parser().parse_args(["evaluate", "few-shot"])
    assert args.methods == list(METHODS)
    assert (args.counts, args.draws) == (list(COUNTS), DRAWS)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "no JSON", json.dumps({"format": FORMAT, "cells": []})]
)
def test_results_of_something_else_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DganError, match="holds no results"):
        Results(tmp_path / "r.json")


def test_a_method_or_count_that_is_none_is_named(pairs: Path, tmp_path: Path) -> None:
    one = ruler_of(pairs, tmp_path).cells(["pixels"], [4, 4], 1)
    assert len(one) == 1  # said twice, done once
    with pytest.raises(DganError, match="no method 'magic'"):
        ruler_of(pairs, tmp_path).cells(["magic"], [1], 1)
    with pytest.raises(DganError, match="1 to 40 labels, not 41"):
        ruler_of(pairs, tmp_path).cells(["unet"], [4, 41], 1)


def test_one_seed_of_every_method_comes_first(pairs: Path, tmp_path: Path) -> None:
    cells = ruler_of(pairs, tmp_path).cells(["unets", "unet"], [1, 4], 2)
    assert [cell.method for cell in cells] == ["unet"] * 4 + ["unets"] * 4 + ["unet"] * 8
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 4 + [2] * 4


def test_the_unet_baseline_chooses_rate_and_budget_on_held_back_pictures(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "BUDGETS", (8, 16, 32))
    monkeypatch.setattr(methods, "RATES", (1e-6, 4e-3))
    data = FewShotSet.load(pairs, "toonhead")
    choice = methods.choose_unet(data, Cell("unet", 4, 0))
    tried = [(t["rate"], t["pictures"]) for t in choice["tried"]]
    assert tried[:2] == [(1e-6, 8), (4e-3, 8)]
    reached = {t["rate"]: t["miou"] for t in choice["tried"][:2]}
    assert reached[choice["rate"]] == max(reached.values())
    kept = methods.KeptUNets(choice, tmp_path / "networks", "key")
    outcome = methods.unet(data, Cell("unet", 4, 0), kept)
    assert outcome.labels.shape == (2, 32, 32)
    (path,) = (tmp_path / "networks").iterdir()
    written = path.stat().st_mtime_ns
    together = methods.unets(data, Cell("unets", 4, 0), kept)
    assert together.uncertainty is not None
    assert len(list((tmp_path / "networks").iterdir())) == 2
    assert path.stat().st_mtime_ns == written  # the first one was not fitted again


@pytest.mark.parametrize(
    ("reached", "pictures", "left"),
    [
        ([0.5, 0.6, 0.609], 16, 0.009),  # less than a point more is no gain
        ([0.5, 0.45], 8, -0.05),
        ([0.5, 0.6, 0.7, 0.8], 64, None),  # the cap
    ],
)
def test_the_last_budget_that_gained_a_point_is_taken(
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    reached: list[float],
    pictures: int,
    left: float | None,
) -> None:
    values = iter([0.4, *reached])  # the first one is of another rate
    monkeypatch.setattr(methods, "BUDGETS", (8, 16, 32, 64))
    monkeypatch.setattr(methods, "RATES", (0.05, 0.1))
    monkeypatch.setattr(methods, "fit_unet", lambda *_: None)
    monkeypatch.setattr(methods, "unet_labels", lambda *_: np.zeros((20, 32, 32), np.uint8))
    monkeypatch.setattr(methods.metrics, "mean_iou", lambda _: next(values))
    choice = methods.choose_unet(FewShotSet.load(pairs, "toonhead"), Cell("unet", 4, 0))
    assert (choice["rate"], choice["pictures"]) == (0.1, pictures)
    assert choice["left"] == (None if left is None else pytest.approx(left))
    assert len(choice["tried"]) == 1 + len(reached)


def test_every_method_labels_the_test_pictures(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "InversionSettings", lambda: InversionSettings(steps=0))
    monkeypatch.setattr(
        methods, "FitSettings", lambda **more: FitSettings(steps=5, pixels=256, **more)
    )
    monkeypatch.setattr(methods, "UNetSettings", lambda **more: UNetSettings(8, **more))
    ruler = ruler_of(pairs, tmp_path)
    for method in ("interpreter+picture", "student"):
        found = ruler.compute(Cell(method, 2, 0))
        assert 0 <= found["miou"] <= 1
        assert found["spearman"] is None or -1 <= found["spearman"] <= 1
        assert 0 <= found["auroc"] <= 1
        assert found["key"] == ruler.key(method, 2)


def test_causes_are_told_apart(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "SAMPLES", 2)
    monkeypatch.setattr(
        methods, "FitSettings", lambda **more: FitSettings(steps=5, pixels=256, **more)
    )
    folder = tiny_generator_folder(tmp_path / "tiny")
    data, generator = FewShotSet.load(pairs, "toonhead"), load_generator(folder)
    write_tensors(tmp_path / "person.safetensors", UNet(UNetConfig(), CLASSES).state_dict())
    person = causes.load_person(tmp_path / "person.safetensors", CLASSES)
    latents = generator.mapping(torch.randn(62, generator.z_dim))
    found = causes.tell_apart(data, generator, latents, person, draw=0)
    assert set(found) == {"samples", "reconstructions", "pictures", "person"}
    assert all(0 <= value <= 1 for value in found.values())
    assert "samples, exact latents" in report.causes({"draw0": found})
    wide = FewShotSet.load(pairs, "toonhead", saved(tmp_path / "t.npz", np.ones((2, 32, 32), "u1")))
    more = torch.cat([latents, latents[:2]])
    assert causes.tell_apart(wide, generator, more, person, draw=0)["samples"] >= 0


def test_steps_of_refinement_are_compared(
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("dgan_backend.supervision.compute.restart_with", lambda _: None)
    monkeypatch.setattr(
        methods, "FitSettings", lambda **more: FitSettings(steps=5, pixels=256, **more)
    )
    generator, told = tiny_generator_folder(tmp_path / "tiny"), tmp_path / "told.json"
    command = ["evaluate", "inversion", "--pairs", str(pairs), "--generator", str(generator)]
    more = ["--steps", "0", "3", "--draws", "1", "--perceptual", "0.5", "--json", str(told)]
    assert main([*command, *more]) == 0
    rows = json.loads(told.read_text())["rows"]
    assert [row["steps"] for row in rows] == [0, 3]
    assert rows[1]["error"] < rows[0]["error"]
    assert "| encoder alone | " in capsys.readouterr().out
    rows[0]["error"] = 0.125
    told.write_text(json.dumps({**json.loads(told.read_text()), "rows": rows}))
    assert main([*command, *more, "--steps", "0"]) == 0  # is there: taken as it is
    assert "0.1250" in capsys.readouterr().out
    assert main([*command, *more, "--perceptual", "0.2"]) == 0  # but not with another term
    assert len(json.loads(told.read_text())["rows"]) == 3
    told.write_text("{}")
    assert main([*command, *more]) == 2
    assert "holds no rows" in capsys.readouterr().err


def test_tables_and_plot_show_every_method(tmp_path: Path) -> None:
    choice = {"rate": 0.004, "pictures": 9600, "left": -0.0012}
    value = {
        "classes": ["background", "hair"],
        "area": [0.7, 0.3],
        "ceiling": {64: 0.71},
        "choices": {"16": choice},
    }
    cells = {
        method: {
            16: [
                {"draw": draw, "miou": miou, "class_iou": [0.9, None], "wrong": 0.05}
                for draw, miou in enumerate(reached)
            ]
        }
        for method, reached in (
            ("pixels", (0.3, 0.3)),
            ("unet", (0.7, 0.72)),
            ("student", (0.75, 0.79)),
        )
    }
    cells["unet"][16] += [{**cell, "miou": cell["miou"] + 0.02} for cell in cells["unet"][16]]
    cells["student"][4] = cells["pixels"][4] = cells["pixels"][16]  # but no U-Net
    text = report.tables(value, cells)
    assert "| student over the better baseline, draw by draw |  | +5.0" in text
    del cells["student"][4], cells["pixels"][4]
    text = report.tables(value, cells)
    assert "| U-Net from scratch | 72.0 ± 1.4 (4) |" in text  # of draws: .71, .73
    assert "| student over the better baseline, draw by draw | +5.0 ± 1.4 |" in text  # .04, .06
    assert "16: 0.004, 9600 (twice as many: -0.1)." in text
    assert "64 px 71.0" in text
    assert "| background | 70.00 | 90 | 90 | 90 |" in text
    report.plot(cells, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_nothing_measured_is_said() -> None:
    with pytest.raises(DganError, match="--jobs"):
        report.tables({"choices": {}}, {})


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(DganError, match=r"plot\.xyz must end in \.png"):
        report.check_plot(Path("plot.xyz"))


def test_a_missing_stand_in_is_named(tmp_path: Path) -> None:
    with pytest.raises(DganError, match="--person"):
        causes.load_person(tmp_path / "person.safetensors", CLASSES)
    write_tensors(tmp_path / "other.safetensors", {"w": torch.zeros(1)})
    with pytest.raises(DganError, match="no U-Net of 16 classes"):
        causes.load_person(tmp_path / "other.safetensors", CLASSES)
