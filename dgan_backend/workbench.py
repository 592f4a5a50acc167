"""Commands that compute with a version: sample, segment, fit."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dgan_backend.errors import DganError
from dgan_backend.fitting import FitPlan
from dgan_backend.generators import Generator, load_generator
from dgan_backend.interpreter import FitSettings
from dgan_backend.labeled import load_pairs
from dgan_backend.partonomy import Partonomy, load_partonomy
from dgan_backend.pictures import load_picture, save_picture, to_pictures
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.sheets import overlaid, picture_sheet, segmentation_sheet
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.course import UNetSettings
from dgan_backend.student.student import StudentSettings


def sample(args: argparse.Namespace) -> int:
    """Sample pictures with their parts; write a sheet and, if asked, one file each."""
    if args.generator:
        return _sample_bare(args)
    segmenter = Segmenter.load(args.model, device=args.device)
    segmenter.exact = args.exact
    segmenter.compute_in(args.precision or Settings.from_env().precision)
    _caution(segmenter.generator)
    seeds = range(args.seed, args.seed + args.count)
    started = time.monotonic()
    made = segmenter.segment_seeds(seeds, args.truncation)
    found = list(tqdm(made, total=len(seeds), unit="picture"))
    seconds = time.monotonic() - started
    if args.out:
        for seed, segmentation in zip(seeds, found, strict=True):
            _write(args.out, f"{seed:010d}", segmentation, segmenter)
    if args.sheet:
        _write_sheet(args.sheet, found, segmenter)
    scores = [s.score for s in found]
    print(
        f"{len(found)} samples of {segmenter.generator.id} by {segmenter.version} in "
        f"{seconds:.1f} s; score {min(scores):.2f} to {max(scores):.2f}, median "
        f"{np.median(scores):.2f}"
    )
    return 0


@torch.inference_mode()
def _sample_bare(args: argparse.Namespace) -> int:
    """Sample pictures of a generator, of whose parts nothing is known."""
    generator = load_generator(args.generator, args.device)
    _caution(generator)
    psi = generator.card.truncation if args.truncation is None else args.truncation
    pictures = []
    for seed in tqdm(range(args.seed, args.seed + args.count), unit="picture"):
        w = generator.mapping(generator.latent_from_seed(seed), truncation=psi)
        picture = to_pictures(generator.synthesis(w).images)[0]
        if args.sheet:
            pictures.append(picture)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            save_picture(args.out / f"{seed:010d}.picture.png", picture)
    if args.sheet:
        save_picture(args.sheet, picture_sheet(pictures))
        print(f"{args.sheet}: {len(pictures)} pictures")
    print(f"{args.count} samples of {generator.id}")
    return 0


def _caution(generator: Generator) -> None:
    """Say once, where it is read, what the licence of pictures is."""
    if generator.card.caution:
        print(f"dgan-backend: {generator.card.caution}", file=sys.stderr)


def segment(args: argparse.Namespace) -> int:
    """Segment pictures from outside; a broken one is named, and the others are still done."""
    stems = [path.stem for path in args.pictures]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if args.out and twice:
        raise DganError(f"{', '.join(twice)} is the name of several pictures; use two --out.")
    segmenter = Segmenter.load(args.model, device=args.device)
    segmenter.exact = args.exact
    found, failed = [], 0
    started = time.monotonic()
    for path in tqdm(args.pictures, unit="picture"):
        try:
            segmentation = segmenter.segment_image(load_picture(path))
        except DganError as error:
            failed += 1
            tqdm.write(f"{error}")
            continue
        found.append(segmentation)
        if args.out:
            _write(args.out, path.stem, segmentation, segmenter)
        tqdm.write(f"{path}: score {segmentation.score:.2f}")
    print(f"{len(found)} pictures by {segmenter.version} in {time.monotonic() - started:.1f} s")
    if args.sheet and found:
        _write_sheet(args.sheet, found, segmenter)
    return 2 if failed else 0


def fit(args: argparse.Namespace) -> int:
    """Fit an interpreter on labeled pictures and write it as a version folder."""
    pairs = load_pairs(args.pairs)
    pool = min(args.pool or len(pairs), len(pairs))
    count = min(args.count or pool, pool)
    chosen = np.sort(np.random.RandomState(args.seed).permutation(pool)[:count])
    if args.out.exists():
        raise DganError(f"{args.out} exists already, and versions never change; choose another.")
    picked = pairs.pick(chosen)
    tree = load_partonomy(args.partonomy)
    print(_mirroring(tree), end="")
    started = time.monotonic()
    segmenter = Segmenter.fit(
        args.generator,
        picked.images,
        picked.masks,
        tree,
        version=args.out.name,
        plan=_fit_plan(args),
        device=args.device,
        progress=_bar,
    )
    seconds = time.monotonic() - started
    segmenter.save(args.out)
    if segmenter.student is not None and (lacks := segmenter.backbone.lacks):
        print(lacks)
    print(
        f"{args.out}: fitted on {len(picked)} pictures of {args.pairs}, pictures from outside "
        f"labeled by the {segmenter.card.outside}{_compared(segmenter)}, inversion included, in "
        f"{seconds:.1f} s with {torch.get_num_threads()} threads; peak memory of the process "
        f"{_peak_megabytes():.0f} MB"
    )
    return 0


def _mirroring(tree: Partonomy) -> str:
    """A line about classes that have a side, where there are some."""
    if tree.one_sided:
        alone = ", ".join(tree.one_sided)
        return f"pictures are not mirrored, as these classes have no other side: {alone}\n"
    swapped = enumerate(tree.mirrored or ())
    pairs = [f"{tree.classes[a]} / {tree.classes[b]}" for a, b in swapped if a < b]
    return f"they trade places in mirrored pictures: {', '.join(pairs)}\n" if pairs else ""


def _compared(segmenter: Segmenter) -> str:
    """The mIoU of both on held-back labels, where they were compared."""
    reached = segmenter.card.training.get("held_back_miou") or {}
    told = ", ".join(f"{name} {miou:.3f}" for name, miou in sorted(reached.items()))
    return f" (mIoU on held-back labels: {told})" if told else ""


def _fit_plan(args: argparse.Namespace) -> FitPlan:
    augment = AugmentSettings(mirror=not args.no_mirror)
    unet = UNetSettings(
        pictures=args.pictures or UNetSettings.pictures,
        augment=augment.at_any_angle() if args.turns else augment,
        seed=args.seed,
    )
    return FitPlan(
        outside=args.outside,
        maps=args.maps,
        interpreter=FitSettings(seed=args.seed, steps=args.steps, directions=args.directions),
        student=StudentSettings(args.members, unet),
    )


def _write(folder: Path, stem: str, segmentation: Segmentation, segmenter: Segmenter) -> None:
    """Picture, class indices as a palette PNG, overlay, and uncertainty as npy."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = Image.fromarray(segmentation.labels)
    labels.putpalette(segmenter.partonomy.palette.flatten().tolist())
    labels.save(folder / f"{stem}.labels.png")
    save_picture(folder / f"{stem}.picture.png", segmentation.image)
    save_picture(folder / f"{stem}.overlay.png", overlaid(segmentation, segmenter.partonomy))
    np.save(folder / f"{stem}.uncertainty.npy", segmentation.uncertainty)


def _write_sheet(path: Path, found: list[Segmentation], segmenter: Segmenter) -> None:
    save_picture(path, segmentation_sheet(found, segmenter.partonomy))
    print(f"{path}: {len(found)} pictures with parts and uncertainty")


def _bar(what: str, steps: Iterable[int]) -> Iterable[int]:
    return tqdm(steps, desc=what, unit="step")


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
