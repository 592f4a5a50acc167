"""Fitting one U-Net on labeled pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.merging import IGNORE
from dgan_backend.student.course import (
    Course,
    UNetSettings,
    bias_of,
    class_weights,
    correction_by,
)
from dgan_backend.student.network import SegmentationNetwork
from dgan_backend.student.unet import UNet, UNetConfig

_RARE = -4.0  # logit at which such a class begins when training goes on
_HEAD_RATE, _HEAD_STEPS, _HEAD_PIXELS = 0.05, 150, 64  # pixels: of each picture, twice
Network = TypeVar("Network", bound=SegmentationNetwork)


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


def continued(network: Network, correction: Sequence[float | None]) -> Network:
    """A copy that `train_unet` can go on with: what was folded into its head is taken back.

    correction: as `correction_of` gave it for the labels that it was trained on. Classes that
    those did not show begin anew, rare but possible.
    """
    with torch.inference_mode(False), torch.no_grad():
        copy = deepcopy(network).requires_grad_(True)
        bias = bias_of(copy)
        for k, shift in enumerate(correction):
            if shift is None:
                copy.head.weight[k] = 0.0
                bias[k] = _RARE
            else:
                bias[k] += shift
    return copy


def begin_classes(
    network: SegmentationNetwork,
    images: Tensor,
    masks: Tensor,
    classes: Sequence[int],
    settings: UNetSettings,
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
        weight, bias = network.head.weight.detach()[:, :, 0, 0], bias_of(network).detach()
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
        bias_of(network)[rows] = own_bias.detach()


@torch.no_grad()
def _pixels(
    network: SegmentationNetwork,
    images: Tensor,
    masks: Tensor,
    classes: Sequence[int],
    random: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Features [P, C] and labels [P] of pixels: half of `classes`, half of all others."""
    network.eval()
    features, labels = [], []
    for image, mask in zip(images.split(1), masks, strict=True):
        flat, truth = network.features(image)[0].flatten(1).T, mask.flatten().long()
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
    return correction_by(weights, settings.prior)


def train_unet(
    network: Network,
    images: Tensor,
    masks: Tensor,
    settings: UNetSettings,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Network:
    """The training of `fit_unet`, in place; safe in many threads, each with its own network."""
    weights = class_weights(masks, network.num_classes, settings.balance)
    course = Course(network, weights, settings)
    for _ in progress(range(settings.steps)):
        chosen = torch.randint(len(images), (settings.batch,), generator=course.random)
        course.step(images[chosen], masks[chosen])
    course.finish()
    return network
