"""The door for generators of other projects: what comes in gives the reference's pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dgan_backend.cli import _parser, main
from dgan_backend.errors import DganError
from dgan_backend.generators import Generator, load_generator
from dgan_backend.generators.checkpoints import KEPT, import_generator, read_foreign
from dgan_backend.generators.foreign.nvidia import LICENCE
from dgan_backend.generators.native import CARD, read_card
from dgan_backend.generators.references import generator_folder
from dgan_backend.generators.stylegan1 import StyleGAN1
from dgan_backend.workbench import sample
from tests.builders import tiny_stylegan3_config
from tests.pickled import (
    DATA,
    EasyDict,
    Network,
    ada_attributes,
    ada_pickle,
    conformance,
    recorded,
    small_stylegan3,
    small_tensors,
    stylegan3_attributes,
    tf_pickle,
    torch_saved,
    training_checkpoint,
    written,
)

ADA = sorted(path.stem for path in DATA.glob("sg2ada_*.json"))


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def _near(found: Tensor, wanted: Tensor) -> None:
    """The acceptance that comes with the sets: 1e-4 * max(1, absmax / 10)."""
    assert found.shape == wanted.shape
    bound = 1e-4 * max(1.0, float(wanted.abs().max()) / 10)
    assert float((found - wanted).abs().max()) <= bound


@torch.inference_mode()
def _gives(generator: Generator, io: dict[str, Tensor], label: int | None = None) -> None:
    """The w, truncated w and pictures of a conformance set; of one class where it has classes."""
    rows = torch.ones(len(io["z"]), dtype=torch.bool)
    if label is not None:
        rows = io["c"].argmax(dim=1) == label
        assert rows.any()
    if "img" not in io:  # of the large set one picture is enough
        rows[1:] = False
    w = generator.mapping(io["z"])
    near = generator.mapping(io["z"], truncation=0.7)[:, 0]
    assert torch.allclose(w[rows, 0], io["w"][rows], atol=2e-5, rtol=0)
    assert torch.allclose(near[rows], io["w_trunc_psi0_7"][rows], atol=2e-5, rtol=0)
    images, wanted, step = generator.synthesis(w[rows]).images, io.get("img"), 1
    if wanted is None:
        wanted, step = io["img_sub4"], 4
    channels = 3 if wanted.shape[1] == 1 else 1
    _near(images[:, :, ::step, ::step], wanted[rows].repeat(1, channels, 1, 1))


def _ada(name: str, protocol: int = 4, **how: Any) -> tuple[bytes, dict[str, Tensor]]:
    card, tensors, io = conformance(name)
    init = card["init_kwargs"]
    data = ada_pickle(
        tensors,
        protocol,
        lr_multiplier=init["mapping_kwargs"].get("lr_multiplier", 0.01),
        conv_clamp=init["synthesis_kwargs"].get("conv_clamp"),
        **how,
    )
    return data, io


@pytest.mark.parametrize("name", ADA)
def test_nvidia_pickles_give_the_reference_pictures(name: str, tmp_path: Path) -> None:
    path = tmp_path / "network-snapshot.pkl"
    data, io = _ada(name)
    path.write_bytes(data)
    label = 2 if "c" in io else None
    card = import_generator(path, tmp_path / "out", label=label)
    _gives(load_generator(tmp_path / "out"), io, label)
    assert (card.name, card.licence) == ("network-snapshot", LICENCE)
    assert card.training["file"] == "network-snapshot.pkl"


@pytest.mark.parametrize("label", [0, 1, 2])
def test_each_class_of_a_conditional_one(label: int, tmp_path: Path) -> None:
    path = tmp_path / "cond.pkl"
    data, io = _ada("sg2ada_64_cond")
    path.write_bytes(data)
    card = import_generator(path, tmp_path / "out", label=label)
    assert card.architecture.c_dim == 0
    assert f"this is {label} alone" in card.training["notes"][0]
    _gives(load_generator(tmp_path / "out"), io, label)


@pytest.mark.parametrize("old", [False, True], ids=["numpy 2", "numpy 1"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_every_protocol_numpy_and_memory_format(
    protocol: int, old: bool, nhwc: bool, tmp_path: Path
) -> None:
    tensors = small_tensors(16)
    (tmp_path / "x.pkl").write_bytes(ada_pickle(tensors, protocol, old=old, nhwc=nhwc))
    found = load_generator(tmp_path / "x.pkl").network.state_dict()
    assert all(torch.equal(found[name], tensors[name]) for name in found)


def test_strides_are_as_channels_last_has_them() -> None:
    """Control of the test above: its weights do not lie in the order of their axes."""
    weight = small_tensors()["synthesis.b8.conv0.weight"]
    assert weight.to(memory_format=torch.channels_last).stride() == (36, 1, 12, 4)


def test_a_pickle_of_g_ema_alone(tmp_path: Path) -> None:
    tensors = small_tensors()
    value = {"G_ema": recorded(tensors, ada_attributes(tensors, 0.01, 256.0))}
    (tmp_path / "x.pkl").write_bytes(written(value, 3))
    assert load_generator(tmp_path / "x.pkl").config.conv_clamp == 256.0


def test_numbers_come_from_what_was_recorded(tmp_path: Path) -> None:
    """The defaults of the two repositories differ, and what is default is not in the kwargs."""
    data = ada_pickle(small_tensors(), lr_multiplier=0.02, conv_clamp=128)
    (tmp_path / "x.pkl").write_bytes(data)
    config = load_generator(tmp_path / "x.pkl").config
    assert (config.mapping_lr_multiplier, config.conv_clamp) == (0.02, 128.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_pruned_files_in_other_precisions(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {k: v.to(dtype) for k, v in small_tensors().items()}
    (tmp_path / "x.pkl").write_bytes(ada_pickle(tensors))
    found = load_generator(tmp_path / "x.pkl").network.state_dict()
    assert all(torch.equal(v, tensors[k].float()) for k, v in found.items() if "filter" not in k)


@pytest.mark.parametrize("name", ["sg2ada_64_skip", "sg2ada_64_resnet", "sg2ada_32_orig_edge"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensorflow_pickles(name: str, protocol: int, tmp_path: Path) -> None:
    card, tensors, io = conformance(name)
    init = card["init_kwargs"]
    kwargs = {
        "mapping_lrmul": init["mapping_kwargs"].get("lr_multiplier", 0.01),
        "resample_kernel": init["synthesis_kwargs"].get("resample_filter", [1, 3, 3, 1]),
        "conv_clamp": init["synthesis_kwargs"].get("conv_clamp"),
        "architecture": init["synthesis_kwargs"].get("architecture", "skip"),
        "num_channels": np.int64(init["img_channels"]),
    }
    (tmp_path / "x.pkl").write_bytes(tf_pickle(tensors, kwargs, protocol))
    _gives(load_generator(tmp_path / "x.pkl"), io)
    assert read_card(generator_folder(tmp_path / "x.pkl")).licence == LICENCE


def test_a_conditional_tensorflow_one(tmp_path: Path) -> None:
    _, tensors, io = conformance("sg2ada_64_cond")
    (tmp_path / "x.pkl").write_bytes(tf_pickle(tensors, {"label_size": 3}))
    import_generator(tmp_path / "x.pkl", tmp_path / "out", label=1)
    _gives(load_generator(tmp_path / "out"), io, 1)


def _rosinality() -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
    _, tensors, io = conformance("rosinality_64")
    return tensors, tensors.pop("latent_avg"), io


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_rosinality_published(legacy: bool, tmp_path: Path) -> None:
    tensors, average, io = _rosinality()
    data = torch_saved({"g_ema": tensors, "latent_avg": average}, legacy)
    (tmp_path / "x.pt").write_bytes(data)
    _gives(load_generator(tmp_path / "x.pt"), io)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_rosinality_training_checkpoint(legacy: bool, tmp_path: Path) -> None:
    """Its average latent is the mean of samples."""
    tensors, _, io = _rosinality()
    (tmp_path / "x.pt").write_bytes(torch_saved(training_checkpoint(tensors), legacy))
    card = import_generator(tmp_path / "x.pt", tmp_path / "out")
    assert any("computed of 8,000 samples" in note for note in card.training["notes"])
    generator = load_generator(tmp_path / "out")
    with torch.inference_mode():
        w = generator.mapping(io["z"])
        torch.manual_seed(5)
        mean = generator.network.mapping.style(torch.randn(8000, 64)).mean(dim=0)
        _near(generator.synthesis(w).images, io["img"])
    assert torch.allclose(w[:, 0], io["w"], atol=2e-5)
    spread = float(w[:, 0].std())
    assert float((generator.network.mapping.w_avg - mean).abs().max()) < 0.1 * spread


@pytest.mark.parametrize("rows", [1, 10], ids=["one row", "a row a layer"])
def test_the_decoder_of_an_encoder(rows: int, tmp_path: Path) -> None:
    tensors, average, io = _rosinality()
    state = {f"decoder.{name}": tensor for name, tensor in tensors.items()}
    state["encoder.input_layer.0.weight"] = torch.zeros(4, 3, 3, 3)
    latent = average.repeat(rows, 1) if rows > 1 else average
    value = {"state_dict": state, "latent_avg": latent, "opts": {"learn_in_w": False}}
    (tmp_path / "e4e.pt").write_bytes(torch_saved(value))
    _gives(load_generator(tmp_path / "e4e.pt"), io)


def test_missing_noise_is_drawn_once_and_for_all(tmp_path: Path) -> None:
    tensors, average, io = _rosinality()
    bare = {k: v for k, v in tensors.items() if not k.startswith("noises.")}
    (tmp_path / "x.pt").write_bytes(torch_saved({"g_ema": bare, "latent_avg": average}))
    one = import_generator(tmp_path / "x.pt", tmp_path / "one")
    two = import_generator(tmp_path / "x.pt", tmp_path / "two")
    assert "The noise of 9 layers is missing; it was drawn from a fixed seed." in str(one.training)
    assert one.sha256 == two.sha256
    with torch.inference_mode():
        generator = load_generator(tmp_path / "one")
        assert torch.allclose(generator.mapping(io["z"])[:, 0], io["w"], atol=2e-5)


def test_a_given_average(tmp_path: Path) -> None:
    tensors, average, io = _rosinality()
    (tmp_path / "x.pt").write_bytes(torch_saved(training_checkpoint(tensors)))
    np.save(tmp_path / "w.npy", average.repeat(10, 1).numpy())
    import_generator(tmp_path / "x.pt", tmp_path / "out", average=tmp_path / "w.npy")
    _gives(load_generator(tmp_path / "out"), io)
    np.save(tmp_path / "w.npy", np.array([{}], dtype=object))
    with pytest.raises(DganError, match=r"w\.npy is no npy file of numbers"):
        import_generator(tmp_path / "x.pt", tmp_path / "other", average=tmp_path / "w.npy")


def _flat(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All that a file of a StyleGAN1 port has."""
    return {k: v for k, v in tensors.items() if not k.startswith("truncation.")}


@torch.inference_mode()
def test_a_conditional_one_has_a_class_for_each_seed(tmp_path: Path) -> None:
    data, io = _ada("sg2ada_64_cond")
    (tmp_path / "x.pkl").write_bytes(data)
    generator = load_generator(tmp_path / "x.pkl")
    assert generator.config.c_dim == 3
    w = generator.mapping(io["z"], io["c"])
    assert torch.allclose(w[:, 0], io["w"], atol=2e-5, rtol=0)
    _near(generator.synthesis(w).images, io["img"])


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_that_there_is_not(label: int, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(ada_pickle(small_tensors(c_dim=3)))
    with pytest.raises(DganError, match=f"no class {label}, but 3"):
        import_generator(tmp_path / "x.pkl", tmp_path / "out", label=label)
    (tmp_path / "x.pkl").write_bytes(ada_pickle(small_tensors()))
    with pytest.raises(DganError, match="not conditional"):
        import_generator(tmp_path / "x.pkl", tmp_path / "out", label=label)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("name", ["sg3t_64", "sg3r_64"])
@torch.inference_mode()
def test_stylegan3_pickles(name: str, protocol: int, tmp_path: Path) -> None:
    card, tensors, io = conformance(name)
    value = {"G_ema": recorded(tensors, stylegan3_attributes(card))}
    (tmp_path / "x.pkl").write_bytes(written(value, protocol, old=protocol < 4))
    generator = load_generator(tmp_path / "x.pkl")
    w = generator.mapping(io["z"])
    assert torch.allclose(w[:, 0], io["w"], atol=2e-5, rtol=0)
    assert float((generator.synthesis(w).images - io["img"]).abs().max()) <= 5e-6
    near = generator.mapping(io["z"], truncation=0.7)[:, 0]
    assert torch.allclose(near, io["w_trunc_psi0_7"], atol=2e-5, rtol=0)
    assert generator.card.licence == LICENCE
    assert all(torch.equal(v, tensors[k]) for k, v in generator.network.state_dict().items())


@pytest.mark.parametrize("base", [20, 37, 50, 64, 100, 1000])
def test_the_channels_of_a_stylegan3(base: int, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(small_stylegan3(channel_base=base, resolution=32))
    wanted = tiny_stylegan3_config(32, channel_base=base).layer_names
    assert load_generator(tmp_path / "x.pkl").synthesis.feature_names == wanted[:-1]


@torch.inference_mode()
def test_a_gray_stylegan3(tmp_path: Path) -> None:
    card, tensors, _ = conformance("sg3t_64")
    for part in ("weight", "bias"):
        tensors[f"synthesis.L14_64_1.{part}"] = tensors.pop(f"synthesis.L14_64_3.{part}")[:1]
    tensors = {k.replace("L14_64_3", "L14_64_1"): v for k, v in tensors.items()}
    card["layers"]["L14_64_1"] = card["layers"].pop("L14_64_3")
    value = {"G_ema": recorded(tensors, stylegan3_attributes(card))}
    (tmp_path / "x.pkl").write_bytes(written(value))
    generator = load_generator(tmp_path / "x.pkl")
    images = generator.synthesis(generator.mapping(generator.latent_from_seed(0))).images
    assert images.shape[1] == 3
    assert torch.equal(images[:, 0], images[:, 2])


@pytest.mark.parametrize("given", [False, True], ids=["of samples", "given"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@torch.inference_mode()
def test_the_stylegan1_port(given: bool, legacy: bool, tmp_path: Path) -> None:
    """Its noise is not in the file; pictures are compared with what the port drew."""
    _, tensors, io = conformance("sg1port_128")
    (tmp_path / "x.pt").write_bytes(torch_saved(_flat(tensors), legacy))
    rows = tensors["truncation.avg_latent"]
    rows = rows if rows.ndim == 2 else rows.repeat(18, 1)
    np.save(tmp_path / "avg.npy", torch.cat([rows, rows])[:18].numpy())
    average = tmp_path / "avg.npy" if given else None
    import_generator(tmp_path / "x.pt", tmp_path / "out", average=average)
    generator = load_generator(tmp_path / "out")
    w = generator.mapping(io["z"])
    assert torch.allclose(w[:, 0], io["w"], atol=2e-5, rtol=0)
    state = generator.network.state_dict()
    for name in [key for key in io if key.startswith("noise/")]:
        noise = f"g_synthesis.blocks.{name.removeprefix('noise/')}.top_epi.noise.noise_const"
        state[noise].copy_(io[name][0, 0])
    images = generator.synthesis(w[:2]).images
    assert float((images - io["img"]).abs().max()) <= 3e-4
    if given:
        near = generator.mapping(io["z"], truncation=0.7)
        assert torch.allclose(near, io["w_trunc_psi0_7"], atol=2e-5, rtol=0)
    else:
        own = StyleGAN1(generator.config)  # type: ignore[arg-type]
        own.load_tensors(_flat(tensors))
        mean = own.truncation.avg_latent
        assert torch.allclose(state["truncation.avg_latent"], mean, atol=1e-4)


def test_each_row_of_the_port_has_its_own_average(tmp_path: Path) -> None:
    _, tensors, _ = conformance("sg1port_128")
    (tmp_path / "x.pt").write_bytes(torch_saved(_flat(tensors)))
    rows = np.random.RandomState(0).rand(18, 64).astype(np.float32)
    np.save(tmp_path / "avg.npy", rows)
    import_generator(tmp_path / "x.pt", tmp_path / "out", average=tmp_path / "avg.npy")
    state = load_generator(tmp_path / "out").network.state_dict()
    assert np.array_equal(state["truncation.avg_latent"].numpy(), rows[:12])


# What is kept


def test_a_file_is_converted_once_and_kept_by_its_hash(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "ffhq 1.pkl"
    path.write_bytes(ada_pickle(small_tensors()))
    generator = load_generator(path)
    assert generator.id.startswith("ffhq-1-")
    (folder,) = (models / KEPT).iterdir()
    before = (folder / CARD).stat().st_mtime_ns
    assert load_generator(str(path)).id == generator.id
    assert (folder / CARD).stat().st_mtime_ns == before
    other = {k: v + 1 for k, v in small_tensors().items() if "filter" not in k}
    path.write_bytes(ada_pickle(other) + b"\0")  # of another size, as clocks are coarse
    assert load_generator(path).id != generator.id
    assert len(list((models / KEPT).iterdir())) == 2


def test_nothing_is_kept_of_a_file_that_is_refused(models: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(ada_pickle(small_tensors())[:-100])
    with pytest.raises(DganError, match=r"x\.pkl cannot be used: it is cut short"):
        load_generator(tmp_path / "x.pkl")
    assert list((models / KEPT).iterdir()) == []


def test_a_model_dir_that_cannot_be_written_to(models: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(ada_pickle(small_tensors()))
    models.write_text("a file, where root may not make a folder either")
    with pytest.raises(DganError, match="set MODEL_DIR"):
        load_generator(tmp_path / "x.pkl")


# What is refused, and how


def _page() -> bytes:
    return b"\n<!DOCTYPE html><html>Quota exceeded</html>"


def _without(name: str) -> bytes:
    tensors = small_tensors()
    del tensors[name]
    return ada_pickle(tensors)


def _changed(name: str, value: Tensor) -> bytes:
    return ada_pickle({**small_tensors(), name: value})


def _infinite() -> bytes:
    bias = torch.tensor([0.0, torch.inf, 0.0, 0.0])
    return _changed("mapping.fc0.bias", bias)


def _other_activation() -> bytes:
    tensors = small_tensors()
    attributes = ada_attributes(tensors, 0.01, None)
    attributes["synthesis.b8.conv0"]["activation"] = "swish"
    return written({"G_ema": recorded(tensors, attributes)})


def _stylegan3_without_layers() -> bytes:
    return written({"G_ema": recorded({"synthesis.input.freqs": torch.zeros(2, 2)}, {})})


def _stylegan3(told: dict[str, dict[str, Any]], names: dict[str, str] | None = None) -> bytes:
    """sg3t_64 with some attributes changed, and some words in names."""
    card, tensors, _ = conformance("sg3t_64")
    attributes = stylegan3_attributes(card)
    for name, changed in told.items():
        attributes[name] |= changed
    for old, new in (names or {}).items():
        tensors = {k.replace(old, new): v for k, v in tensors.items()}
        attributes = {k.replace(old, new): v for k, v in attributes.items()}
    return written({"G_ema": recorded(tensors, attributes)})


def _tf_stylegan1() -> bytes:
    old = Network({"version": 2, "variables": [], "static_kwargs": EasyDict()})
    return written((old, old, old), 2)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty"),
    "page": (_page, "it is a web page, not weights"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "text": (lambda: b"hello", "none of the formats that can be read"),
    "tar": (lambda: b"x" * 257 + b"ustar", "none of the formats"),
    "old protocol": (lambda: b"\x80\x01.", "protocol 1; 2 to 5"),
    "other pickle": (lambda: written({"a": 1}), "a pickle of the keys a,"),
    "other pt": (lambda: torch_saved({"net": torch.zeros(2)}), "holds the keys net,"),
    "cut": (lambda: ada_pickle(small_tensors())[:5000], "cut short"),
    "cut zip": (lambda: torch_saved({"a": torch.zeros(9)})[:-30], "zip that is cut short"),
    "cut legacy": (lambda: torch_saved({"a": torch.zeros(9)}, True)[:-9], "cut short"),
    "layer": (lambda: _without("synthesis.b8.conv1.weight"), r"b8\.conv1\.weight is missing"),
    "bias": (lambda: _without("mapping.fc0.bias"), r"misses tensors: mapping\.fc0\.bias"),
    "shape": (lambda: _changed("mapping.fc0.bias", torch.zeros(5)), r"fc0\.bias is \[5\]"),
    "sizes": (
        lambda: _changed("mapping.fc1.weight", torch.zeros(90, 4)),
        "do not fit each other",
    ),
    "unknown": (lambda: _changed("mapping.fx", torch.zeros(5)), r"unknown tensors: mapping\.fx"),
    "infinite": (_infinite, r"mapping\.fc0\.bias has NaN or infinity"),
    "whole": (
        lambda: _changed("mapping.w_avg", torch.zeros(4, dtype=torch.int64)),
        "not of real numbers",
    ),
    "channels": (lambda: ada_pickle(small_tensors(img_channels=4)), "have 4 channels"),
    "activation": (_other_activation, "the activation 'swish'"),
    "rate": (lambda: ada_pickle(small_tensors(), lr_multiplier=0.0), "learns at 0 times"),
    "clamp": (lambda: ada_pickle(small_tensors(), conv_clamp=-1.0), "not above 0"),
    "sg3 layers": (_stylegan3_without_layers, "not all layers of a StyleGAN3"),
    "sg3 names": (
        lambda: _stylegan3({}, {"L4_52_32": "L4_50_32"}),
        "layer L4_50_32 should be L4_52_32",
    ),
    "sg3 channels": (
        lambda: _stylegan3({}, {f"_{n}_32": f"_{n}_99999" for n in (36, 52, 84, 64)}),
        "do not fit each other",
    ),
    "sg3 taps": (
        lambda: _stylegan3({"synthesis.L0_36_32": {"up_taps": 2_000_000}}),
        "resamples by 1e\\+06",
    ),
    "sg3 cutoff": (
        lambda: _stylegan3({"synthesis.input": {"bandwidth": -1.0}}),
        "first cutoff is -1",
    ),
    "sg3 critical": (
        lambda: _stylegan3({"synthesis.L13_64_32": {"is_critically_sampled": "yes"}}),
        "not true or false",
    ),
    "port": (lambda: torch_saved({"g_mapping.dense0.weight": torch.zeros(2)}), "channels"),
    "tf stylegan1": (_tf_stylegan1, "it is StyleGAN1"),
    "tf nonlinearity": (
        lambda: tf_pickle(small_tensors(), {"nonlinearity": "relu"}),
        "nonlinearity = 'relu'",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_says_why(
    make: Callable[[], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(make())
    with pytest.raises(DganError, match=message) as caught:
        import_generator(path, tmp_path / "out")
    assert str(caught.value).startswith(f"{path} cannot be used: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_number_in_a_zip_is_noticed(tmp_path: Path) -> None:
    data = bytearray(torch_saved({"g_ema": _rosinality()[0]}))
    data[len(data) // 2] ^= 1
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(DganError, match="differs from its checksum"):
        read_foreign(tmp_path / "x.pt")


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(DganError, match="exists already"):
        import_generator(tmp_path / "x.pkl", tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(ada_pickle(small_tensors()))
    with pytest.raises(DganError, match="cannot be written"):
        import_generator(tmp_path / "x.pkl", tmp_path / "x.pkl" / "out")


# The commands


def test_generator_import_tells_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.pkl").write_bytes(ada_pickle(small_tensors()))
    command = ["generator", "import", str(tmp_path / "mine.pkl"), "--out", str(tmp_path / "g")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "the generator mine, 8 px, from NVIDIA StyleGAN2" in said
    assert LICENCE in said
    assert "no encoder" in said
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    card = json.loads((tmp_path / "g" / CARD).read_text())
    assert card["training"]["file"] == "mine.pkl"


def test_sample_takes_a_file_and_says_its_licence_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "network-snapshot.pkl").write_bytes(ada_pickle(small_tensors()))
    options = {"--generator": "network-snapshot.pkl", "--sheet": "s.png", "--out": "out"}
    words = [word for key, name in options.items() for word in (key, str(tmp_path / name))]
    sample(_parser().parse_args(["sample", *words, "--count", "9", "--seed", "3"]))
    said = capsys.readouterr()
    assert said.err.count("come under its licence: Nvidia Source Code License") == 1
    assert "9 samples of network-snapshot-" in said.out
    assert len(list((tmp_path / "out").iterdir())) == 9
    with Image.open(tmp_path / "out" / "0000000011.picture.png") as picture:
        assert picture.size == (8, 8)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.height > 256


def test_a_generator_that_may_be_used_is_sampled_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(ada_pickle(small_tensors()))
    card = import_generator(tmp_path / "x.pkl", tmp_path / "g", licence="ours", name="horse")
    assert (card.caution, card.name) == ("", "horse")
    generator: Generator = load_generator(tmp_path / "g")
    assert generator.card.caution == ""
