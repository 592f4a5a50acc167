"""What `student train` learns from: samples, people's labels, and pictures that nobody labeled."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dgan_backend.errors import DganError
from dgan_backend.factory.reading import DataSet, Stream, batch_of
from dgan_backend.inversion.framing import Frame
from dgan_backend.labeled import load_pairs
from dgan_backend.merging import IGNORE
from dgan_backend.pictures import Picture, load_picture
from dgan_backend.segmenter import Segmenter
from dgan_backend.student.lessons import Compact, Labeled, Lessons, mixed
from dgan_backend.training.pictures import SUFFIXES, pictures_of

Progress = Callable[[Sequence[Path]], Iterable[Path]]
Mask = npt.NDArray[np.uint8]


def lessons(
    args: argparse.Namespace, segmenter: Segmenter, side: int, progress: Progress = lambda p: p
) -> Lessons:
    """Of the arguments of `student train`: `share` of people's labels, the rest of sets and
    unlabeled pictures, half each where there are both, or of samples as they are made.

    progress: goes over the unlabeled pictures while the version labels them.
    """
    sources: list[Lessons] = []
    if args.sets:
        sources.append(DataSet.open(args.sets, segmenter.partonomy, side))
    if args.unlabeled is not None:
        sources.append(labeled_by(segmenter, args.unlabeled, side, progress))
    if not sources:
        sources.append(Stream(segmenter, side, args.filter))
    share = 0.0 if args.labels is None else args.share
    parts = [(source, (1 - share) / len(sources)) for source in sources]
    if args.labels is not None:
        parts.insert(0, (people(args.labels, segmenter, side), share))
    return mixed(parts)


def people(path: Path, segmenter: Segmenter, side: int) -> Labeled:
    """Pictures with people's labels, as squares."""
    pairs = load_pairs(path).checked(segmenter.partonomy)
    return Labeled(*batch_of(*_squares(pairs.images, pairs.masks, side)))


def labeled_by(segmenter: Segmenter, folder: Path, side: int, progress: Progress) -> Compact:
    """All pictures of a folder, with the parts that a version sees in them.

    Raises DganError when there is none, and when one cannot be read.
    """
    if not (paths := pictures_of(folder)):
        raise DganError(f"{folder} holds no picture ({', '.join(SUFFIXES)}); add some.")
    images, masks = list[Picture](), list[Mask]()
    for path in progress(paths):
        picture = load_picture(path)
        found = segmenter.segment_image(picture)
        squares, maps = _squares([picture], [found.labels.astype(np.uint8)], side)
        images += squares
        masks += maps
    return Compact(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)))


def _squares(
    images: Sequence[Picture], masks: Sequence[Any], side: int
) -> tuple[list[Picture], list[Mask]]:
    frames = [Frame(*mask.shape) for mask in masks]
    return (
        [frame.picture(image, side) for frame, image in zip(frames, images, strict=True)],
        [frame.mask(mask, side, IGNORE) for frame, mask in zip(frames, masks, strict=True)],
    )
