"""What a data set is, for programs (`card.json`) and for people (`README.md`, `sheet.png`)."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from dgan_backend import __version__
from dgan_backend.factory.encoding import labels_of, picture_png
from dgan_backend.factory.order import Order
from dgan_backend.factory.shards import Item
from dgan_backend.generators.native import GeneratorCard
from dgan_backend.partonomy import Partonomy
from dgan_backend.pictures import Picture
from dgan_backend.sheets import labeled_sheet
from dgan_backend.storage import Storage

CARD, README, SHEET, SEEDS = "card.json", "README.md", "sheet.png", "seeds.csv"
_FORMAT = "dgan-backend data set 1"
_SHOWN = 24  # pictures on the sheet
_HOW = {
    "png": "`images/` and `masks/` hold one PNG a picture, named by its seed; the values of a mask "
    "are class indices. `manifest.jsonl` has a line for each.",
    "coco": "COCO's panoptic format: `images/`, `panoptic/` and `annotations/panoptic.json`. "
    "Category and segment ids are class index + 1; all classes are stuff.",
    "webdataset": "WebDataset tars: each sample is `<seed>.image.png`, `<seed>.mask.png` (values "
    "are class indices) and `<seed>.json`.",
    "parquet": '`datasets.load_dataset("parquet", data_files="data/*.parquet")` gives image, mask '
    "(values are class indices), seed, score and uncertainty.",
}


@dataclass(frozen=True)
class Subject:
    """What is sampled and labeled."""

    partonomy: Partonomy
    generator: GeneratorCard


@dataclass
class Tally:
    """What is counted while pictures go by. limit: uncertainty and seed of the last that stays."""

    partonomy: Partonomy
    order: Order
    limit: tuple[float, int]
    pictures: int = 0
    side: int = 0
    scores: float = 0.0
    pixels: np.ndarray = field(init=False)
    found_in: np.ndarray = field(init=False)
    shown: list[tuple[Picture, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.partonomy.num_classes, dtype=np.int64)
        self.found_in = np.zeros_like(self.pixels)

    def add(self, item: Item) -> None:
        entry = item.entry
        self.pictures += 1
        self.side = entry.side
        self.scores += entry.score
        for k, area in entry.areas.items():
            self.pixels[int(k)] += area
            self.found_in[int(k)] += 1
        if len(self.shown) < _SHOWN:
            picture = np.asarray(Image.open(io.BytesIO(item.picture)))
            self.shown.append((picture, labels_of(item.mask, self.order.format)))

    def classes(self) -> list[dict[str, Any]]:
        total = int(self.pixels.sum())
        return [
            {
                "index": k,
                "name": name,
                "pictures": int(self.found_in[k]),
                "pixels": int(self.pixels[k]),
                "share": round(int(self.pixels[k]) / total, 6),
            }
            for k, name in enumerate(self.partonomy.classes)
        ]


def write_card(folder: Storage, subject: Subject, tally: Tally) -> None:
    """`card.json` last: a data set is there when that is."""
    value = card(subject, tally)
    folder.write(SHEET, picture_png(labeled_sheet(tally.shown, subject.partonomy)))
    folder.write(README, readme(value).encode())
    folder.write(CARD, (json.dumps(value, indent=1) + "\n").encode())


def read_order(folder: Storage) -> Order | None:
    """What the data set in a folder was ordered as; None where there is none."""
    text = folder.find(CARD)
    try:
        return None if text is None else Order.from_json(json.loads(text)["order"])
    except (ValueError, KeyError, TypeError):
        return None


def card(subject: Subject, tally: Tally) -> dict[str, Any]:
    order, generator = tally.order, subject.generator
    return {
        "format": _FORMAT,
        "made_by": f"dgan-backend {__version__}",
        "pictures": tally.pictures,
        "sampled": order.samples,
        "left_out": order.samples - tally.pictures,
        "largest_uncertainty": tally.limit[0],
        "mean_score": round(tally.scores / tally.pictures, 4),
        "seeds": {"first": order.first, "last": order.first + order.samples - 1},
        "truncation": order.truncation,
        "resolution": tally.side,
        "partonomy": subject.partonomy.name,
        "classes": tally.classes(),
        "version": {"name": order.version, "interpreter_sha256": order.interpreter},
        "generator": {"id": order.generator_id, "sha256": order.generator},
        "licence": generator.licence,
        "attribution": generator.attribution,
        "caution": generator.caution,
        "order": order.to_json(),
    }


def _second(order: dict[str, Any]) -> str:
    return " together with the version's U-Nets" if order.get("student") else ""


def readme(value: dict[str, Any]) -> str:
    """A data set card as Hugging Face reads it; value: of `card`."""
    order, seeds = value["order"], value["seeds"]
    rows = [
        f"| {c['index']} | {c['name']} | {c['pictures']:,} | {100 * c['share']:.2f} |"
        for c in value["classes"]
    ]
    rights = [value["licence"] and f"Licence of the generator's pictures: {value['licence']}."]
    rights += [value["attribution"] and f"Attribution: {value['attribution']}."]
    rights += [value["caution"] and f"**Mind: {value['caution']}**"]
    title = f"{value['pictures']:,} labeled pictures of {value['partonomy']}"
    return f"""---
task_categories: [image-segmentation]
pretty_name: {title}
license: other
license_name: {json.dumps(value["licence"] or "unknown")}
tags: [synthetic, datasetgan]
---

# {title}

Sampled by a generator and labeled by a style interpreter (DatasetGAN, CVPR 2021){_second(order)}:
no person has looked at these labels. {value["sampled"]:,} pictures were sampled; the
{value["left_out"]:,} with the largest uncertainty (image uncertainty over
{value["largest_uncertainty"]:.4f} nats) were left out. `seeds.csv` tells of all of them; with
version and seed each can be made again.

![Pictures and their parts]({SHEET})

{_HOW[order["format"]]}

| | |
|---|---|
| pictures | {value["pictures"]:,} of {value["resolution"]} x {value["resolution"]} px |
| mean score (mean IoU to be expected) | {value["mean_score"]:.3f} |
| seeds | {seeds["first"]} to {seeds["last"]}, psi {value["truncation"]:g} |
| version | {value["version"]["name"]}, SHA-256 {value["version"]["interpreter_sha256"]} |
| generator | {value["generator"]["id"]}, SHA-256 {value["generator"]["sha256"]} |
| made by | {value["made_by"]} |

## Licence

{chr(10).join(line for line in rights if line) or "The generator's card names no licence."}

## Classes

| index | class | pictures | % of pixels |
|---:|---|---:|---:|
{chr(10).join(rows)}
"""
