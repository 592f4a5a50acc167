"""What is measured, each in a process of its own. All arguments can be sent to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dgan_backend import metrics
from dgan_backend.benchmark.clusters import border_share
from dgan_backend.benchmark.measuring import available_bytes, median, timed
from dgan_backend.benchmark.reference import (
    dense_weights,
    reference_fit,
    reference_labels,
    reference_step_seconds,
)
from dgan_backend.benchmark.scene import (
    CLASSES,
    PICTURES,
    Scene,
    fit_masks,
    make_generator,
    make_masks,
)
from dgan_backend.errors import DganError
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.interpreter import Ensemble, FitSettings, PixelPrediction
from dgan_backend.interpreter.refine import EXACT, Refinement, refinement_for
from dgan_backend.interpreter.uncertainty import expected_iou, image_uncertainty, score
from dgan_backend.pictures import load_picture, resize, to_pictures, to_tensor
from dgan_backend.reading import invert_all
from dgan_backend.segmenter import Segmenter
from dgan_backend.versions import SHIPPED

DEMO = SHIPPED.parent / "demo"
_UNSEEN = 1000  # seeds of pictures that nothing was fitted on
REFERENCE_PIXELS = 2**18  # that the original's way labels, at most; the rest is extrapolated
_WARM = 1  # rounds that are not counted
_SPARE = 1.25  # of the features' memory that has to be free


@dataclass(frozen=True)
class Case:
    """One generator: a shipped version's name, or the numbers of one with random weights.

    fitted: file of its ensemble's weights, where it has random ones. pictures are labeled in
    batches of `batch`.
    """

    version: str = ""
    config: StyleGAN2Config | None = None
    fitted: Path = Path()
    pictures: int = 8
    batch: int = 1

    def load(self) -> Scene:
        if self.config is None:
            made = Segmenter.load(self.version)
            return Scene(made.generator, made.ensemble)
        weights = Ensemble.from_tensors(load_file(self.fitted))
        return Scene(make_generator(self.config), weights)

    def batches(self) -> list[range]:
        return [
            range(_UNSEEN + start, _UNSEEN + start + self.batch)
            for start in range(0, self.pictures, self.batch)
        ]


def fit_scene(config: StyleGAN2Config, path: Path, settings: FitSettings) -> dict[str, Any]:
    """Fit a random generator's interpreter and keep it; seconds of the fit alone."""
    generator = make_generator(config)
    masks = make_masks(generator)
    seconds, ensemble = timed(lambda: fit_masks(generator, masks, settings))
    save_file({k: v.contiguous() for k, v in ensemble.tensors().items()}, path)
    return {"seconds": seconds}


def compare(case: Case) -> dict[str, Any]:
    """Seconds a picture alone, labeled, and labeled exactly, in turns; and how they differ."""
    scene = case.load()
    generator, ensemble = scene.generator, scene.ensemble
    side = generator.resolution
    ways: list[Refinement | None] = [None, refinement_for(side), EXACT]
    seconds: list[list[float]] = [[], [], []]
    pairs: list[tuple[PixelPrediction, PixelPrediction]] = []
    batches = case.batches()
    for number, seeds in enumerate([*batches[:_WARM], *batches]):
        found: list[list[PixelPrediction]] = []
        for way, times in zip(ways, seconds, strict=True):
            taken, said = timed(partial(labeled, scene, seeds, way))
            found.append(said)
            if number >= _WARM:
                times.append(taken / len(seeds))
        if number >= _WARM:
            pairs += zip(found[1], found[2], strict=True)
    image, fast, exact = map(median, seconds)
    return {
        "generator": generator.card.name,
        "resolution": side,
        "members": ensemble.members,
        "classes": ensemble.num_classes,
        "batch": case.batch,
        "pictures": len(pairs),
        "image_s": image,
        "labeled_s": fast,
        "labeled_exact_s": exact,
        "labeled_over_image": fast / image,
        **agreement(pairs),
    }


@torch.inference_mode()
def labeled(scene: Scene, seeds: Sequence[int], how: Refinement | None) -> list[PixelPrediction]:
    """Pictures as they are shown, and all that is said of them: labels, uncertainty and score.

    how: None = the pictures alone.
    """
    generator = scene.generator
    z = torch.cat([generator.latent_from_seed(seed) for seed in seeds])
    out = generator.synthesis(generator.mapping(z, truncation=generator.card.truncation))
    to_pictures(out.images)
    if how is None:
        return []
    side = generator.resolution
    found = scene.ensemble.predict_all(out.features, (side, side), how)
    for one in found:
        one.vote.to(torch.uint8)
        score(expected_iou(one.probabilities))
    return found


def agreement(pairs: Sequence[tuple[PixelPrediction, PixelPrediction]]) -> dict[str, Any]:
    """How the first of each pair stands to the second, which is exact."""
    classes = len(pairs[0][0].probabilities)
    near, exact = (
        np.stack([pair[n].vote.numpy() for pair in pairs]).astype(np.int64) for n in (0, 1)
    )
    counts = metrics.confusion(exact.ravel(), near.ravel(), classes)
    ious = metrics.class_iou(counts)
    uncertainty = [[image_uncertainty(p.uncertainty.numpy()) for p in pair] for pair in pairs]
    ranks = metrics.spearman(*np.array(uncertainty).T) if len(pairs) > 2 else None
    return {
        "agreement": float((near == exact).mean()),
        "worst_class_iou": float(np.nanmin(ious)),
        "uncertainty_rank_correlation": ranks,
        "border_share": float(np.mean([border_share(one) for one in exact])),
        "fine_share": float(np.mean([pair[0].read for pair in pairs])),
    }


def memory(case: Case) -> dict[str, Any]:
    """The default way, on its own, for its peak."""
    scene = case.load()
    for seeds in case.batches()[:2]:
        labeled(scene, seeds, refinement_for(scene.generator.resolution))
    return {}


@torch.inference_mode()
def reference(case: Case) -> dict[str, Any]:
    """Seconds a picture of the original's way; extrapolated from its first rows where it is large,
    or memory does not hold it."""
    scene = case.load()
    side = scene.generator.resolution
    weights = dense_weights(scene.ensemble)
    a_row = 4 * weights.shape[2] * side * _SPARE
    rows = max(1, min(side, REFERENCE_PIXELS // side, int(available_bytes() / a_row)))
    seed = case.batches()[0][0]
    out = scene.generator.synthesis(scene.latent(seed))
    base_s, _ = timed(lambda: scene.generator.synthesis(scene.latent(seed)))
    taken, said = timed(
        lambda: reference_labels(scene.ensemble, weights, out.features, (side, side), rows)
    )
    ours = scene.ensemble.predict(out.features, (side, side))
    same = float((said.vote == ours.vote[:rows]).double().mean())
    return {
        "reference_s": base_s + taken * side / rows,
        "reference_rows": rows,
        "same": same,
        "feature_bytes": 4 * weights.shape[2] * side * side,
        "held_bytes": 4 * weights.shape[2] * side * rows,
    }


def fit_reference(config: StyleGAN2Config, settings: FitSettings, steps: int) -> dict[str, Any]:
    """The original's fit on as many pictures, extrapolated from `steps` steps of one member."""
    features = sum(make_generator(config).synthesis.feature_channels)
    hidden = settings.hidden or (128, 32)
    taken = reference_step_seconds(features, CLASSES, hidden, steps)
    told = reference_fit(PICTURES, config.resolution, features, settings.members, taken)
    return {"reference_s": told["seconds"], "reference_bytes": told["peak_bytes"], "steps": steps}


def invert_and_label(version: str, rounds: int) -> dict[str, Any]:
    """A picture from outside: its latent, then its labels by the interpreter, uncertainty
    included; and what the version's own way takes, which may be its student."""
    segmenter = Segmenter.load(version)
    if segmenter.encoder is None:
        raise DganError(f"the generator of {version} has no encoder, so nothing is inverted.")
    encoder, side = segmenter.encoder[0], segmenter.generator.resolution
    picture = load_picture(sorted(DEMO.glob("*.png"))[0])
    square = resize(picture, side, side)
    seconds: list[list[float]] = [[], [], []]
    for _ in range(rounds + _WARM):
        taken, found = timed(
            lambda: invert_all(segmenter.generator, encoder, [square], segmenter.inversion)
        )
        seconds[0].append(taken)
        with torch.inference_mode():
            grid = to_tensor(np.stack([resize(picture, *[segmenter.card.label_resolution] * 2)]))
            seconds[1].append(timed(partial(segmenter.read_latent, found.w, grid))[0])
        seconds[2].append(timed(partial(segmenter.segment_image, picture))[0])
    invert, label, own = (median(values[_WARM:]) for values in seconds)
    return {
        "version": segmenter.version,
        "refinement_steps": segmenter.inversion.steps,
        "invert_s": invert,
        "label_s": label,
        "invert_and_label_s": invert + label,
        "default_way": segmenter.card.outside,
        "default_way_s": own,
    }
