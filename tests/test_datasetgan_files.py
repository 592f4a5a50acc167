"""DatasetGAN's released layout: which mask, which names, which latent a picture has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgan_backend.errors import DganError
from dgan_backend.migration.collection import IGNORED, Collection
from dgan_backend.migration.datasetgan import Latents, is_datasetgan, read_datasetgan
from dgan_backend.pictures import decode_picture
from tests.migrations import datasetgan_folder, encoded, picture, save_latents

OURS = "sha256:5741"


def mask(*numbers: int, height: int = 8, width: int = 12, dtype: Any = np.int64) -> np.ndarray:
    """Columns of these class numbers."""
    row = np.repeat(numbers, -(-width // len(numbers)))[:width]
    return np.tile(row, (height, 1)).astype(dtype)


def rows(found: Collection) -> dict[str, Any]:
    """Which row of the latents each picture is said to be."""
    return {e.name: e.read().data.get("latent", {}).get("index") for e in found.entries}


def painted(found: Collection) -> dict[str, list[str]]:
    return {e.name: [region.label for region in e.read().regions] for e in found.entries}


def test_the_numbers_of_a_set_have_its_names(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "car_processed", {0: mask(0, 3, 19), 2: mask(20 - 1, 14)})
    found = read_datasetgan(folder)
    assert painted(found) == {
        "image_0.jpg": ["car_body", "windshield"],
        "image_2.jpg": ["tail_light", "windshield"],
    }
    assert (found.partonomy, found.notes, found.without_labels) == ("car", (), ())
    read = found.entries[0].read()
    assert np.array_equal(read.regions[0].mask, mask(0, 3, 19) == 3)
    assert read.file == (folder / "image_0.jpg").read_bytes() and read.ending == ".jpg"
    assert np.array_equal(read.picture, decode_picture(read.file))
    assert read.data == {}


def test_faces_have_the_published_numbers(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "face_processed", {0: mask(7, 10, 22, 33)})
    names = ["bottom_lid", "pupil", "oral_commissure", "wrinkles"]
    assert painted(read_datasetgan(folder)) == {"image_0.jpg": names}


def test_names_that_are_not_public_are_said_to_be_so(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "cat_processed", {0: mask(1, 15)})
    found = read_datasetgan(folder)
    assert painted(found) == {"image_0.jpg": ["class 1", "class 15"]}
    assert found.partonomy == "" and "not public" in found.notes[0]
    (tmp_path / "cats.txt").write_text("background\n" + "\n".join(f"c{n}" for n in range(1, 16)))
    found = read_datasetgan(folder, classes=str(tmp_path / "cats.txt"))
    assert (painted(found), found.notes) == ({"image_0.jpg": ["c1", "c15"]}, ())


def test_a_folder_of_ones_own_needs_a_set_or_names(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "mine", {0: mask(0, 1)})
    with pytest.raises(DganError, match=r"none of the released sets .*--set, or name its classes"):
        read_datasetgan(folder)
    assert painted(read_datasetgan(folder, "face_34")) == {"image_0.jpg": ["head"]}
    assert painted(read_datasetgan(folder, classes="toonhead")) == {"image_0.jpg": ["rear_hair"]}


def test_of_a_whole_release_one_set_is_chosen(tmp_path: Path) -> None:
    training = tmp_path / "annotation" / "training_data"
    datasetgan_folder(training / "car_processed", {0: mask(1)})
    for folder in (tmp_path, tmp_path / "annotation", training):
        assert is_datasetgan(folder)
        assert painted(read_datasetgan(folder)) == {"image_0.jpg": ["back_bumper"]}
    datasetgan_folder(training / "face_processed", {0: mask(1)})
    with pytest.raises(DganError, match="holds car_20, face_34; choose one of them with --set"):
        read_datasetgan(tmp_path)
    assert painted(read_datasetgan(tmp_path, "face_34")) == {"image_0.jpg": ["head"]}
    with pytest.raises(DganError, match="holds car_20, face_34; choose"):
        read_datasetgan(tmp_path, "cat_16")


def test_testing_data_are_paired_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "annotation" / "testing_data" / "car_ade_12_class"
    folder.mkdir(parents=True)
    for number, name in enumerate(["ADE_10.npy", "ADE_2.npy"]):
        np.save(folder / name, mask(number + 1))
    for number, name in enumerate(["a10.jpg", "a2.jpg"]):
        (folder / name).write_bytes(encoded(picture(8, 12, number), "JPEG"))
    found = read_datasetgan(tmp_path)
    assert painted(found) == {"a10.jpg": ["body"], "a2.jpg": ["headlight"]}
    assert found.partonomy == ""  # its 12 classes are none of a shipped one's
    assert found.notes == ("Pictures and masks are paired in the order of their names.",)
    with pytest.raises(DganError, match="photographs that have no latents"):
        read_datasetgan(folder, latents=Latents(OURS))
    (folder / "a2.jpg").unlink()
    with pytest.raises(DganError, match="has 1 pictures and 2 masks"):
        read_datasetgan(folder)


def test_pictures_without_a_mask_are_told_and_masks_without_a_picture_refused(
    tmp_path: Path,
) -> None:
    shown = {n: picture(8, 12, n) for n in (0, 1, 10)}
    folder = datasetgan_folder(tmp_path / "car_processed", {0: mask(1), 10: mask(2)}, shown)
    found = read_datasetgan(folder)
    assert list(painted(found)) == ["image_0.jpg", "image_10.jpg"]
    assert found.without_labels == ("image_1.jpg",)
    (folder / "image_10.jpg").unlink()
    with pytest.raises(DganError, match=r"image_mask10\.npy has no picture; image_10\.jpg is miss"):
        read_datasetgan(folder)


# Latents


def test_in_the_release_a_picture_is_the_row_of_its_number(tmp_path: Path) -> None:
    folder = tmp_path / "annotation" / "training_data" / "car_processed"
    datasetgan_folder(folder, {n: mask(1) for n in range(3)})
    save_latents(tmp_path / "training_latent" / "car_20" / "latent_stylegan1.npy", 3)
    found = read_datasetgan(folder, latents=Latents(OURS))
    assert rows(found) == {"image_0.jpg": 0, "image_1.jpg": 1, "image_2.jpg": 2}
    assert "3 latents; image_i is row i, as in the release" in found.notes[0]
    assert found.entries[2].read().data["latent"] == {
        "generator": OURS,
        "file": "latent_stylegan1.npy",
        "index": 2,
        "truncation": 0.7,
    }


def test_in_folders_made_with_the_script_it_is_one_less(tmp_path: Path) -> None:
    """Four pictures, of which two were labeled; the first shows the mean latent."""
    shown = {n: picture(8, 12, n) for n in range(4)}
    masks = {n: mask(1) for n in (0, 2)}
    folder = datasetgan_folder(tmp_path / "car_processed", masks, shown, latents=3)
    found = read_datasetgan(folder, latents=Latents(OURS))
    assert rows(found) == {"image_0.jpg": None, "image_2.jpg": 1}
    assert "latent" not in found.entries[0].read().data
    assert "image_i is row i - 1 and image_0, which shows the mean latent" in found.notes[0]


def test_which_row_is_first_can_be_said(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "car_processed", {n: mask(1) for n in (1, 2)})
    file = save_latents(tmp_path / "some.npy", 99)
    assert rows(read_datasetgan(folder, latents=Latents(OURS, file, 1))) == {
        "image_1.jpg": 0,
        "image_2.jpg": 1,
    }
    assert rows(read_datasetgan(folder, latents=Latents(OURS, file)))["image_2.jpg"] == 2


def test_without_a_generator_nothing_is_said_of_latents(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "car_processed", {0: mask(1)}, latents=1)
    found = read_datasetgan(folder)
    assert (rows(found), found.notes) == ({"image_0.jpg": None}, ())


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (np.zeros((2, 512)), r"2 latents, too few for image_4\.jpg"),
        (np.zeros(512), r"is \(512,\); latents are"),
        (np.zeros((0, 512)), r"is \(0, 512\)"),
        (np.array([object()]), "cannot be read as an array of numbers"),
        (None, "There is no latent_stylegan1"),
    ],
)
def test_latents_that_do_not_fit_are_refused(tmp_path: Path, stored: Any, said: str) -> None:
    folder = datasetgan_folder(tmp_path / "car_processed", {4: mask(1)})
    if stored is not None:
        np.save(folder / "latent_stylegan1.npy", stored, allow_pickle=True)
    with pytest.raises(DganError, match=said):
        read_datasetgan(folder, latents=Latents(OURS))


# Masks


def test_a_mask_of_the_same_proportions_is_resized(tmp_path: Path) -> None:
    small = mask(1, 19, height=4, width=6, dtype=np.float64)[None]  # [1, H, W], as some are
    folder = datasetgan_folder(tmp_path / "car_processed", {0: small}, {0: picture(8, 12)})
    (entry,) = read_datasetgan(folder).entries
    one, other = entry.read().regions
    assert np.array_equal(one.mask, mask(1, 19) == 1)
    assert np.array_equal(other.mask, mask(1, 19) == 19)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (mask(1, height=12), r"is 12 x 12, its picture 12 x 8: another frame"),
        (mask(1, 20), r"has the class 20, which has no name; the last .* 19 \(windshield\)"),
        (mask(1, -1), "not from 0 to 255"),
        (mask(1, 256), "not from 0 to 255"),
        (mask(1) + np.nan, "not from 0 to 255"),
        (mask(1) + 0.5, "holds fractions"),
        (np.zeros((8, 12, 3), int), r"is \(8, 12, 3\)"),
        (np.zeros((0, 12), int), r"is \(0, 12\)"),
        (np.full((8, 12), "1"), "holds <U1"),
        (np.full((8, 12), None), "cannot be read as an array of numbers"),
    ],
)
def test_a_mask_that_cannot_be_is_named(tmp_path: Path, stored: np.ndarray, said: str) -> None:
    folder = datasetgan_folder(tmp_path / "car_processed", {0: mask(1)})
    np.save(folder / "image_mask0.npy", stored, allow_pickle=True)
    (entry,) = read_datasetgan(folder).entries
    with pytest.raises(DganError, match=rf"image_mask0\.npy.*{said}"):
        entry.read()


def test_broken_files_are_named(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "car_processed", {0: mask(1)})
    (entry,) = read_datasetgan(folder).entries
    file = folder / "image_mask0.npy"
    whole = file.read_bytes()
    for data in (whole[:-5], whole[:9], b"", b"PK\x03\x04 no zip"):
        file.write_bytes(data)
        with pytest.raises(DganError, match=r"image_mask0\.npy"):
            entry.read()
    shutil.copy(folder / "image_0.jpg", file)
    with pytest.raises(DganError, match=r"image_mask0\.npy cannot be read"):
        entry.read()
    np.save(file, mask(1))
    (folder / "image_0.jpg").write_bytes(b"no picture")
    with pytest.raises(DganError, match=r"image_0\.jpg cannot be read as a picture"):
        entry.read()


def test_what_says_nothing_is_255(tmp_path: Path) -> None:
    folder = datasetgan_folder(tmp_path / "car_processed", {0: mask(1, 255, dtype=np.uint8)})
    assert painted(read_datasetgan(folder)) == {"image_0.jpg": ["back_bumper", IGNORED]}


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert not is_datasetgan(tmp_path)
    with pytest.raises(DganError, match=r"no image_mask0\.npy with image_0\.jpg"):
        read_datasetgan(tmp_path)
