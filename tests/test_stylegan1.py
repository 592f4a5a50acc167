"""StyleGAN1 against tensors of the port that DatasetGAN reads (tests/data/conformance)."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators.stylegan1 import Conv, StyleGAN1, StyleGAN1Config, SynthesisNetwork
from tests.builders import tiny_stylegan1_config
from tests.conformance import Reference, assert_near, read_card, read_weights

NAME = "sg1port_128"
IMAGES_WITHIN = 3e-4


def _config() -> StyleGAN1Config:
    init = read_card(NAME)["init_kwargs"]
    return StyleGAN1Config(
        resolution=init["resolution"],
        z_dim=init["dlatent_size"],
        w_dim=init["dlatent_size"],
        mapping_layers=init["mapping_layers"],
        channel_base=2 * init["fmap_base"],
        channel_max=init["fmap_max"],
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    """The port has no noise buffers: what it was given stands beside the outputs."""
    found = Reference(NAME, StyleGAN1(_config()))
    noises = {k.removeprefix("noise/"): v for k, v in found.io.items() if k.startswith("noise/")}
    assert len(noises) == 12
    named = {
        f"g_synthesis.blocks.{name}.top_epi.noise.noise_const": noise[0, 0]
        for name, noise in noises.items()
    }
    return Reference(NAME, StyleGAN1(_config()), {**read_weights(NAME), **named})


def test_mapping(reference: Reference) -> None:
    reference.assert_mapping()


@torch.inference_mode()
def test_the_first_rows_are_truncated(reference: Reference) -> None:
    io, mapping = reference.io, reference.network.mapping
    found = mapping(io["z"], truncation=0.7)
    assert torch.allclose(found, io["w_trunc_psi0_7"], atol=2e-5, rtol=0)
    assert torch.equal(found[:, 7:], reference.w[:, 7:])
    assert torch.equal(mapping(io["z"], truncation=0.7, truncation_cutoff=7), found)
    other = mapping(io["z"], truncation=0.7, truncation_cutoff=3)
    assert torch.equal(other[:, :3], found[:, :3])
    assert torch.equal(other[:, 3:], reference.w[:, 3:])


@pytest.mark.parametrize(("resolution", "rows"), [(128, 7), (256, 7), (512, 8), (1024, 8)])
def test_larger_pictures_have_one_truncated_row_more(resolution: int, rows: int) -> None:
    assert StyleGAN1Config(resolution).truncated_rows == rows
    assert StyleGAN1Config(resolution, truncation_cutoff=4).truncated_rows == 4


@pytest.mark.parametrize(("resolution", "count"), [(256, 4992), (512, 5056), (1024, 5088)])
def test_pixels_have_as_many_features_as_datasetgan_says(resolution: int, count: int) -> None:
    with torch.device("meta"):
        synthesis = SynthesisNetwork(StyleGAN1Config(resolution))
    assert sum(synthesis.feature_channels) == count


def test_images(reference: Reference) -> None:
    images, io = reference.out.images, reference.io
    assert_near(images[:2], io["img"], "img", IMAGES_WITHIN)
    assert_near(images[:, :, ::4, ::4], io["img_sub4"], "img_sub4", IMAGES_WITHIN)


@torch.inference_mode()
def test_truncated_images(reference: Reference) -> None:
    w = reference.network.mapping(reference.io["z"][:1], truncation=0.7)
    images = reference.network.synthesis(w).images
    assert_near(images, reference.io["img_trunc_psi0_7_seed0"], "truncated", IMAGES_WITHIN)


def test_features_are_two_maps_a_block(reference: Reference) -> None:
    out, io = reference.out, reference.io
    wanted = [name for name in reference.card["features"] if not name.endswith("epi1")]
    assert out.feature_names == wanted == reference.network.synthesis.feature_names
    channels = [feature.shape[1] for feature in out.features]
    assert channels == reference.network.synthesis.feature_channels
    for name, feature in zip(out.feature_names, out.features, strict=True):
        assert list(feature.shape) == reference.card["features"][name]["shape"]
        reference.assert_strided(name, feature, parts=4)
        if f"feat/{name}" in io:
            assert_near(feature, io[f"feat/{name}"], name)


@torch.inference_mode()
def test_the_first_conv_of_a_block(reference: Reference) -> None:
    """Both ways of upsampling on their own: what epi1 makes of them is in the set."""
    found: dict[str, Tensor] = {}
    blocks = reference.network.synthesis.blocks
    hooks = [
        block.epi1.register_forward_hook(lambda _m, _i, out, r=r: found.update({r: out}))
        for r, block in blocks.items()
    ]
    reference.network.synthesis(reference.w)
    for hook in hooks:
        hook.remove()
    for r, output in found.items():
        reference.assert_strided(f"{r}.epi1", output, parts=4)


@torch.inference_mode()
def test_a_row_speaks_to_its_own_layer(reference: Reference) -> None:
    """Style mixing: with another's rows from 2k + 1 on, maps before the last of block k stay."""
    out = reference.network.synthesis(reference.mixed(0, 2, rows=5))
    for name, mixed, own in zip(
        out.feature_names, out.features, reference.out.features, strict=True
    ):
        before = name in ("4x4.post_adain", "4x4.pre_epilogue", "8x8.post_adain",
                          "8x8.pre_epilogue", "16x16.pre_epilogue")  # fmt: skip
        assert torch.allclose(mixed[0], own[0], atol=1e-4) == before, name


@torch.inference_mode()
def test_noise_can_be_left_out_and_is_fixed(reference: Reference) -> None:
    synthesis = reference.network.synthesis
    again = synthesis(reference.w[:1]).images
    silent = synthesis(reference.w[:1], use_noise=False).images
    assert torch.equal(again, synthesis(reference.w[:1]).images)
    assert float((silent - again).abs().max()) > 0.5
    for block in synthesis.blocks.values():  # no noise is what noise of strength 0 is
        for epilogue in (block.epi1, block.epi2):
            epilogue.top_epi["noise"].noise_const.zero_()
    assert torch.equal(silent, synthesis(reference.w[:1]).images)


@pytest.mark.parametrize(("resolution", "agree"), [(64, False), (128, True)])
def test_upsampling_is_part_of_the_convolution_from_128_px(resolution: int, agree: bool) -> None:
    """Against the definition: zeros between samples, then the kernel at four shifts."""
    torch.manual_seed(0)
    conv = Conv(3, 2, up=resolution)
    x = torch.randn(1, 3, 6, 6)
    shifts = sum(
        torch.nn.functional.pad(conv.weight, (dx, 1 - dx, dy, 1 - dy))
        for dx in (0, 1)
        for dy in (0, 1)
    )
    spread = torch.zeros(1, 3, 12, 12)
    spread[:, :, ::2, ::2] = x
    whole = torch.nn.functional.pad(spread, (2, 1, 2, 1))
    wanted = torch.nn.functional.conv2d(whole, shifts.flip(2, 3) * conv.weight_gain)
    with torch.no_grad():
        found = conv(x)
        wanted = conv.intermediate(wanted) + conv.bias[:, None, None]
    assert torch.allclose(found, wanted, atol=1e-5) == agree


def test_files_without_noise_and_average_get_both_from_seeds() -> None:
    weights = read_weights(NAME)
    del weights["truncation.avg_latent"]
    one, other = StyleGAN1(_config()), StyleGAN1(_config())
    one.load_tensors(weights)
    other.load_tensors(weights)
    z = torch.randn(2000, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        pictures = [n.synthesis(n.mapping(z[:1], truncation=0.5)).images for n in (one, other)]
        mean = one.mapping(z).mean(dim=(0, 1))
    assert torch.equal(*pictures)
    assert torch.allclose(one.truncation.avg_latent, mean.expand(12, -1), atol=0.1)


def test_wrong_files_are_told() -> None:
    weights = read_weights(NAME)
    kernel = weights.pop("g_synthesis.blocks.8x8.conv0_up.intermediate.kernel")
    assert torch.equal(
        kernel, StyleGAN1(_config()).state_dict()[
            "g_synthesis.blocks.8x8.conv0_up.intermediate.kernel"
        ]
    )  # fmt: skip
    network = StyleGAN1(_config())
    network.load_tensors(weights)
    with pytest.raises(DganError, match=r"misses tensors: g_mapping\.dense0\.bias"):
        network.load_tensors({k: v for k, v in weights.items() if k != "g_mapping.dense0.bias"})
    with pytest.raises(DganError, match="unknown tensors: horse"):
        network.load_tensors({**weights, "horse": torch.zeros(1)})
    with pytest.raises(DganError, match=r"avg_latent is \[18, 64\]"):
        network.load_tensors({**weights, "truncation.avg_latent": torch.zeros(18, 64)})


def test_wrong_shapes_and_classes_are_refused() -> None:
    network = StyleGAN1(tiny_stylegan1_config())
    with pytest.raises(ValueError, match=r"z must be \[N, 8\]"):
        network.mapping(torch.zeros(1, 9))
    with pytest.raises(ValueError, match="w must be"):
        network.synthesis(torch.zeros(1, 3, 8))
    with pytest.raises(DganError, match="classes"):
        StyleGAN1Config(16, c_dim=2)
    with pytest.raises(DganError, match="power of two"):
        StyleGAN1Config(384)


def test_config_survives_json() -> None:
    config = StyleGAN1Config(64, truncation_cutoff=3, channel_max=32)
    assert StyleGAN1Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(DganError, match="channels"):
        StyleGAN1Config.from_json({"resolution": 16, "channels": [8]})
