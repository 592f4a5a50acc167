"""Each format, loaded by the library that is meant to load it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.factory.finishing import finish
from dgan_backend.factory.formats import parquet, webdataset
from dgan_backend.factory.order import Order
from dgan_backend.factory.shards import Shards
from dgan_backend.storage import Storage
from tests import factories
from tests.factories import SUBJECT, TOONHEAD


def written(folder: Path, **changes: Any) -> Order:
    """A data set in a folder; its order."""
    order = factories.order(**changes)
    place = Storage(folder)
    shards = Shards(place, order)
    shards.begin()
    for number in range(order.shards):
        shards.write(number, factories.items(order, number))
    finish(place, shards, SUBJECT)
    return order


def check(seed: int, picture: np.ndarray, mask: np.ndarray) -> None:
    assert (picture == factories.picture(seed)).all()
    assert (mask == factories.labels(seed)).all()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


# COCO panoptic, by the rules of the format: its reference code is not at the index


def test_coco_panoptic(tmp_path: Path) -> None:
    order = written(tmp_path, format="coco")
    whole = json.loads((tmp_path / "annotations/panoptic.json").read_text())
    assert sorted(whole) == ["annotations", "categories", "images", "info"]
    images = {image["id"]: image for image in whole["images"]}
    categories = {category["id"]: category for category in whole["categories"]}
    assert list(images) == factories.surest(order) and len(categories) == 16
    assert {c["isthing"] for c in categories.values()} == {0}
    assert [a["image_id"] for a in whole["annotations"]] == list(images)
    for annotation in whole["annotations"]:
        image = images[annotation["image_id"]]
        check_panoptic(tmp_path, image, annotation, categories)


def check_panoptic(
    folder: Path, image: dict[str, Any], annotation: dict[str, Any], categories: dict[int, Any]
) -> None:
    """What panopticapi's `pq_compute_single_core` demands of each picture: every id of the PNG is a
    segment, every segment is in the PNG, and each is of a known category; and areas and boxes."""
    colors = decoded((folder / "panoptic" / annotation["file_name"]).read_bytes()).astype(np.uint32)
    ids = colors[..., 0] + 256 * colors[..., 1] + 256**2 * colors[..., 2]
    assert ids.shape == (image["height"], image["width"])
    segments = {segment["id"]: segment for segment in annotation["segments_info"]}
    assert len(segments) == len(annotation["segments_info"])
    assert set(np.unique(ids).tolist()) == set(segments)  # no pixel is void, which is 0
    classes = np.zeros_like(ids)
    for number, segment in segments.items():
        rows, columns = np.nonzero(ids == number)
        x, y, width, height = segment["bbox"]
        assert segment["area"] == len(rows) and segment["iscrowd"] == 0
        assert (x, x + width - 1) == (columns.min(), columns.max())
        assert (y, y + height - 1) == (rows.min(), rows.max())
        name = categories[segment["category_id"]]["name"]
        classes[ids == number] = TOONHEAD.classes.index(name)
    picture = decoded((folder / "images" / image["file_name"]).read_bytes())
    check(image["id"], picture, classes)


def test_a_supercategory_is_what_a_class_is_part_of(tmp_path: Path) -> None:
    written(tmp_path, format="coco")
    whole = json.loads((tmp_path / "annotations/panoptic.json").read_text())
    named = {category["name"]: category for category in whole["categories"]}
    assert named["iris"]["supercategory"] == "eye"
    assert named["background"]["supercategory"] == "toonhead"
    assert named["iris"]["color"] == TOONHEAD.palette[TOONHEAD.classes.index("iris")].tolist()


# WebDataset


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # files it leaves open
def test_webdataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("webdataset")
    monkeypatch.setattr(webdataset, "SAMPLES", 4)
    order = written(tmp_path, format="webdataset")
    assert len(list(tmp_path.glob("*.tar"))) == 3
    url = str(tmp_path / "train-{000000..000002}.tar")
    samples = list(library.WebDataset(url, shardshuffle=False).decode("rgb8"))
    assert [int(sample["__key__"]) for sample in samples] == factories.surest(order)
    for sample in samples:
        mask = decoded(next(raw(tmp_path, f"{sample['__key__']}.mask.png")))
        check(sample["json"]["seed"], sample["image.png"], mask)
        assert sum(sample["json"]["pixels"].values()) == mask.size


def raw(folder: Path, name: str) -> Any:
    """A file of one of the tars."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            if name in tar.getnames():
                yield tar.extractfile(name).read()  # type: ignore[union-attr]


# Parquet


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(parquet, "ROWS", 4)
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 700)  # two rows or so
    order = written(tmp_path / "set", format="parquet")
    names = [path.name for path in sorted((tmp_path / "set/data").iterdir())]
    assert names == [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    files = str(tmp_path / "set/data/*.parquet")
    loaded = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(loaded.features["mask"], datasets.Image)
    assert loaded["seed"][:] == factories.surest(order)
    for row in loaded:
        check(row["seed"], np.asarray(row["image"]), np.asarray(row["mask"]))
        assert row["uncertainty"] == pytest.approx(factories.uncertainty(row["seed"]))


def test_a_full_last_file_is_not_followed_by_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "ROWS", 3)
    monkeypatch.setattr(webdataset, "SAMPLES", 3)
    written(tmp_path / "a", format="parquet")
    written(tmp_path / "b", format="webdataset")
    assert len(list((tmp_path / "a/data").iterdir())) == 3
    assert len(list((tmp_path / "b").glob("*.tar"))) == 3


def test_without_pyarrow_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(DganError, match=r"pip install 'dgan-backend\[parquet\]'"):
        parquet.pyarrow()
