"""Fitting one U-Net on labeled pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor
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
from dgan_backend.student.unet import UNet, UNetConfig

_NEVER = -30.0  # logit of a class that no label shows
_RARE = -4.0  # logit at which such a class begins when training goes on
_HEAD_RATE, _HEAD_STEPS, _HEAD_PIXELS = 0.05, 150, 64  # pixels: of each picture, twice
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


def fit_unet(
    images: Tensor,
    masks: Tensor,
    num_classes: int,
    settings: UNetSettings | None = None,
    *,
    config: UNetConfig | None = None,
    trunk: dict[str, Tensor] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> UNet:
    """Fit a U-Net on N labeled pictures.

    images: [N, 3, S, S] float32 in [-1, 1]; masks: [N, S, S] uint8 in [0, num_classes), 255 =
    ignore. config: the trunk's widths. trunk: tensors of a trained trunk to begin with, else it
    begins at random. progress: wraps the step numbers, such as `tqdm`.
    Raises DganError when no pixel is labeled.
    """
    settings = settings or UNetSettings()
    network = new_unet(num_classes, settings.seed, config, trunk).to(images.device)
    return train_unet(network, images, masks, settings, progress)


def new_unet(
    num_classes: int,
    seed: int,
    config: UNetConfig | None = None,
    trunk: dict[str, Tensor] | None = None,
) -> UNet:
    """A U-Net as `fit_unet` begins with it. Not for many threads at once: it draws from torch's
    global generator, which it leaves as it was."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(config or UNetConfig(), num_classes)
    if trunk is not None:
        network.trunk.load_state_dict({k: v.float() for k, v in trunk.items()})
    return network


def continued_unet(network: UNet, correction: Sequence[float | None]) -> UNet:
    """A copy that `train_unet` can go on with: what was folded into its head is taken back.

    correction: as `correction_of` gave it for the labels that it was trained on. Classes that
    those did not show begin anew, rare but possible.
    """
    with torch.inference_mode(False), torch.no_grad():
        copy = deepcopy(network).requires_grad_(True)
        bias = _bias(copy)
        for k, shift in enumerate(correction):
            if shift is None:
                copy.head.weight[k] = 0.0
                bias[k] = _RARE
            else:
                bias[k] += shift
    return copy


def begin_classes(
    network: UNet, images: Tensor, masks: Tensor, classes: Sequence[int], settings: UNetSettings
) -> None:
    """Teach the head classes that are new to it, in place; the trunk and all others stay.

    images [N, 3, S, S], masks [N, S, S] as `fit_unet` has them. A new row would need hundreds of
    the steps that the others move by; on features that stay as they are it takes a moment
    (softmax regression on pixels, as many of each class).
    """
    shown = [k for k in classes if bool((masks == k).any())]
    if not shown:
        return
    random = torch.Generator().manual_seed(settings.seed)
    features, labels = _pixels(network, images, masks, shown, random)
    rows = torch.tensor(shown)
    with torch.inference_mode(False), torch.enable_grad():
        weight, bias = network.head.weight.detach()[:, :, 0, 0], _bias(network).detach()
        own = weight[rows].clone().requires_grad_(True)
        own_bias = torch.zeros(len(shown)).to(bias).requires_grad_(True)
        optimizer = torch.optim.Adam([own, own_bias], lr=_HEAD_RATE)
        for _ in range(_HEAD_STEPS):
            w, b = weight.index_copy(0, rows, own), bias.index_copy(0, rows, own_bias)
            loss = F.cross_entropy(features @ w.T + b, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        network.head.weight[rows, :, 0, 0] = own.detach()
        _bias(network)[rows] = own_bias.detach()


@torch.no_grad()
def _pixels(
    network: UNet, images: Tensor, masks: Tensor, classes: Sequence[int], random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Features [P, C] and labels [P] of pixels: half of `classes`, half of all others."""
    network.eval()
    features, labels = [], []
    for image, mask in zip(images.split(1), masks, strict=True):
        flat, truth = network.trunk(image)[0][0].flatten(1).T, mask.flatten().long()
        own = torch.isin(truth, torch.tensor(classes))
        for where in (own, ~own & (truth != IGNORE)):
            (found,) = torch.where(where)
            if len(found):
                chosen = found[torch.randint(len(found), (_HEAD_PIXELS,), generator=random)]
                features.append(flat[chosen])
                labels.append(truth[chosen])
    return torch.cat(features), torch.cat(labels)


def correction_of(masks: Tensor, num_classes: int, settings: UNetSettings) -> list[float | None]:
    """What `train_unet` subtracts from each class's logit at its end; None for a class that masks
    [N, S, S] do not show, which is never said."""
    weights = class_weights(masks, num_classes, settings.balance)
    return [settings.prior * float(w.log()) if w > 0 else None for w in weights]


def train_unet(
    network: UNet,
    images: Tensor,
    masks: Tensor,
    settings: UNetSettings,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> UNet:
    """The training of `fit_unet`, in place; safe in many threads, each with its own network."""
    random = torch.Generator().manual_seed(settings.seed)
    num_classes = network.head.out_channels
    weights = class_weights(masks, num_classes, settings.balance).to(images.device)
    with torch.inference_mode(False), torch.enable_grad():
        steps = max(4, settings.pictures // settings.batch)
        optimizers, schedules = _optimizers(network, settings, steps)
        network.train()
        for _ in progress(range(steps)):
            chosen = torch.randint(len(images), (settings.batch,), generator=random)
            x, y = changed(images[chosen], masks[chosen], settings.augment, random)
            loss = F.cross_entropy(network(x), y, weight=weights, ignore_index=IGNORE)
            network.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
        _correct(network, correction_of(masks, num_classes, settings))
    return network.eval().requires_grad_(False)


def _optimizers(
    network: UNet, settings: UNetSettings, steps: int
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.OneCycleLR]]:
    """Muon for the trunk's kernels, AdamW for all else, each over one cycle of its rate."""
    first = next(p for p in network.trunk.parameters() if p.ndim > 1)  # reads colours: no mixing
    kernels = [p for p in network.trunk.parameters() if p.ndim > 1 and p is not first]
    taken = {id(p) for p in kernels}
    rest = [p for p in network.parameters() if id(p) not in taken]
    optimizers = [
        Muon(kernels, settings.rate),
        torch.optim.AdamW(rest, settings.rest_rate, weight_decay=settings.weight_decay),
    ]
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            rate,
            total_steps=steps,
            pct_start=max(_RISE, 2.0 / steps),
            cycle_momentum=False,
        )
        for optimizer, rate in zip(optimizers, (settings.rate, settings.rest_rate), strict=True)
    ]
    return optimizers, schedules


@torch.no_grad()
def _correct(network: UNet, correction: Sequence[float | None]) -> None:
    """Fold the correction into the head's bias; classes never seen are never said."""
    bias = _bias(network)
    for k, shift in enumerate(correction):
        bias[k] = _NEVER if shift is None else bias[k] - shift


def _bias(network: UNet) -> Tensor:
    if network.head.bias is None:
        raise TypeError("the head of a U-Net has a bias")
    return network.head.bias


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
    if not counts.any():
        raise DganError("No pixel is labeled (all are 255 = ignore); label a part first.")
    share = counts.double() / counts.sum()
    weights = torch.where(counts > 0, share.clamp_min(1e-12) ** -balance, 0.0)
    return (weights / (weights * share).sum()).float()
