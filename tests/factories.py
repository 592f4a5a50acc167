"""Small orders, and pictures for them that cost nothing to make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dgan_backend.factory.card import Subject
from dgan_backend.factory.encoding import areas_of, boxes_of, mask_png, panoptic_png, picture_png
from dgan_backend.factory.order import Order
from dgan_backend.factory.shards import Entry, Item
from dgan_backend.generators.native import GeneratorCard
from dgan_backend.generators.stylegan2 import StyleGAN2Config
from dgan_backend.partonomy import load_partonomy

TOONHEAD = load_partonomy("toonhead")
SUBJECT = Subject(
    TOONHEAD,
    GeneratorCard("tiny", StyleGAN2Config(resolution=16), "b" * 64, licence="CC BY 4.0"),
)
SIDE = 8


def order(**changes: Any) -> Order:
    small = Order("v", "a" * 64, "b" * 64, "tiny-bbbbbbbb", 9, 0.25, 0.7, 100, 4)
    return replace(small, **changes)


def picture(seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def labels(seed: int) -> np.ndarray:
    """[H, W]: two to five classes of toonhead."""
    random = np.random.RandomState(seed)
    return random.choice(16, 5, replace=False)[random.randint(0, 5, (SIDE, SIDE))].astype(np.uint8)


def uncertainty(seed: int) -> float:
    return float(np.random.RandomState(seed).rand())


def items(wanted: Order, number: int) -> Iterator[Item]:
    """Those of one shard: of each seed always the same."""
    for seed in wanted.seeds(number):
        mask, coco = labels(seed), wanted.format == "coco"
        boxes = boxes_of(mask) if coco else {}
        entry = Entry(seed, SIDE, uncertainty(seed), 0.5, areas_of(mask), boxes)
        written = panoptic_png(mask) if coco else mask_png(mask, TOONHEAD.palette)
        yield Item(entry, picture_png(picture(seed)), written)


def surest(wanted: Order) -> list[int]:
    """The seeds that remain."""
    seeds = range(wanted.first, wanted.first + wanted.samples)
    return sorted(sorted(seeds, key=lambda seed: (uncertainty(seed), seed))[: wanted.count])
