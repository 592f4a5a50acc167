"""One shard: seeds -> pictures with their labels, as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.factory.encoding import areas_of, boxes_of, mask_png, panoptic_png, picture_png
from dgan_backend.factory.order import Order
from dgan_backend.factory.shards import Entry, Item
from dgan_backend.generators.native import file_hash
from dgan_backend.interpreter.uncertainty import image_uncertainty
from dgan_backend.records import Segmentation
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from dgan_backend.student.native import STUDENT_WEIGHTS
from dgan_backend.versions import WEIGHTS, shipped_versions


@dataclass(frozen=True)
class Found:
    """A version at work. name: by which other workers find it. sha256: of its interpreter.
    student: SHA-256 of its student; "" where it has none."""

    name: str
    segmenter: Segmenter
    sha256: str
    student: str = ""


def find_version(name: str, settings: Settings) -> Found:
    """Shipped ones by their name or partonomy's, others by their folder or their name in MODEL_DIR.

    Raises DganError when there is none.
    """
    shipped = shipped_versions()
    for known in (name, f"{name}-shipped"):
        if known in shipped:
            return _found(known, shipped[known], settings)
    if Path(name).is_dir():
        folder = Path(name).absolute()
        return _found(str(folder), folder, settings)
    registry = Registry.of(settings)
    return _at_work(name, registry.segmenter(name), registry.folder(name))


def _found(name: str, folder: Path, settings: Settings) -> Found:
    segmenter = Segmenter.load(folder, settings.device)
    segmenter.compute_in(settings.precision)
    return _at_work(name, segmenter, folder)


def _at_work(name: str, segmenter: Segmenter, folder: Path) -> Found:
    student = folder / STUDENT_WEIGHTS
    asked = file_hash(student) if segmenter.student is not None else ""
    return Found(name, segmenter, file_hash(folder / WEIGHTS), asked)


def version_of(order: Order, settings: Settings) -> Segmenter:
    """Raises DganError when this machine has another version of that name."""
    version = find_version(order.version, settings)
    segmenter = version.segmenter
    found = (version.sha256, segmenter.generator.card.sha256)
    if found != (order.interpreter, order.generator):
        raise DganError(
            f"The version {order.version} of this worker has other weights than the one that was "
            "ordered; copy that one here, or share MODEL_DIR."
        )
    if order.student:
        if order.student != version.student:
            raise DganError(
                f"The version {order.version} of this worker has another student than the one "
                "that was ordered; copy that version here, or share MODEL_DIR."
            )
        segmenter.ask_student()
    segmenter.exact = order.exact
    segmenter.compute_in(order.precision)
    return segmenter


def items(
    segmenter: Segmenter, order: Order, number: int, tick: Callable[[int], None] = lambda n: None
) -> Iterator[Item]:
    """The pictures of one shard. tick: is told how many are made, and may raise."""
    seeds = order.seeds(number)
    made = segmenter.segment_seeds(seeds, order.truncation, order.side or None)
    for n, (seed, found) in enumerate(zip(seeds, made, strict=True), start=1):
        yield _item(segmenter, order, seed, found)
        tick(n)


def _item(segmenter: Segmenter, order: Order, seed: int, made: Segmentation) -> Item:
    panoptic = order.format == "coco"
    mask = (
        panoptic_png(made.labels)
        if panoptic
        else mask_png(made.labels, segmenter.partonomy.palette)
    )
    entry = Entry(
        seed=seed,
        side=made.labels.shape[0],
        uncertainty=image_uncertainty(made.uncertainty),
        score=made.score,
        areas=areas_of(made.labels),
        boxes=boxes_of(made.labels) if panoptic else {},
    )
    return Item(entry, picture_png(made.image), mask)
