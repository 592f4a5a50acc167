"""Training from a folder of pictures to a shipped generator: steps, sheets, metric, checkpoints."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dgan_backend.errors import DganError
from dgan_backend.generators import load_generator
from dgan_backend.generators.native import (
    read_card,
    read_tensors,
    save_generator,
    write_tensors,
)
from dgan_backend.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from dgan_backend.inversion.native import load_encoder, save_encoder
from dgan_backend.pictures import contact_sheet, to_pictures
from dgan_backend.processor import multiplies_bfloat16
from dgan_backend.training import augment
from dgan_backend.training.calibration import (
    in_domain_errors,
    inversion_errors,
    measured_count,
)
from dgan_backend.training.metric import sliced_wasserstein
from dgan_backend.training.networks import Networks
from dgan_backend.training.pictures import PictureFolder, turned
from dgan_backend.training.step import LossWeights, Step

_MEASURED = 256  # pictures that the metric compares
_SMALL_SET = 5000  # fewer pictures than this are augmented
_SMALLEST_START = 32
_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Plan:
    """What to train and for how long.

    grow_at: numbers of pictures seen at which the resolution doubles, from start_resolution up to
    the architecture's. minutes: stop after that much time (0 = only `pictures` counts). mirror,
    turns: pictures are also seen mirrored, and turned by quarters. init: a
    generator with an encoder to begin with, and the discriminator it was trained against.
    """

    images: Path
    out: Path
    architecture: StyleGAN2Config
    name: str = "generator"
    pictures: int = 200_000
    minutes: float = 0.0
    batch: int = 16
    rate: float = 0.002
    start_resolution: int = 32
    grow_at: tuple[int, ...] = (40_000,)
    mirror: bool = True
    turns: bool = False
    augment: str = "auto"
    bf16: str = "auto"
    device: str = "cpu"
    seed: int = 0
    measure_every: int = 5000
    losses: LossWeights = field(default_factory=LossWeights)
    licence: str = ""
    attribution: str = ""
    init: str = ""
    init_discriminator: Path | None = None

    def __post_init__(self) -> None:
        start, goal = self.start_resolution, self.architecture.resolution
        reached = start * 2 ** len(self.grow_at)
        if reached < goal:
            raise DganError(
                f"From {start} px, --grow-at with {len(self.grow_at)} numbers ends at {reached} "
                f"px, not at {goal}; give one number for each doubling."
            )
        if start < min(goal, _SMALLEST_START):
            raise DganError(
                f"A training starts at {_SMALLEST_START} px or more, not at {start}: below, the "
                "encoder's heads would change the maps that they read as it grows."
            )

    def resolution_at(self, seen: int) -> int:
        grown = self.start_resolution * 2 ** sum(seen >= at for at in self.grow_at)
        return min(grown, self.architecture.resolution)


class Trainer:
    """One training run; its folder holds checkpoint, log, sheets and the native generator."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seen = 0
        self.steps = 0
        self.seconds = 0.0
        self.random = np.random.RandomState(plan.seed)
        torch.manual_seed(plan.seed)
        plan.out.mkdir(parents=True, exist_ok=True)
        self._build(plan.resolution_at(0))
        self.resumed = self._resume() or self._begin_with_init()

    def run(self) -> None:
        """Train until the plan's end, or Ctrl-C; then write generator and calibrated encoder.

        Raises DganError when the training diverges; the last checkpoint is kept as it was.
        """
        bar = tqdm(total=self.plan.pictures, initial=self.seen, unit="picture", smoothing=0.05)
        try:
            self._train(bar)
        except KeyboardInterrupt:
            tqdm.write("stopped; the same command goes on from here")
        finally:
            bar.close()
        self.report({})
        self.calibrate()

    def _train(self, bar: tqdm[NoReturn]) -> None:
        plan, started, before = self.plan, time.monotonic(), self.seconds
        last_measured = self.seen
        while self.seen < plan.pictures and not self._out_of_time(before):
            self._grow_if_due()
            losses = self.step(*self._batch())
            self.seconds = before + time.monotonic() - started
            bar.update(plan.batch)
            bar.set_postfix_str(_short(losses) + f" {self.networks.resolution}px")
            if self.seen - last_measured >= plan.measure_every:
                last_measured = self.seen
                self.report(losses)

    def calibrate(self) -> None:
        """Measure inversion errors of held-back pictures and write them beside the encoder."""
        folder = self.plan.out / self.plan.name
        generator = load_generator(folder, self.plan.device)
        encoder, _ = load_encoder(folder, self.plan.device)
        pictures = self.pictures.measuring_set(measured_count(generator.resolution))
        bar = partial(tqdm, desc="calibrating the encoder")
        found = inversion_errors(generator, encoder, pictures, progress=bar)
        errors = in_domain_errors(list(chain.from_iterable(found)))
        save_encoder(folder, encoder, errors, training=self._about_encoder())

    def report(self, losses: dict[str, float]) -> dict[str, Any]:
        """Write checkpoint, generator, sheet and a line of the log; returns that line."""
        self._save_checkpoint()
        record = {
            "pictures": self.seen,
            "resolution": self.networks.resolution,
            "minutes": round(self.seconds / 60, 1),
            **{name: round(value, 4) for name, value in losses.items()},
            **self.measure(),
        }
        with (self.plan.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        tqdm.write(" ".join(f"{key}={value}" for key, value in record.items()))
        self._write_sheet()
        self.export(record)
        return record

    @torch.inference_mode()
    def measure(self) -> dict[str, float]:
        """Distance of samples to, and L1 of reconstructions of, held-back pictures."""
        real = self.pictures.measuring_set(_MEASURED)
        rec = torch.cat([self._reconstruct(part) for part in real.split(64)])
        samples = torch.cat(
            [self._samples(len(part), 1.0, i) for i, part in enumerate(real.split(64))]
        )
        return {
            "swd": round(sliced_wasserstein(samples, real), 2),
            "reconstruction_l1": round(float((rec - real).abs().mean()), 4),
        }

    def export(self, record: dict[str, Any]) -> None:
        """Write the averaged networks as a native generator folder."""
        plan = self.plan
        training = {
            "pictures_seen": self.seen,
            "pictures_in_set": len(self.pictures),
            "minutes": record["minutes"],
            **({"turns": True} if plan.turns else {}),
            "device": plan.device,
            "sliced_wasserstein": record["swd"],
            "reconstruction_l1": record["reconstruction_l1"],
        }
        folder = plan.out / plan.name
        save_generator(
            folder,
            plan.name,
            self.networks.generator_average,  # type: ignore[arg-type]
            licence=plan.licence,
            attribution=plan.attribution,
            training=training,
        )
        about = self._about_encoder()
        save_encoder(folder, self.networks.encoder_average, training=about)  # type: ignore[arg-type]
        judge = self.networks.discriminator.state_dict()
        write_tensors(plan.out / "discriminator.safetensors", judge)

    def _about_encoder(self) -> dict[str, Any]:
        folder = self.plan.out / self.plan.name
        return {
            "generator": read_card(folder).id,
            "pictures_seen": self.seen,
            "pictures_in_set": len(self.pictures),
        }

    def _build(self, resolution: int) -> None:
        self._use(Networks(self.plan.architecture, resolution).to(self.plan.device))

    def _use(self, networks: Networks) -> None:
        plan = self.plan
        self.networks = networks
        self.pictures = PictureFolder(plan.images, networks.resolution, holdback=_MEASURED)
        small = len(self.pictures) < _SMALL_SET
        self.adaptive = plan.augment == "on" or (plan.augment == "auto" and small)
        losses = replace(plan.losses, r1=plan.losses.r1 * (networks.resolution / 64) ** 2)
        self.step_object = Step(networks, losses, plan.rate, use_bf16(plan.bf16, plan.device))

    def _batch(self) -> tuple[Tensor, int]:
        indices = self.random.randint(len(self.pictures), size=self.plan.batch)
        real = self.pictures.batch(indices).to(self.plan.device)
        mirrored = self.random.rand(len(real)) < (0.5 if self.plan.mirror else 0.0)
        quarters = self.random.randint(4 if self.plan.turns else 1, size=len(real))
        return turned(real, mirrored, quarters), self.steps

    def step(self, real: Tensor, number: int) -> dict[str, float]:
        """One step on a batch, averages and augmentation included."""
        losses = self.step_object(real, number)
        self.steps += 1
        self.seen += len(real)
        if not all(np.isfinite(value) for value in losses.values()):
            raise DganError(
                f"The training diverged after {self.seen} pictures ({_short(losses)}); "
                "start again with a smaller --rate, or a larger --r1."
            )
        half_life = min(5000.0, 0.1 * self.seen + 1)
        self.networks.update_averages(0.5 ** (len(real) / half_life))
        if self.adaptive:
            p = augment.adapt(self.step_object.augment_p, losses["sign"], len(real))
            self.step_object.augment_p = p
        return losses

    def _grow_if_due(self) -> None:
        while self.networks.resolution < self.plan.resolution_at(self.seen):
            augment_p = self.step_object.augment_p
            self._use(self.networks.grown())
            self.step_object.augment_p = augment_p
            tqdm.write(f"{self.seen} pictures seen: growing to {self.networks.resolution} px")

    def _out_of_time(self, before: float) -> bool:
        return 0 < self.plan.minutes * 60 <= self.seconds - before

    @torch.inference_mode()
    def _samples(self, count: int, truncation: float, seed: int) -> Tensor:
        z = np.random.RandomState(seed).randn(count, self.plan.architecture.z_dim)
        generator = self.networks.generator_average
        latents = torch.from_numpy(z.astype(np.float32)).to(self.plan.device)
        return generator.synthesis(generator.mapping(latents, truncation=truncation)).images  # type: ignore

    @torch.inference_mode()
    def _reconstruct(self, real: Tensor) -> Tensor:
        w = self.networks.encoder_average(real.to(self.plan.device))
        return self.networks.generator_average.synthesis(w).images.cpu()  # type: ignore

    def _write_sheet(self) -> None:
        """Rows: pictures, their reconstructions, samples at truncation 0.7, samples at 1."""
        real = self.pictures.measuring_set(16)
        parts = [
            real,
            self._reconstruct(real),
            self._samples(16, 0.7, 1),
            self._samples(32, 1.0, 2),
        ]
        rows = [list(to_pictures(part)) for part in parts]
        sheet = contact_sheet([*rows[:3], rows[3][:16], rows[3][16:]])
        Image.fromarray(sheet).save(self.plan.out / f"sheet-{self.seen:07d}.png")

    def _save_checkpoint(self) -> None:
        step = self.step_object
        value = {
            "resolution": self.networks.resolution,
            "networks": self.networks.state_dict(),
            "maker": step.maker.state_dict(),
            "judge": step.judge.state_dict(),
            "seen": self.seen,
            "steps": self.steps,
            "seconds": self.seconds,
            "augment_p": step.augment_p,
        }
        beside = self.plan.out / "checkpoint.partial"
        torch.save(value, beside)
        beside.replace(self.plan.out / _CHECKPOINT)

    def _resume(self) -> bool:
        path = self.plan.out / _CHECKPOINT
        if not path.is_file():
            return False
        try:
            value = torch.load(path, map_location=self.plan.device, weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise DganError(
                f"{path} is damaged ({error}); remove it to start anew, or choose another --out."
            ) from error
        if value["resolution"] != self.networks.resolution:
            self._build(value["resolution"])
        try:
            self.networks.load_state_dict(value["networks"])
        except RuntimeError as error:
            raise DganError(f"{path} is of another architecture; choose another --out.") from error
        self.step_object.maker.load_state_dict(value["maker"])
        self.step_object.judge.load_state_dict(value["judge"])
        self.step_object.augment_p = value["augment_p"]
        self.seen, self.steps, self.seconds = value["seen"], value["steps"], value["seconds"]
        self.random = np.random.RandomState(self.plan.seed + self.steps)
        torch.manual_seed(self.plan.seed + self.steps)
        return True

    def _begin_with_init(self) -> bool:
        """Begin with a native generator's weights (no optimiser state); False without one."""
        plan = self.plan
        if not plan.init:
            return False
        generator = load_generator(plan.init, plan.device)
        if not isinstance(generator.network, StyleGAN2):
            raise DganError(f"{plan.init} is no stylegan2 generator; only those can be trained on.")
        encoder, _ = load_encoder(plan.init, plan.device)
        self._build(generator.resolution)
        networks = self.networks
        try:
            for network in (networks.generator, networks.generator_average):
                network.load_state_dict(generator.network.state_dict())
            for network in (networks.encoder, networks.encoder_average):
                network.load_state_dict(encoder.state_dict())
            if plan.init_discriminator:
                judge = read_tensors(plan.init_discriminator)
                networks.discriminator.load_state_dict({k: t.float() for k, t in judge.items()})
        except RuntimeError as error:
            raise DganError(
                f"{plan.init} does not fit the architecture; give its --channels and --z-dim "
                f"({str(error).splitlines()[-1].strip()})."
            ) from error
        self.seen = int(generator.card.training.get("pictures_seen", 0))
        self.seconds = float(generator.card.training.get("minutes", 0)) * 60
        return True


def use_bf16(choice: str, device: str) -> bool:
    """'auto' means bf16 autocast where the hardware computes in it, as it is slower elsewhere."""
    if choice != "auto":
        return choice == "on"
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return multiplies_bfloat16()


def _short(losses: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in losses.items())
