"""images/ and masks/ with names for the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.migration.classes import class_names, class_numbers
from dgan_backend.migration.masks import is_masks, is_side_by_side, read_masks
from tests.migrations import encoded, masks_folder, picture

MASK = np.repeat(np.array([[0, 1, 2, 255]], dtype=np.uint8), 4, axis=0)
NAMES = "background\ncup\nhandle\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return masks_folder(tmp_path / "pairs", {"a": MASK}, NAMES)


@pytest.mark.parametrize("how", ["grey", "palette", "npy"])
def test_all_kinds_of_masks_say_the_same(folder: Path, how: str) -> None:
    file = folder / "masks" / "a.png"
    if how == "palette":
        image = Image.frombytes("P", (4, 4), MASK.tobytes())
        image.putpalette([255 - n for n in range(256) for _ in range(3)])
        image.save(file)
        with Image.open(file) as saved:
            assert saved.mode == "P"
    if how == "npy":
        file.unlink()
        np.save(file.with_suffix(".npy"), MASK.astype(np.int32))
    (entry,) = read_masks(folder).entries
    read = entry.read()
    assert read.name == "images/a.png"
    assert {r.label: r.mask.tolist() for r in read.regions} == {
        "cup": (MASK == 1).tolist(),
        "handle": (MASK == 2).tolist(),
        "__ignore__": (MASK == 255).tolist(),
    }


def test_pictures_without_mask_and_masks_without_picture_are_told(folder: Path) -> None:
    (folder / "images" / "b.jpg").write_bytes(encoded(picture(), "JPEG"))
    (folder / "masks" / "c.png").write_bytes(encoded(MASK))
    found = read_masks(folder)
    assert found.without_labels == ("images/b.jpg",)
    assert found.notes == ("Masks without a picture of their name: c.png.",)


def test_one_name_of_two_pictures_is_two(folder: Path) -> None:
    (folder / "images" / "a.jpg").write_bytes(encoded(picture(4, 4), "JPEG"))
    assert [e.name for e in read_masks(folder).entries] == ["images/a.jpg", "images/a.png"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("n.txt", "background\ncup\nhandle\n\n"),
        ("n.txt", "\ufeff_background_\r\ncup\r\nhandle"),
        ("n.json", '["background", "cup", "handle"]'),
        ("n.json", '{"0": "background", "2": "handle", "1": "cup"}'),
        ("n.json", '{"background": 0, "handle": 2, "cup": 1}'),
        (
            "n.yaml",
            "name: n\nparts: [{name: background, index: 0}, {name: cup, index: 1, "
            "children: [{name: handle, index: 2}]}]",
        ),
    ],
)
def test_names_of_numbers(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_bytes(text.encode())
    assert class_names(str(tmp_path / file)) == ("background", "cup", "handle")


@pytest.mark.parametrize(
    "said", ["cup=128, the handle =255", '{"0": "background", "255": "the handle", "128": "cup"}']
)
def test_numbers_may_have_gaps(tmp_path: Path, said: str) -> None:
    if said.startswith("{"):
        (tmp_path / "n.json").write_text(said)
        said = str(tmp_path / "n.json")
    assert class_numbers(said) == {0: "background", 128: "cup", 255: "the handle"}


def test_names_of_a_shipped_partonomy() -> None:
    assert class_names("car")[:3] == ("background", "back_bumper", "bumper")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("n.txt", "cup\nhandle", r"n\.txt names class 0 'cup'; 0 is the background"),
        ("n.txt", "background", "names 1 classes"),
        ("n.txt", "background\n\ncup", "has no name for class 1"),
        ("n.txt", "background\n" + "x\n" * 255, "names 256 classes"),
        ("n.txt", b"\xff\xfe", "no UTF-8"),
        ("n.json", "[1, 2]", "give each class number one name"),
        ("n.json", "3", "give each class number one name"),
        ("n.json", '{"0": "background", "0.5": "x"}', "give each class number one name"),
        ("n.json", '{"a": 0, "b": 0}', "give each class number one name"),
        ("n.json", '{"0": "background", "2": "x"}', r"names \[0, 2\]; name all numbers"),
        ("n.json", "[", r"n\.json is not valid JSON"),
        ("n.yaml", "name: 3", "a partonomy needs"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, file: str, text: Any, said: str) -> None:
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DganError, match=said):
        class_names(str(tmp_path / file))


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("cup=1,handle=1", "'handle=1' is no NAME=NUMBER of its own"),
        ("cup=1,", "'' is no NAME=NUMBER"),
        ("cup=-1", "'cup=-1' is no NAME=NUMBER"),
        ("cup=256", "names the number 256; masks hold 0 to 255"),
        ("cup=0,handle=1", "names class 0 'cup'; 0 is the background"),
        ("background=0", "names 1 classes"),
    ],
)
def test_what_is_said_of_numbers_may_be_wrong(said: str, wrong: str) -> None:
    with pytest.raises(DganError, match=rf"--classes {said}.*{wrong}"):
        class_numbers(said)


def test_masks_may_lie_beside_their_pictures(tmp_path: Path) -> None:
    for stem, ending, kind in (("a", "bmp", "BMP"), ("b", "jpg", "JPEG"), ("c", "png", "PNG")):
        (tmp_path / f"{stem}.{ending}").write_bytes(encoded(picture(4, 4), kind))
    grey = np.repeat(np.array([[0, 128, 255, 255]], np.uint8), 4, axis=0)
    (tmp_path / "a.png").write_bytes(encoded(grey))
    np.save(tmp_path / "c.npy", grey)
    assert is_side_by_side(tmp_path) and not is_masks(tmp_path)
    found = read_masks(tmp_path, "cup=128,handle=255")
    assert found.names == ("background", "cup", "handle")
    assert [entry.name for entry in found.entries] == ["a.bmp", "c.png"]
    assert found.without_labels == ("b.jpg",)
    for entry in found.entries:
        masks = {region.label: region.mask.tolist() for region in entry.read().regions}
        assert masks == {"cup": (grey == 128).tolist(), "handle": (grey == 255).tolist()}


def test_a_folder_must_say_what_its_numbers_mean(folder: Path) -> None:
    (folder / "classes.txt").unlink()
    said = r"does not say what its class numbers mean; give --classes.* masks hold 0, 1, 2, 255\."
    with pytest.raises(DganError, match=said):
        read_masks(folder)
    (folder / "classes.json").write_text(json.dumps(["background", "cup", "handle"]))
    assert len(read_masks(folder).entries) == 1
    with pytest.raises(DganError, match=r"There is no partonomy 'huhu'"):
        read_masks(folder, "huhu")
    with pytest.raises(DganError, match=r"no\.txt cannot be read"):
        read_masks(folder, str(folder / "no.txt"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(picture(4, 4)), "is a RGB picture"),
        (encoded(MASK, "JPEG"), "is JPEG, which changes numbers"),
        (encoded(MASK[:, :2]), "is 2 x 4, its picture 4 x 4: another frame"),
        (encoded(MASK)[:40], "cannot be read as a mask"),
        (b"", "cannot be read as a mask"),
        (encoded(np.full((4, 4), 3, np.uint8)), r"has the class 3, which .* is 2 \(handle\)"),
    ],
)
def test_the_mask_at_fault_is_named(folder: Path, data: bytes, said: str) -> None:
    (folder / "masks" / "a.png").write_bytes(data)
    (entry,) = read_masks(folder).entries
    with pytest.raises(DganError, match=rf"a\.png.*{said}"):
        entry.read()


def test_another_folder(tmp_path: Path) -> None:
    assert not is_masks(tmp_path)
    with pytest.raises(DganError, match="no images/ with pictures, and masks/ beside it"):
        read_masks(tmp_path)
