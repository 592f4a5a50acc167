"""COCO's panoptic format: pictures, panoptic PNGs whose colours are segment ids, and one JSON.

(Kirillov et al., Panoptic Segmentation, CVPR 2019; format of cocodataset.org, "4. Panoptic
Segmentation".) Every class is stuff, as parts of one kind are not told apart: one segment for each
class that is in a picture. Category id and segment id are index + 1.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from dgan_backend.factory.formats.batches import Batches
from dgan_backend.factory.shards import Entry, Item
from dgan_backend.partonomy import Partonomy
from dgan_backend.storage import Storage

ANNOTATIONS = "annotations/panoptic.json"


class CocoWriter:
    """`images/<seed>.png`, `panoptic/<seed>.png`, `annotations/panoptic.json`."""

    def __init__(self, folder: Storage, partonomy: Partonomy, scratch: Path) -> None:
        self._folder, self._partonomy = folder, partonomy
        self._files = Batches(folder)
        self._scratch = scratch
        self._images = (scratch / "images").open("w+", encoding="utf-8")
        self._annotations = (scratch / "annotations").open("w+", encoding="utf-8")
        self._comma = ""

    def add(self, item: Item) -> None:
        entry, name = item.entry, f"{item.entry.key}.png"
        self._files.add(f"images/{name}", item.picture)
        self._files.add(f"panoptic/{name}", item.mask)
        image = {"id": entry.seed, "file_name": name, "width": entry.side, "height": entry.side}
        annotation = {"image_id": entry.seed, "file_name": name, "segments_info": segments(entry)}
        self._images.write(self._comma + json.dumps(image))
        self._annotations.write(self._comma + json.dumps(annotation))
        self._comma = ",\n"

    def finish(self) -> None:
        self._files.flush()
        path = self._scratch / "panoptic.json"
        with path.open("w", encoding="utf-8") as whole:
            info = {"description": f"{self._partonomy.name}: sampled and labeled by dgan-backend"}
            whole.write('{"info": ' + json.dumps(info) + ',\n"images": [\n')
            self._images.seek(0)
            shutil.copyfileobj(self._images, whole)
            whole.write('],\n"annotations": [\n')
            self._annotations.seek(0)
            shutil.copyfileobj(self._annotations, whole)
            whole.write('],\n"categories": ' + json.dumps(categories(self._partonomy)) + "}\n")
        self._folder.put(path, ANNOTATIONS)

    def close(self) -> None:
        self._images.close()
        self._annotations.close()


def segments(entry: Entry) -> list[dict[str, Any]]:
    return [
        {
            "id": int(k) + 1,
            "category_id": int(k) + 1,
            "area": area,
            "bbox": entry.boxes[k],
            "iscrowd": 0,
        }
        for k, area in entry.areas.items()
    ]


def categories(partonomy: Partonomy) -> list[dict[str, Any]]:
    """supercategory: the part that a class is directly part of, or the partonomy's name."""
    named = zip(partonomy.classes, partonomy.palette.tolist(), strict=True)
    return [
        {
            "id": index + 1,
            "name": name,
            "supercategory": next(iter(partonomy.ancestors(name)), partonomy.name),
            "isthing": 0,
            "color": color,
        }
        for index, (name, color) in enumerate(named)
    ]
