"""Labels of samples in 16 bits: where the device has them, how near they are, and what stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend import precision
from dgan_backend.benchmark.cases import Case, compare
from dgan_backend.cli import main
from dgan_backend.factory.order import Order
from dgan_backend.generators.network import Architecture
from dgan_backend.precision import FLOAT32, Numbers, half_type, numbers_for
from dgan_backend.processor import multiplies_bfloat16
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from tests.builders import (
    tiny_config,
    tiny_network,
    tiny_segmenter,
    tiny_stylegan1_config,
    tiny_stylegan3_config,
)
from tests.factories import order

BFLOAT16 = torch.bfloat16
WITH, WITHOUT = "flags\t\t: fpu avx512f avx512_bf16 vnni\n", "flags\t\t: fpu avx512f avx512_bf16x\n"


@pytest.fixture(params=[True, False], ids=["has-it", "lacks-it"])
def has_it(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Processors that multiply bfloat16, and others; both compute with it, one of them slowly."""
    return processor(monkeypatch, bool(request.param))


def processor(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> bool:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: has_it)
    return has_it


@pytest.fixture(scope="module")
def shipped() -> Segmenter:
    return Segmenter.load("toonhead")


# Where it is had


@pytest.mark.parametrize(
    ("text", "found"),
    [(WITH, True), ("flags : amx_bf16", True), (WITHOUT, False), ("Features : bf16\n", False)],
    ids=["avx512", "amx", "another-flag", "no-x86"],
)
def test_the_processor_is_asked(tmp_path: Path, text: str, found: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : avx512_bf16\n{text}")
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is found
    assert not multiplies_bfloat16(tmp_path / "none")


def test_half_that_is_not_had_is_said(has_it: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert numbers_for("float32", "cpu") == numbers_for("auto", "cpu") == FLOAT32
    assert not caplog.messages
    assert numbers_for("half", "cpu") == (Numbers(BFLOAT16, BFLOAT16) if has_it else FLOAT32)
    said = "PRECISION=half: this processor has neither avx512_bf16 nor amx_bf16, so labels are "
    assert caplog.messages == ([] if has_it else [f"{said}computed in float32."])


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without CUDA")
def test_cuda_is_asked_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    assert half_type("cuda") is None
    assert numbers_for("half", "cuda") == FLOAT32 and "cuda has no bfloat16" in caplog.messages[0]


# How near it is


@pytest.mark.parametrize(
    "config",
    [
        tiny_stylegan1_config(128),
        tiny_config(64),
        tiny_config(64, architecture="resnet"),
        tiny_config(64, architecture="orig", conv_clamp=256.0),
        tiny_stylegan3_config(64),
    ],
    ids=["stylegan1", "skip", "resnet", "orig", "stylegan3"],
)
@torch.inference_mode()
def test_maps_of_16_bits_are_near_those_of_32(config: Architecture) -> None:
    torch.manual_seed(0)
    generator = tiny_network(config).synthesis
    w = torch.randn(2, config.num_ws, config.w_dim)
    exact, near = generator(w), generator(w, dtype=BFLOAT16)
    assert near.images.dtype == torch.float32
    assert {f.dtype for f in near.features} == {BFLOAT16}
    pairs = zip([*near.features, near.images], [*exact.features, exact.images], strict=True)
    for one, other in pairs:
        error = (one - other).norm() / (other - other.mean()).norm()
        assert 0 < error < 0.1  # StyleGAN1 divides by the deviations of few pixels
    assert torch.equal(generator(w, features=False, dtype=BFLOAT16).images, near.images)


@torch.inference_mode()
def test_the_reader_is_near_whatever_it_reads(shipped: Segmenter) -> None:
    """Tables, tiles and picked pixels: on grids coarser and finer than the maps."""
    ensemble = shipped.ensemble
    assert ensemble.as_type(torch.float32).w1 is ensemble.w1
    half = ensemble.as_type(BFLOAT16)
    assert (half.w1.dtype, half.w2.dtype, half.w3.dtype) == (BFLOAT16, BFLOAT16, torch.float32)
    z = torch.cat([shipped.generator.latent_from_seed(seed) for seed in (0, 1)])
    maps = shipped.generator.synthesis(shipped.generator.mapping(z, truncation=0.7)).features
    for side in (32, 64, 128):
        exact, near = (e.predict_all(maps, (side, side)) for e in (ensemble, half))
        for one, other in zip(near, exact, strict=True):
            assert (one.vote == other.vote).double().mean() > 0.99
            assert (one.probabilities - other.probabilities).abs().mean() < 2e-3
            assert one.uncertainty.dtype == torch.float32


def test_labels_of_half_are_nearly_those_of_float32(
    shipped: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, True)
    before = list(shipped.segment_seeds(range(16)))
    shipped.compute_in("half")
    near = list(shipped.segment_seeds(range(16)))
    shipped.compute_in("auto")  # float32, at 64 px
    after = list(shipped.segment_seeds(range(16)))
    same = np.mean([(a.labels == b.labels).mean() for a, b in zip(before, near, strict=True)])
    assert 0.995 < same < 1
    assert any((a.image != b.image).any() for a, b in zip(before, near, strict=True))
    for a, b, c in zip(before, near, after, strict=True):
        assert np.abs(a.image.astype(int) - b.image).mean() < 1
        assert np.abs(a.uncertainty - b.uncertainty).mean() < 5e-3
        assert a.score == pytest.approx(b.score, abs=0.02)
        assert np.array_equal(a.labels, c.labels) and np.array_equal(a.image, c.image)
        assert np.array_equal(a.uncertainty, c.uncertainty) and a.score == c.score


@pytest.mark.parametrize("numbers", [FLOAT32, Numbers(BFLOAT16, BFLOAT16)], ids=str)
def test_the_picture_alone_may_take_the_same_numbers(numbers: Numbers, tmp_path: Path) -> None:
    tiny_segmenter(tmp_path).save(tmp_path / "v1")
    told = compare(Case(str(tmp_path / "v1"), rounds=1, compared=2, numbers=numbers))
    kinds = {setting.split(", ")[1] for setting in told["image_settings_s"]}
    assert told["numbers"] == str(numbers) and kinds == {"float32", str(numbers)}
    assert (told["labeled_over_image"], told["agreement"]) > (0, 0.5)


# Who says so


def test_versions_are_served_as_the_setting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, True)
    settings = Settings.from_env({"PRECISION": "Half", "MODEL_DIR": str(tmp_path)})
    assert settings.precision == "half" and Settings().precision == "auto"
    found = Registry.of(settings).segmenter("toonhead-shipped")
    assert found.numbers == Numbers(BFLOAT16, BFLOAT16)
    assert str(found.numbers) == "bfloat16"
    assert str(Numbers(torch.float32, BFLOAT16)) == "maps float32, products bfloat16"


def test_an_order_of_float32_is_as_it_was() -> None:
    assert "precision" not in order().to_json()
    half = order(precision="half")
    assert Order.from_json(half.to_json()) == half and half.id != order().id


@pytest.mark.parametrize("command", ["sample", "synthesize"])
def test_commands_are_told_on_the_line(
    command: str,
    has_it: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("dgan_backend.arguments.set_up_computing", lambda: None)
    monkeypatch.setattr("dgan_backend.synthesize_command.set_up_computing", lambda: None)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    tiny_segmenter(tmp_path).save(tmp_path / "v1")
    words = {
        "sample": ["--model", tmp_path / "v1", "--out", tmp_path / "out"],
        "synthesize": ["--version", tmp_path / "v1", "--out", tmp_path / "set", "--jobs", 0],
    }[command]
    line = [command, "--count", 3, *words, "--precision", "half"]
    assert main([str(word) for word in line]) == 0
    assert any("PRECISION=half" in message for message in caplog.messages) is not has_it
    if command == "synthesize":
        order = json.loads((tmp_path / "set/card.json").read_text())["order"]
        assert order.get("precision") == ("half" if has_it else None)
