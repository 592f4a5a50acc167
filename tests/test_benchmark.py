"""The benchmark on a generator that is small enough for a test, and what it is measured against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend.benchmark import commands, report
from dgan_backend.benchmark.cases import Case, compare, invert_and_label
from dgan_backend.benchmark.clusters import border_share, kmeans
from dgan_backend.benchmark.measuring import apart, here, median, peak_bytes
from dgan_backend.benchmark.reference import (
    dense_weights,
    reference_fit,
    reference_labels,
    upsampled,
)
from dgan_backend.benchmark.scene import CLASSES, fit_masks, make_generator, make_masks
from dgan_backend.cli import main
from dgan_backend.interpreter import FitSettings
from tests.builders import tiny_config, tiny_segmenter

KEYS = {  # as whoever reads the JSON was promised
    "generator", "resolution", "image_s", "labeled_s", "labeled_exact_s", "reference_s",
    "labeled_over_image", "reference_over_labeled", "agreement", "worst_class_iou",
    "border_share", "fine_share", "peak_bytes", "reference_peak_bytes",
}  # fmt: skip
QUICK_FIT = FitSettings(members=3, pixels=300, steps=10, batch=32, directions=4)


def test_kmeans_finds_what_lies_apart() -> None:
    random = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
    points = (middles[:, None] + 0.1 * torch.randn(4, 50, 2, generator=random)).flatten(0, 1)
    for seed in range(4):
        found = kmeans(points, 4, seed)
        assert torch.cdist(middles, found).min(dim=1).values.max() < 0.1


def test_border_share_of_two_halves() -> None:
    labels = np.zeros((10, 10), dtype=np.uint8)
    labels[:, 5:] = 1
    assert border_share(labels) == pytest.approx(0.2)
    assert border_share(np.zeros((4, 4))) == 0.0


def test_the_reference_says_what_the_ensemble_says() -> None:
    generator = make_generator(tiny_config(32))
    masks = make_masks(generator, 3)
    assert masks.shape == (3, 32, 32) and masks.max() < CLASSES
    ensemble = fit_masks(generator, masks, QUICK_FIT)
    assert ensemble.bases
    with torch.inference_mode():
        z = generator.latent_from_seed(5)
        maps = generator.synthesis(generator.mapping(z, truncation=0.4)).features
        ours = ensemble.predict(maps, (32, 32))
        column = upsampled(maps, (32, 32), 20)
        theirs = reference_labels(ensemble, dense_weights(ensemble), column)
    torch.testing.assert_close(ours.probabilities[:, :20], theirs.probabilities, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.uncertainty[:20], theirs.uncertainty, atol=1e-4, rtol=0)
    assert (ours.vote[:20] == theirs.vote).double().mean() > 0.99


@pytest.mark.parametrize("rows", [1, 5, 16, 17, 32])
def test_some_rows_are_those_of_the_whole(rows: int) -> None:
    """Of maps that the grid's side is a multiple of, and of one that it is not."""
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 2, s, s, generator=random) for s in (4, 8, 16, 32, 20)]
    some, whole = upsampled(maps, (32, 32), rows), upsampled(maps, (32, 32), 32)
    torch.testing.assert_close(some, whole[:, :rows])


def test_the_original_fit_is_extrapolated_from_its_steps() -> None:
    told = reference_fit(pictures=16, size=512, features=5056, members=10, step_seconds=0.00445)
    assert told["seconds"] == pytest.approx(10 * 4 * 16 * 512 * 512 / 64 * 0.00445)
    assert told["peak_bytes"] == 16 * 512 * 512 * 5056 * 6


def test_peak_memory_is_that_of_a_process_of_its_own() -> None:
    held = np.ones(80_000_000)  # 640 MB here are not there
    found = apart(_grows, 30_000_000)
    assert 240_000_000 == found["held"] < found["peak_bytes"] < held.nbytes + 240_000_000
    assert peak_bytes() > held.nbytes
    assert median([3.0, 1.0, 2.0]) == 2.0


def _grows(count: int) -> dict[str, int]:
    return {"held": np.ones(count).nbytes}


def test_a_random_generator_is_measured(tmp_path: Path) -> None:
    plan = commands.Plan(((tiny_config(32), 2, 16),), 32, 3, (0, 0), 0, 0, QUICK_FIT, "")
    measured = commands.measure(plan, here)  # in this process, which is faster
    (case,) = measured["cases"]
    assert set(case) >= KEYS
    assert case["labeled_over_image"] == pytest.approx(case["labeled_s"] / case["image_s"])
    assert 0 < case["agreement"] <= 1 and 0 < case["fine_share"] <= 1
    assert case["reference_same"] > 0.999 and case["reference_whole"]
    assert measured["fit"]["seconds"] > 0 and measured["fit"]["peak_bytes"] > 10e6
    rows = measured["ideas"]["rows"]
    assert rows[0]["products"] > max(row["products"] for row in rows[1:]) > 0
    told = report.table(measured)
    assert "from coarse to fine" in told
    assert "random-32, 32 px" in told and "Fit on 16 pictures of 32 px" in told
    report.plot(measured, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert json.loads(json.dumps(measured)) == measured


def test_a_version_is_measured_in_batches(tmp_path: Path) -> None:
    tiny_segmenter(tmp_path).save(tmp_path / "v1")
    compared = compare(Case(str(tmp_path / "v1"), rounds=1, compared=10))
    assert compared["batch"] == 8 and compared["pictures"] == 10
    assert compared["image_setting"] in compared["image_settings_s"]
    assert compared["uncertainty_rank_correlation"] is None  # of so few
    assert 0.5 < compared["agreement"] <= 1
    told = invert_and_label(str(tmp_path / "v1"), rounds=1)
    assert told["invert_s"] > 0 and told["default_way"] == "interpreter"


def test_the_command_writes_figures_and_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dgan_backend.arguments.set_up_computing", lambda: None)
    monkeypatch.setattr(commands, "QUICK", commands.Plan((), 0, 1, (0, 0), 0, 0, QUICK_FIT, ""))
    assert main(["benchmark", "--quick", "--json", str(tmp_path / "speed.json")]) == 0
    measured = json.loads((tmp_path / "speed.json").read_text())
    assert list(measured) == ["cases", "fit", "invert", "ideas", "machine"]
    assert (tmp_path / "speed.png").exists()
    printed = capsys.readouterr().out
    assert report.table(measured) in printed and "9 s" in printed and "25 h" in printed
    assert main(["benchmark", "--plot", str(tmp_path / "speed.gif")]) == 2
