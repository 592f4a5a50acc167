"""The benchmark on a generator that is small enough for a test, and what it is measured against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend.benchmark import commands, report
from dgan_backend.benchmark.clusters import border_share, kmeans
from dgan_backend.benchmark.measuring import apart, median, peak_bytes
from dgan_backend.benchmark.reference import dense_weights, reference_fit, reference_labels
from dgan_backend.benchmark.scene import CLASSES, fit_masks, make_generator, make_masks
from dgan_backend.cli import main
from dgan_backend.interpreter import FitSettings
from tests.builders import tiny_config

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
        theirs = reference_labels(ensemble, dense_weights(ensemble), maps, (32, 32), 20)
    torch.testing.assert_close(ours.probabilities[:, :20], theirs.probabilities, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.uncertainty[:20], theirs.uncertainty, atol=1e-4, rtol=0)
    assert (ours.vote[:20] == theirs.vote).double().mean() > 0.99


def test_the_original_fit_is_extrapolated_from_its_steps() -> None:
    told = reference_fit(pictures=16, size=512, features=5056, members=10, step_seconds=0.00445)
    assert told["seconds"] == pytest.approx(10 * 4 * 16 * 512 * 512 / 64 * 0.00445)
    assert told["peak_bytes"] == 16 * 512 * 512 * 5056 * 6


def test_peak_memory_is_that_of_a_process_of_its_own() -> None:
    held = np.ones(80_000_000)  # 640 MB here are not there
    found = apart(_grows, 30_000_000)
    assert found["held"] == 240_000_000
    assert found["held"] < found["peak_bytes"] < held.nbytes + 240_000_000
    assert peak_bytes() > held.nbytes
    assert median([3.0, 1.0, 2.0]) == 2.0


def _grows(count: int) -> dict[str, int]:
    return {"held": np.ones(count).nbytes}


@pytest.mark.timeout(300)
def test_the_quick_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dgan_backend.arguments.set_up_computing", lambda: None)
    out = tmp_path / "speed.json"
    assert main(["benchmark", "--quick", "--json", str(out)]) == 0
    measured = json.loads(out.read_text())
    assert set(measured) == {"cases", "fit", "invert", "machine"}
    assert [case["resolution"] for case in measured["cases"]] == [64, 64]
    for case in measured["cases"]:
        assert set(commands.KEYS) <= set(case)
        assert case["labeled_over_image"] == pytest.approx(case["labeled_s"] / case["image_s"])
        assert 0.9 < case["agreement"] <= 1
        assert 0 < case["fine_share"] <= 1
        assert case["reference_same"] > 0.999
    assert measured["fit"]["seconds"] > 0
    assert measured["invert"]["invert_s"] > 0
    assert (tmp_path / "speed.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert report.table(measured) in printed
    assert "9 s" in printed and "25 h" in printed
