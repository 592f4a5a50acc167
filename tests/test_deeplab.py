"""The DeepLab-V3 student: torchvision's names and shapes, published weights, going on, serving."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dgan_backend.errors import DganError
from dgan_backend.student import deeplab as module
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.deeplab import DeepLab, DeepLabConfig, deeplab, new_deeplab
from dgan_backend.student.fit import begin_classes, continued, correction_of, train_unet
from dgan_backend.student.native import load_student, save_student
from dgan_backend.student.published import load_published
from dgan_backend.student.student import Student
from tests.test_student import STILL, squares

# Parameters that torchvision tells of its models, without `fc` and without the second head:
# resnet* 25,557,032, 44,549,160 and 60,192,808; deeplabv3_resnet* 42,004,074 and 60,996,202.
FC, SECOND_HEAD = 2048 * 1000 + 1000, 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21
BACKBONES = {"resnet50": 25557032, "resnet101": 44549160, "resnet152": 60192808}
WHOLE = {"resnet50": 42004074, "resnet101": 60996202}


def empty(backbone: str, classes: int = 21) -> DeepLab:
    with torch.device("meta"):
        network = DeepLab(DeepLabConfig(backbone), classes)
    return network


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def torchvisions(blocks: tuple[int, ...], classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of `deeplabv3_resnet*` as torchvision publishes them, aux head left out."""
    told = {"backbone.conv1.weight": (64, 3, 7, 7)} | norm("backbone.bn1", 64)
    before = 64
    for stage, (count, inner) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        for block in range(count):
            name = f"backbone.layer{stage}.{block}"
            told[f"{name}.conv1.weight"] = (inner, before, 1, 1)
            told[f"{name}.conv2.weight"] = (inner, inner, 3, 3)
            told[f"{name}.conv3.weight"] = (4 * inner, inner, 1, 1)
            told |= norm(f"{name}.bn1", inner) | norm(f"{name}.bn2", inner)
            told |= norm(f"{name}.bn3", 4 * inner)
            if block == 0:
                told[f"{name}.downsample.0.weight"] = (4 * inner, before, 1, 1)
                told |= norm(f"{name}.downsample.1", 4 * inner)
            before = 4 * inner
    told["classifier.0.convs.0.0.weight"] = (256, 2048, 1, 1)
    told |= norm("classifier.0.convs.0.1", 256)
    for n in (1, 2, 3):
        told[f"classifier.0.convs.{n}.0.weight"] = (256, 2048, 3, 3)
        told |= norm(f"classifier.0.convs.{n}.1", 256)
    told["classifier.0.convs.4.1.weight"] = (256, 2048, 1, 1)
    told |= norm("classifier.0.convs.4.2", 256)
    told["classifier.0.project.0.weight"] = (256, 1280, 1, 1)
    told |= norm("classifier.0.project.1", 256)
    told["classifier.1.weight"] = (256, 256, 3, 3)
    told |= norm("classifier.2", 256)
    return told | {"classifier.4.weight": (classes, 256, 1, 1), "classifier.4.bias": (classes,)}


@pytest.mark.parametrize(
    ("backbone", "blocks"),
    [("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3)), ("resnet152", (3, 8, 36, 3))],
)
def test_names_and_shapes_are_torchvisions(backbone: str, blocks: tuple[int, ...]) -> None:
    network = empty(backbone)
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert found == torchvisions(blocks, 21)
    assert sum(p.numel() for p in network.backbone.parameters()) == BACKBONES[backbone] - FC
    if backbone in WHOLE:
        assert sum(p.numel() for p in network.parameters()) == WHOLE[backbone] - SECOND_HEAD


def test_the_last_two_stages_are_dilated_and_not_strided() -> None:
    found = empty("resnet50").backbone
    for stage, dilations in (("layer2", [1, 1, 1, 1]), ("layer3", [1] + [2] * 5),
                             ("layer4", [2, 4, 4])):  # fmt: skip
        middle = [block.conv2 for block in getattr(found, stage)]
        assert [conv.dilation[0] for conv in middle] == dilations
        assert [conv.padding[0] for conv in middle] == dilations
        assert middle[0].stride == ((2, 2) if stage == "layer2" else (1, 1))
    rates = [conv[0].dilation[0] for conv in list(empty("resnet50").classifier[0].convs)[1:4]]
    assert rates == [12, 24, 36]


@pytest.fixture(scope="module")
def shallow() -> DeepLab:
    """One block a stage: what there is of every kind, in a quarter of the tensors."""
    blocks = dict(module.BLOCKS)
    module.BLOCKS["resnet50"] = (1, 1, 1, 1)
    try:
        return new_deeplab(DeepLabConfig("resnet50"), 5).eval()  # type: ignore[return-value]
    finally:
        module.BLOCKS.update(blocks)


def test_the_head_and_enlarging_commute_and_the_stride_is_eight(shallow: DeepLab) -> None:
    images = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.inference_mode():
        assert shallow._coarse(images).shape == (1, 256, 4, 6)
        logits = shallow(images)
        assert logits.shape == (1, 5, 32, 48)
        assert torch.allclose(logits, shallow.head(shallow.features(images)), atol=1e-5)


def test_colours_are_brought_to_what_imagenets_networks_expect() -> None:
    image = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1) * 2 - 1
    assert module._normalized(image).abs().max() < 1e-6
    assert torch.allclose(
        module._normalized(torch.ones(1, 3, 1, 1))[0, :, 0, 0],
        torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
    )


def test_published_weights_of_a_backbone_are_taken_over(shallow: DeepLab, tmp_path: Path) -> None:
    """As torch saves a ResNet of ImageNet: names without `backbone.`, and `fc`."""
    state = {k: torch.full_like(v, 2.0) for k, v in shallow.backbone.state_dict().items()}
    given = state | {"fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}
    torch.save(given, tmp_path / "resnet50.pth")
    kept = {k: v.clone() for k, v in shallow.state_dict().items()}
    try:
        assert "resnet50" in load_published(shallow, tmp_path / "resnet50.pth")
        found = shallow.state_dict()
        assert (found["backbone.layer4.0.conv2.weight"] == 2).all()
        assert (found["backbone.bn1.running_var"] == 2).all()
        assert torch.equal(found["classifier.1.weight"], kept["classifier.1.weight"])
        del given["layer4.0.conv2.weight"]
        torch.save(given, tmp_path / "cut.pth")
        with pytest.raises(DganError, match=r"cut.pth lacks backbone.layer4.0.conv2.weight"):
            load_published(shallow, tmp_path / "cut.pth")
        given["layer4.0.conv2.weight"] = torch.zeros(1, 512, 3, 3)
        torch.save(given, tmp_path / "odd.pth")
        with pytest.raises(DganError, match=r"odd.pth: .*conv2.weight is \(1, 512, 3, 3\), not"):
            load_published(shallow, tmp_path / "odd.pth")
        given = state | {"layer1.1.conv1.weight": torch.zeros(1)}
        torch.save(given, tmp_path / "deeper.pth")
        with pytest.raises(DganError, match=r"layer1.1.conv1.weight, which is unknown"):
            load_published(shallow, tmp_path / "deeper.pth")
    finally:
        shallow.load_state_dict(kept)


def test_a_whole_network_of_other_classes_lends_all_but_its_head(
    shallow: DeepLab, tmp_path: Path
) -> None:
    kept = {k: v.clone() for k, v in shallow.state_dict().items()}
    given = {k: (v + 1).contiguous() for k, v in kept.items() if v.is_floating_point()}
    given["classifier.4.weight"] = torch.zeros(21, 256, 1, 1)
    given["classifier.4.bias"] = torch.zeros(21)
    given["aux_classifier.0.weight"] = torch.zeros(3)
    save_file(given, tmp_path / "coco.safetensors")
    try:
        assert "without its head" in load_published(shallow, tmp_path / "coco.safetensors")
        found = shallow.state_dict()
        assert torch.equal(found["classifier.1.weight"], kept["classifier.1.weight"] + 1)
        assert torch.equal(found["classifier.4.bias"], kept["classifier.4.bias"])
    finally:
        shallow.load_state_dict(kept)


def test_what_is_no_file_of_weights_is_said(shallow: DeepLab, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<!doctype html>")
    with pytest.raises(DganError, match=r"page.pth cannot be used: it is a web page"):
        load_published(shallow, tmp_path / "page.pth")
    with pytest.raises(DganError, match=r"none.pth cannot be used: it cannot be opened"):
        load_published(shallow, tmp_path / "none.pth")


def test_another_head_shares_all_else(shallow: DeepLab) -> None:
    for network in (shallow, new_deeplab(DeepLabConfig(), 5)):
        other = network.with_head(nn.Conv2d(network.head.in_channels, 7, 1))
        assert (network.num_classes, other.num_classes) == (5, 7)
        assert other.first is network.first
        assert other.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7, 32, 32)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(DganError, match="'resnet151' is no backbone: light, resnet50"):
        DeepLabConfig("resnet151")


def test_a_light_one_learns_is_kept_and_goes_on(tmp_path: Path) -> None:
    images, masks = squares(8)
    settings = UNetSettings(pictures=240, augment=STILL)
    network = train_unet(new_deeplab(DeepLabConfig(), 2, seed=1), images, masks, settings)
    correction = tuple(correction_of(masks, 2, settings))
    student = Student([network], mirror=True, correction=correction)
    found = student.predict(images[:1])
    assert (found.probabilities.argmax(dim=0) == masks[0]).float().mean() > 0.9
    assert found.uncertainty.min() >= 0 and found.uncertainty.max() <= found.bound
    save_student(tmp_path, student)
    again = load_student(tmp_path)
    assert again is not None
    assert torch.allclose(
        again.predict(images[:1]).probabilities, found.probabilities, atol=2e-2
    )  # float16
    more = continued(network, correction)
    begin_classes(more, images, masks, [1], settings)
    further = train_unet(more, images, masks, UNetSettings(pictures=8, augment=STILL))
    assert further(images[:1]).shape == (1, 2, 32, 32)


def test_a_seed_is_a_networks_identity() -> None:
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    one, other = new_deeplab(DeepLabConfig(), 3, 7), new_deeplab(DeepLabConfig(), 3, 7)
    assert torch.equal(torch.rand(1), before)
    assert torch.equal(one.first.weight, other.first.weight)
    assert not torch.equal(one.first.weight, new_deeplab(DeepLabConfig(), 3, 8).first.weight)
    assert deeplab(DeepLabConfig.from_json(one.architecture()), 3).num_classes == 3
