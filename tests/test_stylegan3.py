"""StyleGAN3-T and -R against tensors of the reference implementation (tests/data/conformance)."""

from __future__ import annotations

import json
import math

import pytest
import torch

from dgan_backend.errors import DganError
from dgan_backend.generators.stylegan3 import StyleGAN3, StyleGAN3Config
from tests.builders import tiny_stylegan3_config
from tests.conformance import Reference, assert_near, read_card, read_weights, sets

SETS = sets("sg3?_64")
IMAGES_WITHIN = 5e-6


def _config(name: str) -> StyleGAN3Config:
    init = read_card(name)["init_kwargs"]
    return StyleGAN3Config(
        resolution=init["img_resolution"],
        img_channels=init["img_channels"],
        z_dim=init["z_dim"],
        c_dim=init["c_dim"],
        w_dim=init["w_dim"],
        mapping_layers=init["mapping_kwargs"]["num_layers"],
        channel_base=init["channel_base"],
        channel_max=init["channel_max"],
        conv_kernel=init.get("conv_kernel", 3),
        radial_filters=init.get("use_radial_filters", False),
    )


@pytest.fixture(scope="module", params=SETS)
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param, StyleGAN3(_config(request.param)))


def test_both_configurations_are_here() -> None:
    assert SETS == ["sg3r_64", "sg3t_64"]


def test_mapping(reference: Reference) -> None:
    reference.assert_mapping()


@torch.inference_mode()
def test_truncation(reference: Reference) -> None:
    io, mapping = reference.io, reference.network.mapping
    all_rows = mapping(io["z"], truncation=0.7)
    assert torch.allclose(all_rows[:, 0], io["w_trunc_psi0_7"], atol=2e-5, rtol=0)
    assert torch.equal(all_rows[:, 0], all_rows[:, -1])
    cut = mapping(io["z"], truncation=0.7, truncation_cutoff=4)
    assert torch.equal(cut[:, :4], all_rows[:, :4])
    assert torch.equal(cut[:, 4:], reference.w[:, 4:])


def test_images(reference: Reference) -> None:
    assert_near(reference.out.images, reference.io["img"], "img", IMAGES_WITHIN)


@torch.inference_mode()
def test_truncated_images(reference: Reference) -> None:
    network, io = reference.network, reference.io
    images = network.synthesis(network.mapping(io["z"], truncation=0.7)).images
    assert_near(images, io["img_trunc_psi0_7"], "truncated", IMAGES_WITHIN)


@torch.inference_mode()
def test_there_is_no_noise_to_leave_out(reference: Reference) -> None:
    silent = reference.network.synthesis(reference.w[:1], use_noise=False).images
    assert_near(silent, reference.io["img"][:1], "no noise", IMAGES_WITHIN)


@torch.inference_mode()
def test_a_users_transform(reference: Reference) -> None:
    transform = reference.network.synthesis.input.transform
    transform.copy_(reference.io["user_transform"])
    images = reference.network.synthesis(reference.w[:1]).images
    transform.copy_(torch.eye(3))
    wanted = reference.io["img_user_transform_seed0"]
    assert_near(images, wanted, "transformed", IMAGES_WITHIN)


@torch.inference_mode()
def test_waves_above_the_band_fade_out(reference: Reference) -> None:
    source = reference.network.synthesis.input
    source.transform.copy_(torch.diag(torch.tensor([8.0, 8.0, 1.0])))
    strengths = source._strengths(source.freqs[None] @ source.transform[:2, :2])
    source.transform.copy_(torch.diag(torch.tensor([1e4, 1e4, 1.0])))
    nothing = source(reference.w[:1, 0])
    source.transform.copy_(torch.eye(3))
    assert not nothing.any()
    lifted = source.freqs.norm(dim=1) * 8
    assert torch.equal(strengths[0] == 0, lifted >= 8)  # half of 16 samples a side
    assert torch.equal(strengths[0] == 1, lifted <= 2)  # the first cutoff


@torch.inference_mode()
def test_the_input_is_waves(reference: Reference) -> None:
    found = reference.network.synthesis.input(reference.w[:2, 0])
    assert_near(found, reference.io["feat/input"], "input")


@torch.inference_mode()
def test_every_layer_with_its_margin(reference: Reference) -> None:
    names, io = reference.card["layer_names"], reference.io
    assert reference.network.config.layer_names == names
    for name, canvas in zip(names, reference.network.synthesis.canvases(reference.w), strict=True):
        assert list(canvas.shape) == reference.card["features"][name]["shape"]
        reference.assert_strided(name, canvas, parts=6)
        if f"feat/{name}" in io:
            assert_near(canvas[: len(io[f"feat/{name}"])], io[f"feat/{name}"], name)


def test_features_are_every_layer_cut_to_the_picture(reference: Reference) -> None:
    out, synthesis = reference.out, reference.network.synthesis
    assert out.feature_names == reference.card["layer_names"][:-1] == synthesis.feature_names
    assert [f.shape[1] for f in out.features] == synthesis.feature_channels
    assert [f.shape[2] for f in out.features] == [16] * 4 + [32] * 4 + [64] * 6
    whole = reference.io["feat/L3_36_32"]
    assert_near(out.features[3][:1], whole[:, :, 10:26, 10:26], "the middle 16 of 36")


@torch.inference_mode()
def test_feature_maps_lie_on_the_picture(reference: Reference) -> None:
    """What a feature map shows moves as far as the picture does: of a picture moved by a quarter
    of its side, each map is moved by a quarter of its own."""
    synthesis = reference.network.synthesis
    move = torch.eye(3)
    move[0, 2] = 0.25  # each place is taken from a quarter to its right
    synthesis.input.transform.copy_(move)
    moved = synthesis(reference.w[:1])
    synthesis.input.transform.copy_(torch.eye(3))
    for name, now, before in zip(
        moved.feature_names, moved.features, reference.out.features, strict=True
    ):
        quarter = now.shape[3] // 4
        there, here = before[:1, :, :, quarter:], now[:, :, :, : 3 * quarter]
        error = (there - here).square().mean() / there.var()
        assert float(error) < 1e-5, name


@torch.inference_mode()
def test_the_middle_of_every_map_is_the_middle_of_the_picture() -> None:
    """Of a picture turned by half, R's maps are turned by half, since its kernels have no sides."""
    synthesis = StyleGAN3(_config("sg3r_64"))
    synthesis.load_tensors(read_weights("sg3r_64"))
    w = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(0))
    before = synthesis.synthesis(w)
    synthesis.synthesis.input.transform.copy_(torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
    turned = synthesis.synthesis(w)
    assert torch.allclose(turned.images.flip(2, 3), before.images, atol=1e-4)
    for name, now, then in zip(before.feature_names, turned.features, before.features, strict=True):
        assert torch.allclose(now.flip(2, 3), then, atol=1e-3), name


@torch.inference_mode()
def test_style_mixing(reference: Reference) -> None:
    """A row speaks to its own layer: with another's rows from 6 on, layers 0 to 4 stay."""
    mixed = list(reference.network.synthesis.canvases(reference.mixed(0, 2, rows=6)))
    own = list(reference.network.synthesis.canvases(reference.w[:1]))
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(mixed, own, strict=True)]
    assert same == [True] * 5 + [False] * 10


def test_new_networks_have_the_filters_of_published_ones(reference: Reference) -> None:
    """So that a filter is designed as the reference designs it, radial ones too."""
    new = StyleGAN3(reference.network.config).state_dict()
    weights = read_weights(reference.card["name"])
    filters = [name for name in weights if name.endswith("_filter")]
    assert len(filters) == 28
    for name in filters:
        assert torch.allclose(new[name], weights[name], atol=1e-7, rtol=0), name


def test_filters_are_read_from_the_file() -> None:
    weights = read_weights("sg3t_64")
    network = StyleGAN3(_config("sg3t_64"))
    name = "synthesis.L0_36_32.up_filter"
    weights[name] = weights[name] * 2
    network.load_tensors(weights)
    assert torch.equal(network.state_dict()[name], weights[name])
    with pytest.raises(DganError, match=r"misses tensors: synthesis\.L0_36_32\.up_filter"):
        network.load_tensors({k: v for k, v in weights.items() if k != name})
    with pytest.raises(DganError, match=r"down_filter is \[12, 12\], but the card says \[12\]"):
        network.load_tensors(read_weights("sg3r_64"))


def test_layers_of_published_sizes() -> None:
    """The layer names in checkpoints of FFHQ-U at 256 px and FFHQ at 1024 px, configuration T."""
    small = StyleGAN3Config(256, channel_base=32768).layer_names
    assert small[:3] == ["L0_36_512", "L1_36_512", "L2_36_512"]
    assert small[-3:] == ["L12_276_128", "L13_256_128", "L14_256_3"]
    large = StyleGAN3Config(1024, channel_base=32768).layer_names
    assert large == [
        "L0_36_512", "L1_36_512", "L2_52_512", "L3_52_512", "L4_84_512", "L5_148_512",
        "L6_148_512", "L7_276_323", "L8_276_203", "L9_532_128", "L10_1044_81", "L11_1044_51",
        "L12_1044_32", "L13_1024_32", "L14_1024_3",
    ]  # fmt: skip


@torch.inference_mode()
def test_a_new_network_makes_pictures_of_a_sane_spread() -> None:
    torch.manual_seed(0)
    network = StyleGAN3(tiny_stylegan3_config(c_dim=3)).eval()
    c = torch.eye(3)[:2]
    out = network.synthesis(network.mapping(torch.randn(2, 8), c))
    assert out.images.shape == (2, 3, 16, 16)
    assert all(0.05 < float(f.std()) < 20 for f in out.features)
    assert all(math.isfinite(float(f.sum())) for f in out.features)


@pytest.mark.parametrize(
    "changes",
    [
        {"resolution": 48},
        {"critical": 0},
        {"critical": 6},
        {"conv_kernel": 2},
        {"filter_size": 5},
        {"first_cutoff": 8.0},
    ],
    ids=str,
)
def test_impossible_architectures_are_refused(changes: dict) -> None:
    with pytest.raises(DganError):
        tiny_stylegan3_config(**{"resolution": 16, **changes})


def test_config_survives_json() -> None:
    config = tiny_stylegan3_config(conv_kernel=1, radial_filters=True)
    assert config.bands  # what was worked out is not written
    assert StyleGAN3Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(DganError, match="architecture"):
        StyleGAN3Config.from_json({"resolution": 16, "architecture": "skip"})
