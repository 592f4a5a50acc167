"""Telling causes apart: where does the interpreter lose what it loses on outside pictures?

A network trained on thousands of rendered pairs stands in for the person, so that pictures that
have no true mask, samples and reconstructions, can be labeled as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend import metrics
from dgan_backend.errors import DganError
from dgan_backend.evaluation.few_shot import LABELS, FewShotSet
from dgan_backend.evaluation.methods import (
    INTERPRETER_MEMBERS,
    paper_settings,
    tensors,
    unet_labels,
)
from dgan_backend.generators import Generator
from dgan_backend.generators.native import read_tensors
from dgan_backend.interpreter import fit_ensemble
from dgan_backend.pictures import resize, to_pictures, to_tensor
from dgan_backend.reading import feature_maps
from dgan_backend.student.unet import UNet, UNetConfig

SAMPLES = 100  # for testing, behind as many for drawing as the set has

Steps = Callable[[Iterable[int]], Iterable[int]]


def load_person(path: Path, classes: int) -> UNet:
    """The stand-in for the person, a U-Net of the student's shape. Raises DganError."""
    if not path.is_file():
        raise DganError(f"there is no {path}; name the stand-in's weights with --person.")
    network = UNet(UNetConfig(), classes)
    try:
        network.load_state_dict({k: v.float() for k, v in read_tensors(path).items()})
    except RuntimeError as error:
        raise DganError(f"{path} is no U-Net of {classes} classes ({error}).") from error
    return network.eval().requires_grad_(False)


def tell_apart(
    data: FewShotSet,
    generator: Generator,
    latents: Tensor,
    person: UNet,
    draw: int,
    progress: Steps = iter,
) -> dict[str, float]:
    """mIoU of the interpreter from 16 labels of one draw, in [0, 1].

    latents: w+ of the set's pictures, [N, num_ws, w_dim].
    'samples': samples with exact latents, labeled by the person. 'reconstructions': what the
    inversion made of the set's pictures, labeled by the person. 'pictures': the pictures
    themselves with their true masks. 'person': the stand-in on the pictures, against the truth.
    """
    side = data.pairs.masks[0].shape[0]
    z = torch.cat([generator.latent_from_seed(seed) for seed in range(data.pool + SAMPLES)])
    with torch.no_grad():
        w = generator.mapping(z, truncation=generator.card.truncation)
    pictures = tensors(data.pairs)
    truth = np.stack(data.pairs.masks)
    chosen = data.order(draw)[:LABELS]

    def reached(w: Tensor, images: Tensor, labels: npt.NDArray[np.uint8]) -> float:
        return _interpreter(data, generator, w, images, labels, chosen, progress)

    samples, remade = _made(generator, w, side), _made(generator, latents, side)
    on_pictures = unet_labels(person, pictures[data.pool :])
    counts = metrics.confusion(truth[data.pool :], on_pictures, data.partonomy.num_classes)
    return {
        "samples": reached(w, samples, unet_labels(person, samples)),
        "reconstructions": reached(latents, remade, unet_labels(person, remade)),
        "pictures": reached(latents, pictures, truth),
        "person": metrics.mean_iou(counts),
    }


def _interpreter(
    data: FewShotSet,
    generator: Generator,
    w: Tensor,
    images: Tensor,
    labels: npt.NDArray[np.uint8],
    chosen: npt.NDArray[np.intp],
    progress: Steps,
) -> float:
    """Fit on the chosen ones of the pool, test on all after it."""
    classes = data.partonomy.num_classes
    ensemble = fit_ensemble(
        lambda n: feature_maps(generator, w[chosen[n]][None], "generator"),
        labels[chosen],
        classes,
        paper_settings(classes, members=INTERPRETER_MEMBERS),
    )
    size = (images.shape[2], images.shape[3])
    found = [
        ensemble.predict(feature_maps(generator, w[n][None], "generator"), size)
        .probabilities.argmax(dim=0)
        .numpy()
        for n in progress(range(data.pool, len(w)))
    ]
    return metrics.mean_iou(metrics.confusion(labels[data.pool :], np.stack(found), classes))


@torch.no_grad()
def _made(generator: Generator, w: Tensor, side: int) -> Tensor:
    """What latents make, on the label grid: [N, 3, side, side] float32 in [-1, 1]."""
    made = [to_pictures(generator.synthesis(part).images) for part in w.split(8)]
    return to_tensor(np.stack([resize(p, side, side) for p in np.concatenate(made)]))
