"""Commands that compute: sample, segment, fit, generator train."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dgan_backend.errors import DganError
from dgan_backend.fitting import FitPlan
from dgan_backend.generators import Generator, load_generator
from dgan_backend.generators.native import (
    generator_folder,
    read_card,
    shipped_generators,
)
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.interpreter import FitSettings
from dgan_backend.inversion.native import load_encoder
from dgan_backend.labeled import load_pairs
from dgan_backend.partonomy import Partonomy, load_partonomy
from dgan_backend.pictures import load_picture, save_picture, to_pictures
from dgan_backend.records import Segmentation
from dgan_backend.segmenter import Segmenter
from dgan_backend.sheets import overlaid, picture_sheet, segmentation_sheet
from dgan_backend.student.augment import AugmentSettings
from dgan_backend.student.fit import UNetSettings
from dgan_backend.student.native import Backbone, load_backbone, save_backbone
from dgan_backend.student.student import StudentSettings
from dgan_backend.student.unet import Trunk
from dgan_backend.training.backbone import (
    BackboneSettings,
    measure_familiarity,
    train_backbone,
)
from dgan_backend.training.pictures import PictureFolder
from dgan_backend.training.step import LossWeights
from dgan_backend.training.trainer import Plan, Trainer

_HELD_BACK = 512  # pictures that a backbone's familiarity is measured on, not trained on


def sample(args: argparse.Namespace) -> int:
    """Sample pictures with their parts; write a sheet and, if asked, one file each."""
    if args.generator:
        return _sample_bare(args)
    segmenter = Segmenter.load(args.model, device=args.device)
    _caution(segmenter.generator)
    seeds = range(args.seed, args.seed + args.count)
    started = time.monotonic()
    found = [segmenter.segment_seed(seed, args.truncation) for seed in tqdm(seeds, unit="picture")]
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
    unet = UNetSettings(
        pictures=args.pictures or UNetSettings.pictures,
        augment=AugmentSettings(mirror=not args.no_mirror),
        seed=args.seed,
    )
    return FitPlan(
        outside=args.outside,
        maps=args.maps,
        interpreter=FitSettings(seed=args.seed, steps=args.steps),
        student=StudentSettings(args.members, unet),
    )


def show_generator(args: argparse.Namespace) -> int:
    """Print the cards of one generator, or the names of the shipped ones."""
    if args.generator is None:
        print("\n".join(shipped_generators()) or "no generator is shipped")
        return 0
    print(json.dumps(read_card(generator_folder(args.generator)).to_json(), indent=1))
    return 0


def train_backbone_of(args: argparse.Namespace) -> int:
    """Train the backbone of a generator; --out/backbone-training is written every minute."""
    generator = load_generator(args.generator, args.device)
    encoder = load_encoder(args.generator, args.device)[0] if args.images else None
    settings = BackboneSettings(side=max(128, generator.resolution), seed=args.seed)
    folder = PictureFolder(args.images, settings.side, _HELD_BACK) if args.images else None
    out = args.out or generator_folder(args.generator)
    unfinished = out / "backbone-training"
    unfinished.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(args.init, args.device) if args.init else None
    if args.init and backbone is None:
        raise DganError(f"{args.init} has no backbone to go on with.")
    began = time.monotonic()

    def keep(seen: int, loss: float, trunk: Trunk) -> None:
        nonlocal backbone
        minutes = round((time.monotonic() - began) / 60, 1)
        note = {"generator": generator.id, "pictures": seen, "minutes": minutes, "loss": loss}
        backbone = Backbone(trunk.config, trunk.state_dict(), settings.side, None, note)
        save_backbone(unfinished, backbone)
        tqdm.write(f"{seen} pictures, {minutes} minutes, loss {loss:.4f}")

    if args.pictures:
        train_backbone(
            generator,
            encoder,
            folder,
            settings,
            pictures=args.pictures,
            begin=backbone.tensors if backbone else None,
            report=keep,
            progress=partial(_bar, "learning"),
        )
    if backbone is None:
        raise DganError("there is nothing to do: --pictures is 0 and there is no --init.")
    if folder is not None:
        known = measure_familiarity(backbone.trunk, generator, folder, settings)
        backbone = replace(backbone, familiarity=known)
    save_backbone(out, backbone)
    shutil.rmtree(unfinished)
    print(f"{out}: a backbone for {generator.id}; `fit` makes students with it")
    if folder is None:
        print("without --images nothing says what is familiar: foreign pictures get a score, too")
    return 0


def train_generator(args: argparse.Namespace) -> int:
    """Train a StyleGAN2 with its encoder on a folder of pictures; resumes what is in --out.

    SIGINT and SIGTERM end it in order: checkpoint, generator, calibrated encoder.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # also for a job in the background
        signal.signal(number, signal.default_int_handler)
    trainer = Trainer(_plan(args))
    where = f"resumed after {trainer.seen} pictures" if trainer.resumed else "a new training"
    print(
        f"{where}: {len(trainer.pictures)} pictures of {args.images}, {args.resolution} px, "
        f"augmentation {'on' if trainer.adaptive else 'off'}; sheets and log go to {args.out}"
    )
    trainer.run()
    print(f"the generator is {args.out / args.name}; use it by that path")
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    architecture = StyleGAN2Config(
        resolution=args.resolution,
        z_dim=args.z_dim,
        w_dim=args.z_dim,
        mapping_layers=4,
        channels=tuple(args.channels) if args.channels else (),
        channel_base=args.resolution * 32,
        channel_max=128,
    )
    return Plan(
        images=args.images,
        out=args.out,
        architecture=architecture,
        name=args.name,
        pictures=args.pictures,
        minutes=args.minutes,
        batch=args.batch,
        rate=args.rate,
        start_resolution=min(args.start_resolution, args.resolution),
        grow_at=tuple(args.grow_at),
        mirror=not args.no_mirror,
        augment=args.augment,
        bf16=args.bf16,
        device=args.device,
        seed=args.seed,
        measure_every=args.measure_every,
        losses=LossWeights(r1=args.r1),
        licence=args.licence,
        attribution=args.attribution,
        init=args.init,
        init_discriminator=args.init_discriminator,
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
