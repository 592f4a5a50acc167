"""What is measured: parts that may each run in a process of its own, whose arguments can be sent
there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from dgan_backend import metrics
from dgan_backend.benchmark.alone import Alone, Setting, fastest
from dgan_backend.benchmark.clusters import border_share
from dgan_backend.benchmark.measuring import available_bytes, median, timed
from dgan_backend.benchmark.reference import (
    dense_weights,
    reference_fit,
    reference_labels,
    reference_step_seconds,
    upsampled,
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
from dgan_backend.interpreter import Ensemble, FitSettings, PixelPrediction, fit_ensemble
from dgan_backend.interpreter.refine import EXACT, Refinement, refinement_for
from dgan_backend.interpreter.uncertainty import expected_iou, image_uncertainty, score
from dgan_backend.pictures import load_picture, resize, to_pictures, to_tensor
from dgan_backend.precision import FLOAT32, Numbers
from dgan_backend.reading import feature_maps, invert_all
from dgan_backend.segmenter import Segmenter, samples_at_once
from dgan_backend.versions import SHIPPED

DEMO = SHIPPED.parent / "demo"
UNSEEN = 1000  # seeds of pictures that nothing was fitted on
REFERENCE_PIXELS = 2**18  # that the original's way labels, at most; the rest is extrapolated
_WARM = 1  # rounds that are not counted
_RANKED = 16  # pictures whose order by uncertainty says something
_REFERENCE_TIMES = 2
_TESTED = 48  # samples
_SPARE = 1.25  # of the features' memory that has to be free


@dataclass(frozen=True)
class Case:
    """One generator: a shipped version's name, or the numbers of one with random weights.

    fitted: file of its ensemble's weights, where it has random ones. rounds: of every way in
    turn, for its time. compared: pictures on which the default way is held against the exact one.
    numbers: of the default way; the exact one takes float32.
    """

    version: str = ""
    config: StyleGAN2Config | None = None
    fitted: Path = Path()
    rounds: int = 8
    compared: int = 8
    numbers: Numbers = FLOAT32

    def load(self) -> Scene:
        if self.config is None:
            made = Segmenter.load(self.version)
            return Scene(made.generator, made.ensemble)
        weights = Ensemble.from_tensors(load_file(self.fitted))
        return Scene(make_generator(self.config), weights)


@dataclass(frozen=True)
class Said:
    """What is compared of one picture: vote [H, W] uint8, uncertainty of the whole picture, and
    the share of its pixels that was read."""

    vote: npt.NDArray[np.uint8]
    uncertainty: float
    read: float


def label_scene(config: StyleGAN2Config, path: Path) -> dict[str, Any]:
    """Label a random generator's pictures in a person's place, and keep the masks."""
    np.save(path, make_masks(make_generator(config)))
    return {"pictures": PICTURES}


def fit_scene(
    config: StyleGAN2Config, masks: Path, path: Path, settings: FitSettings
) -> dict[str, Any]:
    """Fit a random generator's interpreter and keep it; seconds of the fit alone."""
    generator, labeled_ones = make_generator(config), np.load(masks)
    seconds, ensemble = timed(lambda: fit_masks(generator, labeled_ones, settings))
    save_file({k: v.contiguous() for k, v in ensemble.tensors().items()}, path)
    return {"seconds": seconds}


def compare(case: Case) -> dict[str, Any]:
    """Seconds a picture alone, labeled, and labeled exactly, in turns; and how the last two differ.

    The picture alone is made in the setting that is fastest for it; labels come as
    `Segmenter.segment_seeds` makes them, in its batches.
    """
    scene = case.load()
    generator, ensemble, side = scene.generator, scene.ensemble, scene.generator.resolution
    alone, tried = fastest(generator, UNSEEN, case.numbers.maps)
    batch = samples_at_once(side)
    ways = ((refinement_for(side), case.numbers), (EXACT, FLOAT32))
    seconds: list[list[float]] = [[], [], []]
    pairs: list[tuple[Said, Said]] = []
    for number in range(-_WARM, case.rounds):
        first = UNSEEN + max(0, number) * batch
        own = range(first, first + alone.setting.batch)
        times = [timed(partial(alone, own))[0] / len(own)]
        found = []
        for way in ways:
            taken, said = timed(partial(labeled, scene, range(first, first + batch), *way))
            times.append(taken / batch)
            found.append(said)
        if number >= 0:
            pairs += zip(*found, strict=True)
            for column, taken in zip(seconds, times, strict=True):
                column.append(taken)
    for seed in range(UNSEEN + len(pairs), UNSEEN + case.compared):
        fast, exact = (labeled(scene, [seed], *way) for way in ways)
        pairs += zip(fast, exact, strict=True)
    image, fast_s, exact_s = map(median, seconds)
    return {
        "generator": generator.card.name,
        "resolution": side,
        "members": ensemble.members,
        "classes": ensemble.num_classes,
        "features": ensemble.num_features,
        "truncation": generator.card.truncation,
        "batch": batch,
        "rounds": case.rounds,
        "pictures": len(pairs),
        "image_s": image,
        "numbers": str(case.numbers),
        "image_setting": str(alone.setting),
        "image_settings_s": tried,
        "labeled_s": fast_s,
        "labeled_exact_s": exact_s,
        "labeled_over_image": fast_s / image,
        **agreement(pairs, ensemble.num_classes),
    }


@torch.inference_mode()
def labeled(
    scene: Scene, seeds: Sequence[int], how: Refinement, numbers: Numbers = FLOAT32
) -> list[Said]:
    """Pictures as they are shown, and all that is said of them: labels, uncertainty and score."""
    generator = scene.generator
    z = torch.cat([generator.latent_from_seed(seed) for seed in seeds])
    w = generator.mapping(z, truncation=generator.card.truncation)
    out = generator.synthesis(w, dtype=numbers.maps)
    to_pictures(out.images)
    side = generator.resolution
    found = []
    ensemble = scene.ensemble.as_type(numbers.products)
    for one in ensemble.predict_all(out.features, (side, side), how):
        score(expected_iou(one.probabilities))
        vote, uncertainty = one.vote.to(torch.uint8).numpy(), one.uncertainty.numpy()
        found.append(Said(vote, image_uncertainty(uncertainty), one.read))
    return found


def agreement(pairs: Sequence[tuple[Said, Said]], classes: int) -> dict[str, Any]:
    """How the first of each pair stands to the second, which is exact. The rank correlation is None
    for a handful of pictures."""
    near, exact = (np.stack([p[n].vote for p in pairs]).astype(np.int64) for n in (0, 1))
    counts = metrics.confusion(exact.ravel(), near.ravel(), classes)
    uncertainty = np.array([[said.uncertainty for said in pair] for pair in pairs])
    ranks = metrics.spearman(*uncertainty.T) if len(pairs) >= _RANKED else math.nan
    return {
        "agreement": float((near == exact).mean()),
        "worst_class_iou": float(np.nanmin(metrics.class_iou(counts))),
        "uncertainty_rank_correlation": None if math.isnan(ranks) else ranks,
        "border_share": float(np.mean([border_share(one) for one in exact])),
        "fine_share": float(np.mean([pair[0].read for pair in pairs])),
    }


def memory(case: Case, way: str) -> dict[str, Any]:
    """One way on its own, for its peak: 'image', 'labeled' or 'exact'."""
    scene = case.load()
    side = scene.generator.resolution
    batch = samples_at_once(side)
    for first in (UNSEEN, UNSEEN + batch):
        seeds = range(first, first + batch)
        if way == "image":
            Alone(scene.generator, Setting(True, case.numbers.maps, batch))(seeds)
        elif way == "exact":
            labeled(scene, seeds, EXACT)
        else:
            labeled(scene, seeds, refinement_for(side), case.numbers)
    return {}


@torch.inference_mode()
def reference(case: Case) -> dict[str, Any]:
    """Seconds a picture of the original's way, the faster of two times; extrapolated from its first
    rows where it is large, or memory does not hold it."""
    scene = case.load()
    side = scene.generator.resolution
    weights = dense_weights(scene.ensemble)
    a_row = 4 * weights.shape[2] * side * _SPARE
    rows = max(1, min(side, REFERENCE_PIXELS // side, int(available_bytes() / a_row)))
    size, times, bases = (side, side), [], []
    for _ in range(_REFERENCE_TIMES):
        taken, out = timed(lambda: scene.generator.synthesis(scene.latent(UNSEEN)))
        bases.append(taken)
        maps = [f.contiguous() for f in out.features]
        taken, said = timed(partial(_reference, scene.ensemble, weights, maps, size, rows))
        times.append(taken)
    ours = scene.ensemble.predict(out.features, size)
    same = float((said.vote == ours.vote[:rows]).double().mean())
    return {
        "reference_s": min(bases) + min(times) * side / rows,
        "reference_rows": rows,
        "same": same,
        "feature_bytes": 4 * weights.shape[2] * side * side,
        "held_bytes": 4 * weights.shape[2] * side * rows,
    }


def _reference(
    ensemble: Ensemble,
    weights: torch.Tensor,
    maps: list[torch.Tensor],
    size: tuple[int, int],
    rows: int,
) -> PixelPrediction:
    return reference_labels(ensemble, weights, upsampled(maps, size, rows))


def fit_on_all(version: str, fits: int, settings: FitSettings) -> dict[str, Any]:
    """mIoU of interpreters fitted on drawn pixels of 16 samples, and on all of them, in [0, 1].

    The version's own way of labeling pictures from outside stands in for the person; measured on
    48 other samples.
    """
    person = Segmenter.load(version)
    side, classes = person.generator.resolution, person.partonomy.num_classes
    pictures = [made.image for made in person.segment_seeds(range(PICTURES + _TESTED))]
    masks = np.stack([person.segment_image(picture).labels for picture in pictures])

    @torch.inference_mode()
    def maps_of(n: int) -> list[torch.Tensor]:
        return feature_maps(person.generator, _latent(person, n), person.card.maps)

    def reached(settings: FitSettings) -> float:
        ensemble = fit_ensemble(maps_of, masks[:PICTURES], classes, settings)
        found = [
            ensemble.predict(maps_of(n), (side, side), refinement_for(side)).vote.numpy()
            for n in range(PICTURES, len(masks))
        ]
        return metrics.mean_iou(metrics.confusion(masks[PICTURES:], np.stack(found), classes))

    ways = {"drawn": settings, "all": replace(settings, pixels=0)}
    return {
        "version": person.version,
        "pixels": PICTURES * side * side,
        **{
            name: [reached(replace(how, seed=seed)) for seed in range(fits)]
            for name, how in ways.items()
        },
    }


def _latent(segmenter: Segmenter, seed: int) -> torch.Tensor:
    generator = segmenter.generator
    return generator.mapping(generator.latent_from_seed(seed), truncation=segmenter.truncation)


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
