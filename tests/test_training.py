"""Training: networks that grow, steps that learn, runs that resume."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.generators import load_generator
from dgan_backend.generators.operators import fir_kernel, upsample
from dgan_backend.inversion.invert import InversionSettings, invert
from dgan_backend.inversion.native import load_encoder
from dgan_backend.pictures import to_tensor
from dgan_backend.training import augment
from dgan_backend.training.discriminator import append_batch_spread
from dgan_backend.training.metric import sliced_wasserstein
from dgan_backend.training.networks import Networks
from dgan_backend.training.pictures import turned
from dgan_backend.training.trainer import Plan, Trainer, use_bf16
from tests.builders import tiny_config, tiny_generator_folder, tiny_stylegan3_config


def _blob(random: np.random.RandomState, size: int) -> np.ndarray:
    """A disc of one colour on another: something a tiny network can learn."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    inside = (x - random.uniform(-0.1, 0.1)) ** 2 + y**2 < random.uniform(0.05, 0.12)
    a, b = random.randint(0, 256, (2, 3))
    return np.where(inside[:, :, None], a, b).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.RandomState(0)
    for i in range(40):
        Image.fromarray(_blob(random, 24)).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture
def plan(images: Path, tmp_path: Path) -> Plan:
    return Plan(
        images=images,
        out=tmp_path / "run",
        architecture=tiny_config(64),
        name="blobs",
        pictures=64,
        batch=8,
        start_resolution=32,
        grow_at=(32,),
        measure_every=24,
        licence="CC0",
    )


def test_a_run_leaves_a_generator_with_a_calibrated_encoder(plan: Plan) -> None:
    Trainer(plan).run()
    folder = plan.out / "blobs"
    generator = load_generator(folder)
    encoder, errors = load_encoder(folder)
    assert generator.resolution == 64
    assert generator.card.licence == "CC0"
    assert generator.card.training["pictures_seen"] == 64
    assert errors is not None
    assert 0 < errors.median <= errors.limit
    found = invert(generator, encoder, torch.zeros(2, 3, 64, 64), InversionSettings(steps=2))
    assert found.w.shape == (2, generator.num_ws, generator.w_dim)
    records = [json.loads(line) for line in (plan.out / "log.jsonl").read_text().splitlines()]
    assert [r["resolution"] for r in records] == [32, 64, 64]
    assert records[-1]["pictures"] == 64
    assert (plan.out / "sheet-0000064.png").is_file()


@pytest.mark.parametrize("turns", [False, True])
def test_a_generator_knows_whether_its_pictures_have_an_up(plan: Plan, turns: bool) -> None:
    trainer = Trainer(replace(plan, turns=turns))
    trainer.report({})
    assert load_generator(plan.out / "blobs").card.turns is turns


def test_a_run_goes_on_where_it_stopped(plan: Plan) -> None:
    Trainer(replace(plan, pictures=40)).run()
    again = Trainer(plan)
    assert again.resumed
    assert again.seen == 40
    assert again.networks.resolution == 64
    again.run()
    assert again.seen == 64


def test_a_run_begins_with_a_generator_trained_before(plan: Plan, tmp_path: Path) -> None:
    Trainer(plan).run()
    first = plan.out
    later = replace(
        plan,
        out=tmp_path / "later",
        init=str(first / "blobs"),
        init_discriminator=first / "discriminator.safetensors",
        pictures=80,
    )
    trainer = Trainer(later)
    assert trainer.seen == 64
    assert trainer.networks.resolution == 64
    wanted = load_generator(first / "blobs").network.state_dict()
    for name, tensor in trainer.networks.generator.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name
    trainer.run()
    other = tiny_generator_folder(tmp_path / "other", config=tiny_stylegan3_config())
    with pytest.raises(DganError, match="other is no stylegan2 generator"):
        Trainer(replace(later, out=tmp_path / "y", init=str(other)))
    with pytest.raises(DganError, match="does not fit the architecture"):
        Trainer(replace(later, out=tmp_path / "x", architecture=tiny_config(64, channel_max=4)))


def test_a_checkpoint_of_another_architecture_is_said(plan: Plan) -> None:
    Trainer(replace(plan, pictures=16)).run()
    other = replace(plan, architecture=tiny_config(64, channel_max=4))
    with pytest.raises(DganError, match="another architecture"):
        Trainer(other)


def test_losses_fall(plan: Plan) -> None:
    trainer = Trainer(replace(plan, architecture=tiny_config(32), grow_at=(), rate=0.01))
    fixed = trainer._batch()[0]
    first = trainer.step(fixed, 1)["pixel"]
    for number in range(2, 60):
        last = trainer.step(fixed, number)["pixel"]
    assert last < 0.7 * first


def test_divergence_keeps_the_checkpoint(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    Trainer(replace(plan, pictures=16)).run()
    before = (plan.out / "checkpoint.pt").read_bytes()
    trainer = Trainer(plan)
    with torch.no_grad():
        trainer.networks.generator.synthesis.get_parameter("b4.const").fill_(math.nan)
    with pytest.raises(DganError, match="diverged"):
        trainer.run()
    assert (plan.out / "checkpoint.pt").read_bytes() == before


@torch.no_grad()
def test_growing_changes_no_picture_and_no_judgement() -> None:
    torch.manual_seed(0)
    small = Networks(tiny_config(64), 32)
    large = small.grown()
    w = torch.randn(2, small.generator.config.num_ws, 8)
    w_more = torch.cat([w, torch.randn(2, 2, 8)], dim=1)
    image = small.generator.synthesis(w).images
    grown = large.generator.synthesis(w_more).images
    assert torch.allclose(grown, upsample(image, fir_kernel((1, 3, 3, 1))), atol=1e-5)
    picture = torch.randn(4, 3, 64, 64)
    reduced = torch.nn.functional.avg_pool2d(picture, 2)
    assert torch.allclose(
        large.discriminator(picture)[0], small.discriminator(reduced)[0], atol=1e-5
    )
    rows = small.generator.config.num_ws
    assert torch.allclose(large.encoder(picture)[:, :rows], small.encoder(reduced), atol=1e-5)


@torch.no_grad()
def test_each_set_has_its_own_spread() -> None:
    """Else varied pictures and copies of one would look alike to the discriminator."""
    torch.manual_seed(0)
    judge = Networks(tiny_config(32), 32).discriminator
    varied, copies = torch.randn(8, 3, 32, 32), torch.randn(1, 3, 32, 32).expand(8, -1, -1, -1)
    together = judge(torch.cat([varied, copies]), sets=2)[0]
    assert torch.allclose(together[:8], judge(varied)[0], atol=1e-5)
    assert torch.allclose(together[8:], judge(copies)[0], atol=1e-5)


def test_a_plan_that_cannot_reach_its_resolution_is_refused(plan: Plan) -> None:
    with pytest.raises(DganError, match="ends at 32 px, not at 64"):
        replace(plan, grow_at=())
    with pytest.raises(DganError, match="starts at 32 px or more"):
        replace(plan, start_resolution=16, grow_at=(1, 2))


def test_a_damaged_checkpoint_is_said(plan: Plan) -> None:
    plan.out.mkdir()
    (plan.out / "checkpoint.pt").write_bytes(b"PK not a checkpoint")
    with pytest.raises(DganError, match=r"checkpoint\.pt is damaged"):
        Trainer(plan)


def test_batch_spread_of_equal_pictures_is_nothing() -> None:
    x = torch.ones(8, 3, 4, 4)
    assert append_batch_spread(x)[:, 3].max() < 1e-3
    x[:4] = -1.0
    assert append_batch_spread(x)[:, 3].min() > 0.5
    assert append_batch_spread(torch.ones(5, 3, 4, 4)).shape == (5, 4, 4, 4)


def test_sliced_wasserstein_tells_sets_apart() -> None:
    random = np.random.RandomState(0)
    a = to_tensor(np.stack([_blob(random, 32) for _ in range(32)]))
    b = to_tensor(np.stack([_blob(random, 32) for _ in range(32)]))
    noise = torch.randn(a.shape).clamp(-1, 1)
    assert sliced_wasserstein(a, a) == 0.0
    assert sliced_wasserstein(a, b) < 0.5 * sliced_wasserstein(a, noise)
    with pytest.raises(ValueError, match="one shape"):
        sliced_wasserstein(a, b[:3])


def test_augmentation_keeps_pairs_comparable() -> None:
    torch.manual_seed(0)
    drawn = augment.draw(4, 1.0, torch.device("cpu"))
    assert drawn is not None
    x = torch.randn(4, 3, 16, 16)
    both = drawn.repeated(2)(torch.cat([x, x]))
    assert torch.equal(both[:4], both[4:])
    assert not torch.allclose(both[:4], x)
    assert augment.draw(4, 0.0, torch.device("cpu")) is None


def test_augmentation_follows_the_discriminator() -> None:
    assert augment.adapt(0.5, sign=0.9, pictures=1000) == pytest.approx(0.51)
    assert augment.adapt(0.5, sign=0.1, pictures=1000) == pytest.approx(0.49)
    assert augment.adapt(0.0, sign=0.1, pictures=1000) == 0.0
    assert augment.adapt(0.85, sign=1.0, pictures=1000) == 0.85


def test_small_sets_are_augmented(plan: Plan) -> None:
    assert Trainer(plan).adaptive
    assert not Trainer(replace(plan, augment="off")).adaptive


def test_bf16_on_request() -> None:
    assert use_bf16("on", "cpu")
    assert not use_bf16("off", "cpu")


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures_are_said(plan: Plan, tmp_path: Path, count: int) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(count):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    with pytest.raises(DganError, match=f"holds {count} pictures"):
        Trainer(replace(plan, images=folder))


def test_a_broken_picture_is_named(plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    with pytest.raises(DganError, match=r"0\.png cannot be read"):
        Trainer(replace(plan, images=folder)).run()


def test_all_eight_symmetries_are_different_views_of_one_picture() -> None:
    picture = torch.arange(9.0).reshape(1, 1, 3, 3)
    mirrored, quarters = np.repeat([False, True], 4), np.tile(np.arange(4), 2)
    views = turned(picture.expand(8, -1, -1, -1), mirrored, quarters)
    assert torch.equal(views[0], picture[0])
    assert torch.equal(views[4], picture[0].flip(2))
    assert torch.equal(views[1], torch.tensor([[[2.0, 5, 8], [1, 4, 7], [0, 3, 6]]]))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8
