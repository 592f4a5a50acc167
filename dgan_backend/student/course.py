"""The training of one network, a step at a time: it can be stopped and gone on with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgan_backend.errors import DganError
from dgan_backend.merging import IGNORE
from dgan_backend.student.augment import (
    AugmentSettings,
    crop_side,
    moved,
    moved_masks,
    recolored,
    swapped,
    warp,
)
from dgan_backend.student.muon import Muon
from dgan_backend.student.network import SegmentationNetwork

_NEVER = -30.0  # logit of a class that no label shows
_FEWEST_STEPS = 4
_RISE = 0.1  # share of the steps in which the rate rises to its largest (Smith & Topin, 2019)


@dataclass(frozen=True)
class UNetSettings:
    """pictures: seen in all, with repeats. rate: the largest of Muon's one cycle, which moves the
    kernels; rest_rate and weight_decay: of AdamW, which moves norms and head. balance: class
    weights are frequency^-balance, since without them small parts are never found. prior: how
    far that is taken back once they are found, in [0, 1]: log weights times it are subtracted
    from the logits (Menon et al., ICLR 2021, the post-hoc adjustment the other way round)."""

    pictures: int = 9600
    batch: int = 4
    rate: float = 0.1
    rest_rate: float = 4e-3
    weight_decay: float = 0.01
    balance: float = 0.5
    prior: float = 0.6
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    seed: int = 0

    @property
    def steps(self) -> int:
        return max(_FEWEST_STEPS, self.pictures // self.batch)


class Course:
    """Steps that move the network's parameters; those that need no gradient stay as they are.

    weights: of each class, [K] float32 as `class_weights` has them. steps_done: so far.
    """

    def __init__(
        self, network: SegmentationNetwork, weights: Tensor, settings: UNetSettings
    ) -> None:
        self.network, self.settings = network, settings
        self.weights = weights.to(next(network.parameters()).device)
        self.random = torch.Generator().manual_seed(settings.seed)
        self.steps_done = 0
        self._frozen = [m for m in network.modules() if _frozen(m)]
        with torch.inference_mode(False), torch.enable_grad():
            self._optimizers, self._schedules = _optimizers(network, settings)

    def changed(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """A batch, augmented."""
        return changed(images, masks, self.settings.augment, self.random)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, weight=self.weights, ignore_index=IGNORE)

    def said(self, logits: Tensor) -> Tensor:
        """Labels [N, H, W] int64 of logits [N, K, H, W] as the finished network would say them."""
        taken = correction_by(self.weights, self.settings.prior)
        shift = torch.tensor([math.inf if t is None else t for t in taken], device=logits.device)
        return (logits.detach() - shift[:, None, None]).argmax(dim=1)

    def step(self, images: Tensor, masks: Tensor) -> float:
        """Learn from a batch [N, 3, S, S] and its masks [N, S, S]; returns the loss."""
        with torch.inference_mode(False), torch.enable_grad():
            x, y = self.changed(images, masks)
            self.begin_step()
            loss = self.loss(self.network(x), y)
            self.move(loss)
        return float(loss.detach())

    def begin_step(self) -> None:
        """For steps with losses of their own, before the network is asked; then `move`."""
        self.network.train()
        for module in self._frozen:
            module.eval()
        self.network.zero_grad(set_to_none=True)

    def move(self, loss: Tensor) -> None:
        loss.backward()
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
        self.steps_done += 1

    def state(self) -> dict[str, Any]:
        """All that going on needs, as `torch.save` writes it."""
        return {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedules": [schedule.state_dict() for schedule in self._schedules],
            "random": self.random.get_state(),
            "steps_done": self.steps_done,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises KeyError, ValueError or RuntimeError when it is of another course."""
        self.network.load_state_dict(state["network"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        for schedule, kept in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(kept)
        self.random.set_state(state["random"])
        self.steps_done = int(state["steps_done"])

    def finish(self) -> None:
        """Make the network ready for use."""
        finish(self.network, self.weights, self.settings.prior)


@torch.no_grad()
def finish(network: SegmentationNetwork, weights: Tensor, prior: float) -> None:
    """Take class weights partly back in the head's bias; classes never seen are never said."""
    bias = bias_of(network)
    for k, shift in enumerate(correction_by(weights, prior)):
        bias[k] = _NEVER if shift is None else bias[k] - shift
    network.eval().requires_grad_(False)


def changed(
    images: Tensor, masks: Tensor, settings: AugmentSettings, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A batch [N, 3, S, S] and its masks [N, S, S] moved together, cropped, and recoloured."""
    whole = images.shape[-1]
    side = crop_side(whole, settings.crop)
    affine = warp(len(images), settings, side / whole, random).to(images.device)
    pictures = recolored(moved(images, affine, side), settings.color, random)
    return pictures, swapped(moved_masks(masks, affine, side), affine, settings.swap)


def class_weights(masks: Tensor, num_classes: int, balance: float) -> Tensor:
    """frequency^-balance of each class, [K] float32, 1 on average over the labeled pixels.

    0 for classes that are nowhere. Raises DganError when no pixel is labeled.
    """
    counts = torch.bincount(masks[masks != IGNORE].flatten().long(), minlength=num_classes)
    return weights_by(counts.double(), balance)


def weights_by(counts: Tensor, balance: float) -> Tensor:
    """As `class_weights`, of the pixels of each class, [K] float64."""
    if not counts.any():
        raise DganError("No pixel is labeled (all are 255 = ignore); label a part first.")
    share = counts / counts.sum()
    weights = torch.where(counts > 0, share.clamp_min(1e-12) ** -balance, 0.0)
    return (weights / (weights * share).sum()).float()


def correction_by(weights: Tensor, prior: float) -> list[float | None]:
    """What `Course.finish` subtracts from each class's logit; None: the class is never said."""
    return [prior * float(w.log()) if w > 0 else None for w in weights]


def bias_of(network: SegmentationNetwork) -> Tensor:
    if network.head.bias is None:
        raise TypeError("the head of a network has a bias")
    return network.head.bias


def _frozen(module: nn.Module) -> bool:
    own = list(module.parameters())
    return bool(own) and not any(p.requires_grad for p in own)


def _optimizers(
    network: SegmentationNetwork, settings: UNetSettings
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.OneCycleLR]]:
    """Muon for all kernels but the first (it reads colours, which are not to be mixed) and the
    head's, AdamW for all else, each over one cycle of its rate."""
    apart = {id(network.first.weight), id(network.head.weight)}
    learning = [p for p in network.parameters() if p.requires_grad]
    kernels = [p for p in learning if p.ndim > 1 and id(p) not in apart]
    taken = {id(p) for p in kernels}
    rest = [p for p in learning if id(p) not in taken]
    optimizers: Sequence[torch.optim.Optimizer] = [
        Muon(kernels, settings.rate),
        torch.optim.AdamW(rest, settings.rest_rate, weight_decay=settings.weight_decay),
    ]
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            rate,
            total_steps=settings.steps,
            pct_start=max(_RISE, 2.0 / settings.steps),
            cycle_momentum=False,
        )
        for optimizer, rate in zip(optimizers, (settings.rate, settings.rest_rate), strict=True)
    ]
    return list(optimizers), schedules
