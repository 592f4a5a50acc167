"""Generators of every family: from the file to the segmentation of a sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.generators import load_generator
from dgan_backend.generators.families import FAMILIES, family_name
from dgan_backend.generators.native import CARD, WEIGHTS, labels_of, read_tensors, save_generator
from dgan_backend.generators.network import Architecture
from dgan_backend.inversion.invert import InversionSettings, invert
from dgan_backend.inversion.native import load_encoder
from dgan_backend.reading import feature_maps
from dgan_backend.segmenter import Segmenter
from tests.builders import (
    QUICK,
    labeled_pictures,
    tiny_config,
    tiny_generator_folder,
    tiny_network,
    tiny_stylegan1_config,
    tiny_stylegan3_config,
)

CONFIGS = {
    "stylegan1": tiny_stylegan1_config(),
    "stylegan2": tiny_config(16),
    "stylegan3": tiny_stylegan3_config(16),
    "stylegan3-r": tiny_stylegan3_config(16, conv_kernel=1, radial_filters=True),
}


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = CONFIGS[request.param]
    return tiny_generator_folder(tmp_path_factory.mktemp(request.param) / "tiny", config=config)


def test_every_family_is_tried_here() -> None:
    assert {family_name(config) for config in CONFIGS.values()} == set(FAMILIES)


def test_a_folder_keeps_what_it_is(folder: Path) -> None:
    generator = load_generator(folder)
    card = json.loads((folder / CARD).read_text())
    assert card["family"] == family_name(generator.config)
    assert type(generator.network) is FAMILIES[card["family"]].network
    assert generator.config in CONFIGS.values()
    assert (generator.resolution, generator.z_dim, generator.w_dim) == (16, 8, 8)
    assert generator.device == torch.device("cpu")
    assert not generator.training
    assert not any(p.requires_grad for p in generator.parameters())


@torch.inference_mode()
def test_a_seed_is_its_picture_and_maps(folder: Path) -> None:
    generator, again = load_generator(folder), load_generator(folder)
    w = generator.mapping(generator.latent_from_seed(3), truncation=0.7)
    assert w.shape == (1, generator.num_ws, 8)
    out = generator.synthesis(w)
    other = again.synthesis(again.mapping(again.latent_from_seed(3), truncation=0.7))
    assert out.images.shape == (1, 3, 16, 16)
    assert torch.equal(out.images, other.images)
    assert [f.shape[1] for f in out.features] == generator.synthesis.feature_channels
    assert len(out.feature_names) == len(out.features)
    assert all(f.shape[2] == f.shape[3] <= 16 for f in out.features)


@torch.inference_mode()
def test_what_is_stored_is_what_was_made(tmp_path: Path) -> None:
    """In float16, but for what is too sensitive; noise and average latent are stored."""
    torch.manual_seed(0)
    for network in map(tiny_network, (tiny_stylegan1_config(), tiny_stylegan3_config())):
        folder = tmp_path / family_name(network.config)
        save_generator(folder, "made", network)
        generator = load_generator(folder)
        z = generator.latent_from_seed(0)
        made = network.synthesis(network.mapping(z, None, 0.5)).images
        kept = generator.synthesis(generator.mapping(z, truncation=0.5)).images
        assert float((made - kept).abs().max()) < 2e-2 * float(made.abs().max())
    state = read_tensors(folder / WEIGHTS)
    assert state["synthesis.input.freqs"].dtype == torch.float32
    assert state["synthesis.input.weight"].dtype == torch.float16


def test_a_sample_and_a_picture_are_segmented(folder: Path) -> None:
    """Two labeled pictures are inverted, the interpreter is fitted on their maps."""
    images, masks = labeled_pictures(classes=16)
    fitted = Segmenter.fit(folder, images, masks, "toonhead", version="toonhead-tiny", plan=QUICK)
    found = fitted.segment_seed(5)
    again = fitted.segment_seed(5)
    assert found.image.shape == (16, 16, 3)
    assert found.labels.shape == (16, 16)
    assert np.array_equal(found.labels, again.labels)
    assert np.array_equal(found.image, again.image)
    outside = fitted.segment_image(np.zeros((20, 30, 3), np.uint8))
    assert outside.labels.shape == (20, 30)
    generator = fitted.generator
    w = generator.mapping(generator.latent_from_seed(5), truncation=fitted.truncation)
    channels = sum(f.shape[1] for f in feature_maps(generator, w, "generator"))
    assert fitted.ensemble.num_features == channels


def test_inversion_steps_come_nearer(folder: Path) -> None:
    """Gradients reach every row that the picture follows from."""
    generator, (encoder, _) = load_generator(folder), load_encoder(folder)
    with torch.no_grad():
        w = generator.mapping(generator.latent_from_seed(1))
        target = generator.synthesis(w).images.clamp(-1, 1)
    guess, better = (
        invert(generator, encoder, target, InversionSettings(steps=steps, stay=0.0))
        for steps in (0, 40)
    )
    assert float(better.errors) < 0.8 * float(guess.errors)
    moved = (better.w - guess.w).abs().amax(dim=(0, 2))
    assert (moved > 0).all()


@pytest.mark.parametrize("family", ["stylegan9", None, ["stylegan2"]], ids=str)
def test_an_unknown_family_is_named(tmp_path: Path, family: object) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "family": family}))
    with pytest.raises(DganError, match=r"card\.json: .*(stylegan9|None|list)"):
        load_generator(folder)


def test_numbers_of_another_family_are_named(tmp_path: Path) -> None:
    folder = tiny_generator_folder(tmp_path / "tiny")
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "family": "stylegan1"}))
    with pytest.raises(DganError, match=r"card\.json: unknown architecture numbers: architecture"):
        load_generator(folder)


def _conditional() -> list[Architecture]:
    return [tiny_config(16, c_dim=3), tiny_stylegan3_config(16, c_dim=3)]


@torch.inference_mode()
@pytest.mark.parametrize("config", _conditional(), ids=lambda c: type(c).__name__)
def test_a_conditional_generator_draws_the_class_from_the_latent(
    tmp_path: Path, config: Architecture
) -> None:
    generator = load_generator(tiny_generator_folder(tmp_path / "tiny", config=config))
    z = torch.cat([generator.latent_from_seed(seed) for seed in range(300)])
    c = labels_of(z, 3)
    w = generator.mapping(z)
    assert torch.equal(w, generator.mapping(z, c))
    assert torch.equal(labels_of(z[7:8], 3), c[7:8])  # whatever it is drawn beside
    assert not torch.allclose(w[:1], generator.mapping(z[:1], c[:1].roll(1, dims=1)))
    assert (c.sum(dim=0) > 75).all()
    # Written down, so that a change would be noticed: the class is part of what a seed means.
    assert c[:8].argmax(dim=1).tolist() == [1, 1, 1, 1, 2, 2, 0, 0]
