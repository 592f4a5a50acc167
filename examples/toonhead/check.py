#!/usr/bin/env python3
"""Compare rendered heads with a reference set: areas, pose, colours, alignment, a sheet.

Exit code 0: every row is within tolerance; 1: some row is not; 2: the check could not be made.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

# Both means are samples, so a row may differ by 4 standard errors of the difference (one false
# alarm in some 700 runs over all rows) plus 2 % for rasterizers that place an edge differently.
SIGMAS = 4.0
SLACK = 0.02
SHIFTS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
SHEET_COLUMNS, SHEET_ROWS = 4, 8
COLORS = [  # as in partonomies/toonhead.yaml
    "#000000", "#92d050", "#a9d18e", "#f4b183", "#c55a11", "#ff2f92", "#5b9bd5", "#c00000",
    "#fff2a8", "#ff7f7f", "#7f6000", "#e8f0ff", "#0070ff", "#7a3e9d", "#00b0a0", "#ffc000",
]  # fmt: skip

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]


class CheckError(Exception):
    """The comparison cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Pairs:
    """Pictures [N, S, S, 3] and their masks [N, S, S]."""

    images: Pixels
    masks: Pixels


@dataclass(frozen=True)
class Row:
    """One quantity measured per picture: the means of both sets and how far they may differ."""

    name: str
    reference: float
    ours: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return abs(self.ours - self.reference) <= self.tolerance


def read_reference(path: Path) -> tuple[Pairs, list[str]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            names = [str(name) for name in data["classes"]]
            return Pairs(data["image"], data["mask"]), names
    except (OSError, KeyError, ValueError) as error:
        raise CheckError(
            f"{path} is not a reference (an .npz with image, mask and classes): {error}"
        ) from error


def read_rendered(folder: Path, limit: int) -> Pairs:
    images = sorted((folder / "images").glob("*.png"))[:limit]
    if len(images) < 2:
        raise CheckError(f"{folder}/images holds no pictures: render some with render.mjs --masks.")
    masks = [folder / "masks" / path.name for path in images]
    missing = [path for path in masks if not path.exists()]
    if missing:
        raise CheckError(f"{missing[0]} is missing: run render.mjs again with --masks added.")
    return Pairs(np.stack([read_png(p, "RGB") for p in images]),
                 np.stack([read_png(p, "L") for p in masks]))  # fmt: skip


def read_png(path: Path, mode: str) -> Pixels:
    with Image.open(path) as image:
        if image.mode != mode:
            raise CheckError(f"{path} is {image.mode}, not {mode}: delete it and render again.")
        return np.asarray(image)


def check_sizes(reference: Pairs, ours: Pairs, classes: int) -> None:
    for pairs in (reference, ours):
        if pairs.images.shape[:3] != pairs.masks.shape:
            raise CheckError("Pictures and masks differ in size: render them again in one run.")
    want, got = reference.images.shape[1], ours.images.shape[1]
    if want != got:
        raise CheckError(f"The reference is {want} px, these are {got} px: use --size {want}.")
    if ours.masks.max() >= classes:
        raise CheckError(
            f"A mask holds the value {ours.masks.max()}; classes end at {classes - 1}."
        )


def compare(name: str, reference: Numbers, ours: Numbers, slack: float = SLACK) -> Row:
    error = np.sqrt(reference.var(ddof=1) / len(reference) + ours.var(ddof=1) / len(ours))
    mean = float(reference.mean())
    return Row(name, mean, float(ours.mean()), float(SIGMAS * error + slack * abs(mean)))


def areas(pairs: Pairs, index: int) -> Numbers:
    return (pairs.masks == index).mean(axis=(1, 2))


def area_rows(reference: Pairs, ours: Pairs, names: list[str]) -> list[Row]:
    return [
        compare(f"area {name}", areas(reference, i), areas(ours, i)) for i, name in enumerate(names)
    ]


def centres(pairs: Pairs, index: int, axis: int) -> Numbers:
    """Where one class lies along an axis, 0 to 1, in each picture that shows it."""
    inside = pairs.masks == index
    size = pairs.masks.shape[1]
    along = inside.sum(axis=3 - axis)
    shown = along.sum(axis=1) > 0
    return (along[shown] * (np.arange(size) + 0.5)).sum(axis=1) / along[shown].sum(axis=1) / size


def pose_rows(reference: Pairs, ours: Pairs, names: list[str]) -> list[Row]:
    """Areas hardly notice heads that sit too high; the largest part that never moves alone does."""
    face = names.index("face")
    return [
        compare(
            f"face {name}", centres(reference, face, axis), centres(ours, face, axis), slack=0.0
        )
        for name, axis in (("across", 2), ("down", 1))
    ]


def looks(pairs: Pairs) -> dict[str, Numbers]:
    """Colour figures, one number a picture."""
    values = pairs.images / 255.0
    grey = values.mean(axis=-1)
    spread = values.max(axis=-1) - values.min(axis=-1)
    found = {
        name: values[..., c].mean(axis=(1, 2)) for c, name in enumerate(("red", "green", "blue"))
    }
    found["contrast"] = grey.std(axis=(1, 2))
    found["colourfulness"] = spread.mean(axis=(1, 2))
    return found


def class_brightness(pairs: Pairs, index: int) -> Numbers:
    """Mean brightness of one class in each picture that shows it."""
    grey = pairs.images.mean(axis=-1) / 255.0
    inside = pairs.masks == index
    pixels = inside.sum(axis=(1, 2))
    shown = pixels > 0
    return (grey * inside).sum(axis=(1, 2))[shown] / pixels[shown]


def look_rows(reference: Pairs, ours: Pairs, names: list[str]) -> list[Row]:
    mine = looks(ours)
    rows = [compare(name, values, mine[name]) for name, values in looks(reference).items()]
    for i, name in enumerate(names):
        pair = class_brightness(reference, i), class_brightness(ours, i)
        if min(map(len, pair)) > 1:
            rows.append(compare(f"brightness {name}", *pair))
    return rows


def edge_agreement(pairs: Pairs, shift: tuple[int, int]) -> float:
    """How much picture contrast the mask borders meet when the masks are moved by `shift`."""
    images = pairs.images[:200].astype(np.float32)
    masks = np.roll(pairs.masks[:200], shift, axis=(1, 2))
    total = 0.0
    for axis in (1, 2):
        border = np.diff(masks.astype(np.int16), axis=axis) != 0
        total += float((np.abs(np.diff(images, axis=axis)).mean(axis=-1) * border).sum())
    return total


def best_shift(pairs: Pairs) -> tuple[int, int]:
    return max(SHIFTS, key=lambda shift: edge_agreement(pairs, shift))


def print_table(rows: list[Row]) -> None:
    print(f"{'':24}{'reference':>11}{'rendered':>11}{'differs':>11}{'allowed':>11}")
    for row in rows:
        mark = "" if row.ok else "  <-- outside"
        print(f"{row.name:24}{row.reference:11.5f}{row.ours:11.5f}"
              f"{row.ours - row.reference:+11.5f}{row.tolerance:11.5f}{mark}")  # fmt: skip


def painted(masks: Pixels) -> Pixels:
    table = [[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in COLORS]
    return np.array(table, np.uint8)[masks]


def sheet_half(pairs: Pairs) -> Pixels:
    """Pictures beside their coloured masks, the first ones of a set."""
    size = pairs.masks.shape[1]
    half = np.full((SHEET_ROWS * size, SHEET_COLUMNS * 2 * size, 3), 255, np.uint8)
    shown = min(len(pairs.masks), SHEET_ROWS * SHEET_COLUMNS)
    for i in range(shown):
        top, left = i // SHEET_COLUMNS * size, i % SHEET_COLUMNS * 2 * size
        both = np.concatenate([pairs.images[i], painted(pairs.masks[i])], axis=1)
        half[top : top + size, left : left + 2 * size] = both
    return half


def write_sheet(path: Path, reference: Pairs, ours: Pairs) -> None:
    left, right = sheet_half(reference), sheet_half(ours)
    gap = np.full((left.shape[0], 12, 3), 255, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([left, gap, right], axis=1)).save(path)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rendered", type=Path, required=True, help="folder with images/ and masks/"
    )
    parser.add_argument("--reference", type=Path, required=True, help="reference .npz")
    parser.add_argument(
        "--sheet", type=Path, help="contact sheet PNG to write: reference left, ours right"
    )
    parser.add_argument("--limit", type=int, default=1000, help="pictures to read (default 1000)")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> bool:
    reference, names = read_reference(options.reference)
    ours = read_rendered(options.rendered, options.limit)
    check_sizes(reference, ours, len(names))
    print(f"{len(reference.masks)} reference pairs, {len(ours.masks)} rendered pairs, "
          f"{ours.masks.shape[1]} px")  # fmt: skip
    rows = area_rows(reference, ours, names)
    rows += pose_rows(reference, ours, names) + look_rows(reference, ours, names)
    print_table(rows)
    shift = best_shift(ours)
    print(f"masks fit their pictures best when moved by {shift} (must be (0, 0))")
    if options.sheet:
        write_sheet(options.sheet, reference, ours)
        print(f"contact sheet: {options.sheet}")
    return all(row.ok for row in rows) and shift == (0, 0)


def main(argv: list[str] | None = None) -> int:
    try:
        good = run(arguments(argv))
    except CheckError as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    print("all within tolerance" if good else "NOT within tolerance")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
