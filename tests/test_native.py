"""The native generator format, and what a broken folder says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.generators import load_generator
from dgan_backend.generators.native import CARD, WEIGHTS
from tests.builders import tiny_generator_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_generator_folder(tmp_path / "tiny")


def test_id_is_name_and_hash(folder: Path) -> None:
    generator = load_generator(folder)
    name, _, digits = generator.id.partition("-")
    assert name == "tiny"
    assert len(digits) == 8
    assert json.loads((folder / CARD).read_text())["sha256"].startswith(digits)


def test_a_seed_is_a_latent_bit_for_bit(folder: Path) -> None:
    z = load_generator(folder).latent_from_seed(7)
    wanted = np.random.RandomState(7).randn(1, 8).astype(np.float32)
    assert z.dtype == torch.float32
    assert np.array_equal(z.numpy(), wanted)
    # Written down, so that a change of numpy's legacy stream would be noticed.
    assert z[0, 0].item() == np.float32(1.690525703800356)


@torch.inference_mode()
def test_a_seed_is_a_picture(folder: Path) -> None:
    one, other = load_generator(folder), load_generator(folder)
    a = one.synthesis(one.mapping(one.latent_from_seed(3))).images
    b = other.synthesis(other.mapping(other.latent_from_seed(3))).images
    assert float((a - b).abs().max()) <= 2 / 255


def test_replaced_weights_are_noticed(folder: Path, tmp_path: Path) -> None:
    other = tiny_generator_folder(tmp_path / "other", resolution=32)
    (folder / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(DganError, match=r"generator\.safetensors has SHA-256"):
        load_generator(folder)


def _drop_card(folder: Path) -> None:
    (folder / CARD).unlink()


def _truncate(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])


def _break_json(folder: Path) -> None:
    (folder / CARD).write_text("{")


def _other_format(folder: Path) -> None:
    (folder / CARD).write_text('{"format": "gan 9"}')


def _drop_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _change_key(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    del card["architecture"]
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_card, "no card.json"),
        (_truncate, "cut short"),
        (_break_json, "not JSON"),
        (_other_format, "'gan 9'"),
        (_drop_weights, "missing"),
        (_change_key, "architecture"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_broken_folders_say_what_is_wrong(folder: Path, spoil, message: str) -> None:
    spoil(folder)
    with pytest.raises(DganError, match=message):
        load_generator(folder)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(DganError, match="There is no generator 'horse'"):
        load_generator("horse")
