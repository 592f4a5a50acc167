"""StyleGAN2 against tensors of the reference implementation (tests/data/conformance)."""

from __future__ import annotations

import json

import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from tests.builders import tiny_config
from tests.conformance import Reference, assert_near, read_card, sets

SETS = sets("sg2ada_*")


def _config(value: dict) -> StyleGAN2Config:
    init, mapping = value["init_kwargs"], value["init_kwargs"]["mapping_kwargs"]
    synthesis = init["synthesis_kwargs"]
    return StyleGAN2Config(
        resolution=init["img_resolution"],
        img_channels=init["img_channels"],
        z_dim=init["z_dim"],
        c_dim=init["c_dim"],
        w_dim=init["w_dim"],
        mapping_layers=mapping["num_layers"],
        mapping_features=mapping.get("layer_features"),
        mapping_lr_multiplier=mapping.get("lr_multiplier", 0.01),
        channel_base=synthesis["channel_base"],
        channel_max=synthesis["channel_max"],
        architecture=synthesis.get("architecture", "skip"),
        conv_clamp=synthesis.get("conv_clamp"),
        resample_filter=tuple(synthesis.get("resample_filter", (1, 3, 3, 1))),
    )


@pytest.fixture(scope="module", params=SETS)
def reference(request: pytest.FixtureRequest) -> Reference:
    card = read_card(request.param)
    return Reference(request.param, StyleGAN2(_config(card)))


def test_every_set_is_here() -> None:
    assert len(SETS) == 5


def test_mapping(reference: Reference) -> None:
    reference.assert_mapping()


@torch.inference_mode()
def test_truncation(reference: Reference) -> None:
    io, mapping = reference.io, reference.network.mapping
    all_rows = mapping(io["z"], reference.c, truncation=0.7)
    assert torch.allclose(all_rows[:, 0], io["w_trunc_psi0_7"], atol=2e-5, rtol=0)
    first = None if reference.c is None else reference.c[:1]
    cut = mapping(io["z"][:1], first, truncation=0.5, truncation_cutoff=4)
    assert torch.allclose(cut, io["w_trunc_psi0_5_cutoff4"], atol=2e-5, rtol=0)


def test_images(reference: Reference) -> None:
    images, io = reference.out.images, reference.io
    if "img" in io:
        assert_near(images, io["img"], "img")
    else:
        assert_near(images[:1], io["img_seed0"], "img_seed0")
        assert_near(images[:, :, ::4, ::4], io["img_sub4"], "img_sub4")


@torch.inference_mode()
def test_truncated_images(reference: Reference) -> None:
    io, network = reference.io, reference.network
    images = network.synthesis(network.mapping(io["z"], reference.c, truncation=0.7)).images
    if "img_trunc_psi0_7" in io:
        assert_near(images, io["img_trunc_psi0_7"], "truncated")
    else:
        assert_near(images[:, :, ::4, ::4], io["img_trunc_psi0_7_sub4"], "truncated")


@torch.inference_mode()
def test_images_without_noise(reference: Reference) -> None:
    io = reference.io
    images = reference.network.synthesis(reference.w[:1], use_noise=False).images
    if "img_noise_none_seed0" in io:
        assert_near(images, io["img_noise_none_seed0"], "no noise")
    else:
        assert_near(images[:, :, ::4, ::4], io["img_noise_none_sub4"][:1], "no noise")


@torch.inference_mode()
def test_style_mixing(reference: Reference) -> None:
    mixed = reference.mixed(0, 2, 3)
    images, wanted = reference.network.synthesis(mixed).images, reference.io["img_mix3"]
    stride = images.shape[-1] // wanted.shape[-1]  # 4 in the 256 px set
    assert_near(images[:, :, ::stride, ::stride], wanted, "mixed styles")


def test_features_are_every_conv_coarse_to_fine(reference: Reference) -> None:
    out, io = reference.out, reference.io
    convs = [name for name in reference.card["features"] if ".conv" in name]
    assert out.feature_names == convs == reference.network.synthesis.feature_names
    channels = [feature.shape[1] for feature in out.features]
    assert channels == reference.network.synthesis.feature_channels
    for name, feature in zip(out.feature_names, out.features, strict=True):
        if f"feat/{name}" in io:
            assert_near(feature, io[f"feat/{name}"], name)
        stride = max(1, feature.shape[-1] // 4)
        assert_near(feature[:2, :, ::stride, ::stride], io[f"sub/{name}"], name)


@torch.inference_mode()
def test_batch_and_single_agree() -> None:
    network = StyleGAN2(tiny_config()).eval()
    w = network.mapping(torch.randn(4, 8))
    together = network.synthesis(w).images
    alone = torch.cat([network.synthesis(row[None]).images for row in w])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"resolution": 48}, {"resolution": 4}, {"architecture": "skipp"}, {"channels": (8, 8)}],
    ids=str,
)
def test_impossible_architectures_are_refused(changes: dict) -> None:
    with pytest.raises(DganError):
        tiny_config(**{"resolution": 16, **changes})


def test_wrong_shapes_are_refused() -> None:
    network = StyleGAN2(tiny_config(c_dim=2))
    with pytest.raises(ValueError, match=r"z must be \[N, 8\]"):
        network.mapping(torch.zeros(1, 9))
    with pytest.raises(ValueError, match="conditional"):
        network.mapping(torch.zeros(1, 8))
    with pytest.raises(ValueError, match="w must be"):
        network.synthesis(torch.zeros(1, 3, 8))


def test_config_survives_json() -> None:
    config = tiny_config(channels=(8, 8, 4), conv_clamp=3.0, resample_filter=(1, 2, 1))
    assert StyleGAN2Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(DganError, match="colour"):
        StyleGAN2Config.from_json({"resolution": 16, "colour": 1})
