"""What the ruler compares: each method learns from a draw and labels the test pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend import metrics
from dgan_backend.evaluation.few_shot import Cell, FewShotSet, Outcome, Stopwatch
from dgan_backend.generators import Generator
from dgan_backend.generators.native import read_tensors, write_tensors
from dgan_backend.interpreter import Ensemble, FitSettings, fit_ensemble
from dgan_backend.interpreter.ensemble import PixelPrediction
from dgan_backend.interpreter.fit import paper_widths
from dgan_backend.interpreter.picture_maps import picture_maps
from dgan_backend.interpreter.uncertainty import expected_iou, reconstruction_factor, score
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import InDomainErrors
from dgan_backend.labeled import LabeledPictures
from dgan_backend.pictures import resize, to_tensor
from dgan_backend.reading import feature_maps, invert_all
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.fit import fit_unet, new_unet
from dgan_backend.student.native import Backbone
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.student import Student, StudentSettings, fit_student
from dgan_backend.student.unet import UNet

RATES = (0.02, 0.05, 0.1)  # of Muon; 0.2 is as good as 0.1 from 16 labels
BUDGETS = (2400, 4800, 9600, 19200)  # pictures seen; doubled until the gain is below GAIN
GAIN = 0.01
SCORE = "expected IoU"  # what scores are made of; part of the keys
INTERPRETER_MEMBERS = 4  # of 10: the ruler labels 240 pictures 20 times
_BATCH = 16
_SECONDS = "fit_seconds"


def pixels(data: FewShotSet, cell: Cell) -> Outcome:
    """The interpreter's MLPs on colour, local means and position; no generator."""
    draw, watch = data.draw(cell.count, cell.draw), Stopwatch()
    maps = [[picture_maps(image)] for image in tensors(draw).split(1)]
    ensemble = fit_ensemble(
        lambda n: maps[n],
        np.stack(draw.masks),
        data.partonomy.num_classes,
        paper_settings(data.partonomy.num_classes, seed=cell.seed),
    )
    fitted = watch.seconds()
    found = [
        _ensemble_labels(ensemble, [picture_maps(image)]) for image in tensors(data.test()).split(1)
    ]
    seconds = (watch.seconds() - fitted) / len(found)
    return Outcome(np.stack(found), None, None, fitted, seconds, {})


@dataclass(frozen=True)
class Inverted:
    """All pictures of the set, inverted. w: [N, num_ws, w_dim]. factors: r in [0, 1] of each.
    seconds: what one inversion takes. error: the median, see `Inversion`."""

    w: Tensor
    factors: list[float]
    seconds: float
    error: float


def inverted(
    data: FewShotSet,
    generator: Generator,
    encoder: Encoder,
    errors: InDomainErrors | None,
    settings: InversionSettings | None = None,
) -> Inverted:
    """Every picture of the set, by the default inversion where `settings` are not given."""
    side, watch = generator.resolution, Stopwatch()
    small = [resize(image, side, side) for image in data.pairs.images]
    found = invert_all(generator, encoder, small, settings or InversionSettings())
    factors = [1.0] * len(small)
    if errors is not None:
        factors = [
            reconstruction_factor(float(error), errors.median, errors.limit)
            for error in found.errors
        ]
    return Inverted(found.w, factors, watch.seconds() / len(small), float(found.errors.median()))


def interpreter(
    data: FewShotSet, cell: Cell, generator: Generator, latents: Inverted, maps: str
) -> Outcome:
    """The paper's interpreter on inverted pictures, alone or with the picture's own maps."""
    draw, watch = data.draw(cell.count, cell.draw), Stopwatch()
    chosen = data.order(cell.draw)[: cell.count]
    images = tensors(draw)
    ensemble = fit_ensemble(
        lambda n: feature_maps(generator, latents.w[chosen[n]][None], maps, images[n : n + 1]),
        np.stack(draw.masks),
        data.partonomy.num_classes,
        paper_settings(data.partonomy.num_classes, seed=cell.seed, members=INTERPRETER_MEMBERS),
    )
    fitted = watch.seconds()
    found = []
    for w, image in zip(latents.w[data.pool :], tensors(data.test()).split(1), strict=True):
        read = feature_maps(generator, w[None], maps, image)
        found.append(ensemble.predict(read, (image.shape[2], image.shape[3])))
    seconds = (watch.seconds() - fitted) / len(found) + latents.seconds
    return outcome_of(found, latents.factors[data.pool :], fitted, seconds)


def student(data: FewShotSet, cell: Cell, backbone: Backbone) -> Outcome:
    """The default for pictures from outside: U-Nets that begin with the generator's backbone,
    or at random where it has none."""
    draw, watch = data.draw(cell.count, cell.draw), Stopwatch()
    fitted_student = fit_student(
        tensors(draw),
        masks(draw),
        data.partonomy.num_classes,
        StudentSettings(unet=default_unet(data, cell.seed)).for_labels(cell.count),
        config=backbone.config,
        trunk=backbone.tensors or None,
    )
    fitted = watch.seconds()
    images = tensors(data.test())
    found = [fitted_student.predict(image) for image in images.split(1)]
    familiar = backbone.factors(images)
    seconds = (watch.seconds() - fitted) / len(found)
    return outcome_of(found, familiar, fitted, seconds)


def outcome_of(
    found: list[PixelPrediction], familiar: list[float], fitted: float, seconds: float
) -> Outcome:
    """Of what was said of each picture and how familiar each is; seconds as `Outcome` has them."""
    uncertainty = np.stack([p.uncertainty.float().numpy() for p in found])
    scores = [score(expected_iou(p.probabilities), r) for p, r in zip(found, familiar, strict=True)]
    labels = torch.stack([p.probabilities.argmax(dim=0) for p in found]).to(torch.uint8).numpy()
    return Outcome(labels, uncertainty, np.array(scores), fitted, seconds, {})


@dataclass(frozen=True)
class KeptUNets:
    """U-Nets of one choice of rate and pictures seen, kept in a folder for all that need them.

    key: of all that their weights depend on.
    """

    choice: dict[str, Any]
    folder: Path
    key: str

    def get(self, data: FewShotSet, cell: Cell) -> tuple[UNet, float]:
        """The network of a cell, and the seconds that its fit took."""
        path = self.folder / f"{cell.name}-{self.key}.safetensors"
        if not path.is_file():
            self._fit(data, cell, path)
        stored = read_tensors(path)
        seconds = float(stored.pop(_SECONDS))
        network = new_unet(data.partonomy.num_classes, cell.seed)
        network.load_state_dict(stored)
        return network.eval().requires_grad_(False), seconds

    def _fit(self, data: FewShotSet, cell: Cell, path: Path) -> None:
        draw, watch = data.draw(cell.count, cell.draw), Stopwatch()
        settings = unet_settings(data, self.choice, cell.seed)
        network = fit_unet(tensors(draw), masks(draw), data.partonomy.num_classes, settings)
        seconds = torch.tensor(watch.seconds())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {**network.state_dict(), _SECONDS: seconds}, dtype=None)


def unet_settings(data: FewShotSet, choice: dict[str, Any], seed: int = 0) -> UNetSettings:
    """Of the U-Nets that start at random."""
    return replace(default_unet(data, seed), rate=choice["rate"], pictures=choice["pictures"])


def default_unet(data: FewShotSet, seed: int = 0) -> UNetSettings:
    """As `fit` has it for these classes."""
    augment = AugmentSettings().for_classes(data.partonomy.mirrored)
    if data.turns:
        augment = augment.at_any_angle()
    return UNetSettings(seed=seed, augment=augment)


def unet(data: FewShotSet, cell: Cell, kept: KeptUNets) -> Outcome:
    """A U-Net that starts at random, the student's own network and augmentation."""
    network, fitted = kept.get(data, cell)
    watch = Stopwatch()
    labels = unet_labels(network, tensors(data.test()))
    return Outcome(labels, None, None, fitted, watch.seconds() / len(labels), {})


def unets(data: FewShotSet, cell: Cell, kept: KeptUNets) -> Outcome:
    """As many of them as the student has, which vote as its networks do."""
    count = StudentSettings().members
    each = [kept.get(data, Cell("unet", cell.count, cell.draw, seed)) for seed in range(count)]
    augment = default_unet(data).augment
    voting = Student([network for network, _ in each], augment.mirror, augment.swap)
    watch = Stopwatch()
    found = [voting.predict(image) for image in tensors(data.test()).split(1)]
    seconds = watch.seconds() / len(found)
    return outcome_of(found, [1.0] * len(found), sum(s for _, s in each), seconds)


def choose_unet(data: FewShotSet, cell: Cell) -> dict[str, Any]:
    """Rate and budget of the U-Net at one count, by mIoU on the pool's held-back pictures.

    These 20 labels are seen by no method, so they are a favour to this baseline. First the rate,
    at the first budget; then the budget is doubled until that gains less than GAIN. The last one
    that gained more is taken, and `left` says what the next one would have gained: None when
    there was no larger one to try.
    """
    held = data.held_back(cell.draw)
    tried: list[dict[str, Any]] = []

    def gain(rate: float, pictures: int) -> float:
        draw = data.draw(cell.count, cell.draw)
        settings = unet_settings(data, {"rate": rate, "pictures": pictures}, cell.seed)
        network = fit_unet(tensors(draw), masks(draw), data.partonomy.num_classes, settings)
        found = unet_labels(network, tensors(held))
        counts = metrics.confusion(np.stack(held.masks), found, data.partonomy.num_classes)
        reached = metrics.mean_iou(counts)
        tried.append({"rate": rate, "pictures": pictures, "miou": reached})
        return reached

    best = max((gain(rate, BUDGETS[0]), rate) for rate in RATES)
    chosen, reached, left = BUDGETS[0], best[0], None
    for budget in BUDGETS[1:]:
        now = gain(best[1], budget)
        if now < reached + GAIN:
            left = now - reached
            break
        chosen, reached = budget, now
    return {"rate": best[1], "pictures": chosen, "left": left, "tried": tried}


def paper_settings(classes: int, seed: int = 0, members: int = 10) -> FitSettings:
    """What the rows of the paper's networks are fitted with: all features, its widths."""
    return FitSettings(members=members, hidden=paper_widths(classes), directions=0, seed=seed)


@torch.inference_mode()
def unet_labels(network: SegmentationNetwork, images: Tensor) -> npt.NDArray[np.uint8]:
    """[T, 3, S, S] -> [T, S, S] uint8."""
    parts = [network(batch).argmax(dim=1) for batch in images.split(_BATCH)]
    return torch.cat(parts).to(torch.uint8).numpy()


def _ensemble_labels(ensemble: Ensemble, maps: Sequence[Tensor]) -> npt.NDArray[np.uint8]:
    size = (maps[0].shape[2], maps[0].shape[3])
    found = ensemble.predict(maps, size).probabilities.argmax(dim=0)
    return found.to(torch.uint8).numpy()


def tensors(pairs: LabeledPictures) -> Tensor:
    """[N, 3, S, S] float32 in [-1, 1]."""
    return to_tensor(np.stack(pairs.images))


def masks(pairs: LabeledPictures) -> Tensor:
    """[N, S, S] uint8."""
    return torch.from_numpy(np.stack(pairs.masks))
