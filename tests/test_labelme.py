"""LabelMe's files: each shape's pixels, where pictures come from, and what is wrong with files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.migration.collection import LabeledPicture
from dgan_backend.migration.labelme import is_labelme, read_labelme
from tests.migrations import base64_of, box, encoded, labelme_file, picture, shape

H, W = 12, 16


def only(folder: Path) -> LabeledPicture:
    (entry,) = read_labelme(folder).entries
    return entry.read()


def filled(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((H, W), dtype=bool)
    mask[max(top, 0) : bottom, max(left, 0) : right] = True
    return mask


def disk(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:H, :W] + 0.5
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


_STAMP = np.zeros((3, 4), dtype=np.uint8)
_STAMP[1:, 2:] = 255


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (shape("x", box(2, 3, 7, 9)), filled(2, 3, 7, 9)),
        (shape("x", box(2, 3, 7, 9)[::-1]), filled(2, 3, 7, 9)),
        (shape("x", box(-5, -9, 4, 99)), filled(0, 0, 4, W)),
        (shape("x", box(2, 20, 7, 30)), filled(0, 0, 0, 0)),
        ({"label": "x", "points": box(2, 3, 7, 9)}, filled(2, 3, 7, 9)),  # of an old LabelMe
        (shape("x", [[3, 2], [9, 7]], "rectangle"), filled(2, 3, 7, 9)),
        (shape("x", [[9, 2], [3, 7]], "rectangle"), filled(2, 3, 7, 9)),
        (shape("x", box(2, 3, 7, 9), "rectangle"), filled(2, 3, 7, 9)),
        (shape("x", [[8, 6], [8, 9]], "circle"), disk(6, 8, 3)),
        (shape("x", [[0, 0], [3, 4]], "circle"), disk(0, 0, 5)),
        (
            shape("x", [[5, 4], [8, 6]], "mask", mask=base64_of(encoded(_STAMP))),
            filled(5, 7, 7, 9),
        ),
        (
            shape("x", [[-3, -2], [0, 0]], "mask", mask=base64_of(encoded(_STAMP))),
            filled(0, 0, 1, 1),
        ),
        (
            shape("x", [[99, 99], [102, 101]], "mask", mask=base64_of(encoded(_STAMP))),
            filled(0, 0, 0, 0),
        ),
    ],
)
def test_a_shape_is_the_pixels_whose_centre_is_inside(
    tmp_path: Path, drawn: Any, expected: np.ndarray
) -> None:
    labelme_file(tmp_path / "a.json", [drawn])
    (region,) = only(tmp_path).regions
    assert region.label == "x"
    assert np.array_equal(region.mask, expected)


def test_a_triangle(tmp_path: Path) -> None:
    labelme_file(tmp_path / "a.json", [shape(" x ", [[0, 0], [6.5, 0], [0, 6.5]])])
    (region,) = only(tmp_path).regions
    assert region.label == "x"
    rows, columns = np.mgrid[:H, :W]
    assert np.array_equal(region.mask, rows + columns <= 5)


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip", "cuboid"])
def test_what_has_no_area_is_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    points = [[1, 1], [2, 2]]
    shapes = [shape("x", points, kind), shape("y", box(0, 0, 2, 2)), shape("x", points, kind)]
    labelme_file(tmp_path / "a.json", shapes)
    read = only(tmp_path)
    assert [region.label for region in read.regions] == ["y"]
    assert read.left_out == {kind: 2}


@pytest.mark.parametrize("embedded", [True, False])
def test_the_picture_is_in_the_file_or_beside_it(tmp_path: Path, embedded: bool) -> None:
    labelme_file(tmp_path / "sub" / "a.json", [], picture(H, W, 3), embedded=embedded)
    read = only(tmp_path)
    assert read.name == "sub/a.json"
    assert np.array_equal(read.picture, picture(H, W, 3))
    assert (read.ending, read.file) == (".png", encoded(picture(H, W, 3)))


def test_the_picture_in_the_file_goes_before_the_one_beside_it(tmp_path: Path) -> None:
    labelme_file(tmp_path / "a.json", [], picture(H, W, 3), embedded=True)
    (tmp_path / "a.png").write_bytes(encoded(picture(H, W, 4)))
    assert np.array_equal(only(tmp_path).picture, picture(H, W, 3))


@pytest.mark.parametrize(
    "named",
    ["../pictures/p.png", "..\\pictures\\p.png", "C:\\Users\\me\\p2.png", "/home/me/p2.png"],
)
def test_paths_of_other_machines_are_understood(tmp_path: Path, named: str) -> None:
    labelme_file(tmp_path / "json" / "a.json", [], picture(H, W, 3), imagePath=named)
    (tmp_path / "json" / "a.png").rename(tmp_path / "json" / "p2.png")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "p.png").write_bytes(encoded(picture(H, W, 3)))
    assert np.array_equal(only(tmp_path).picture, picture(H, W, 3))


@pytest.mark.parametrize("how", ["../secret.png", "absolute", "link"])
def test_nothing_outside_of_the_folder_is_read(tmp_path: Path, how: str) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(picture()))
    folder = tmp_path / "labels"
    named = {"absolute": str(secret), "link": "link.png"}.get(how, how)
    labelme_file(folder / "a.json", [], imagePath=named)
    (folder / "link.png").symlink_to(secret)
    with pytest.raises(DganError, match=r"a\.json shows .*which is outside of .*is not read"):
        only(folder)


def test_photos_are_turned_as_they_were_when_they_were_labeled(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    labelme_file(tmp_path / "a.json", [shape("x", box(0, 0, 1, 1))], picture(W, H))
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.jpg").write_bytes(encoded(picture(H, W), "JPEG", exif=exif))
    text = (tmp_path / "a.json").read_text().replace("a.png", "a.jpg")
    (tmp_path / "a.json").write_text(text)
    read = only(tmp_path)
    assert read.picture.shape == (W, H, 3)
    assert read.file == (tmp_path / "a.jpg").read_bytes() and read.ending == ".jpg"


def test_what_browsers_do_not_show_becomes_png(tmp_path: Path) -> None:
    data = base64_of(encoded(picture(), "TIFF"))
    labelme_file(tmp_path / "a.json", [], imageData=data)
    read = only(tmp_path)
    assert (read.ending, read.file) == (".png", encoded(picture(), optimize=True))


def test_pictures_without_a_file_and_files_of_others_are_told(tmp_path: Path) -> None:
    labelme_file(tmp_path / "a.json", [])
    labelme_file(tmp_path / "b.json", [], imagePath="photo.png")
    (tmp_path / "b.png").rename(tmp_path / "photo.png")
    (tmp_path / "c.png").write_bytes(encoded(picture()))
    (tmp_path / "package.json").write_text('{"name": "tool"}')
    found = read_labelme(tmp_path)
    assert [entry.name for entry in found.entries] == ["a.json", "b.json"]
    assert found.without_labels == ("c.png",)
    assert found.notes == ("Not of LabelMe: package.json.",)
    assert is_labelme(tmp_path)


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (shape("ear", [[1, 1], [2, 2]]), r"shape 1 \(ear\): a polygon needs more than 2 points"),
        (shape("ear", [[1, 1], [2, float("nan")], [3, 3]]), "not finite"),
        (shape("ear", [[1, 1], [2, float("inf")], [3, 3]]), "not finite"),
        (shape("ear", [[1, 1], [1e300, 2], [3, 3]]), "1e[+]06 pixels away"),
        (shape("ear", [[1, 1], [10**400, 2], [3, 3]]), "too far away"),
        (shape("ear", [[1, 1]] * 20_001), "has 20001 points"),
        (shape("ear", [[1, 1], [2, "2"], [3, 3]]), "not pairs of numbers"),
        (shape("ear", [[1, 1], [2, True], [3, 3]]), "not pairs of numbers"),
        (shape("ear", None), "not pairs of numbers"),
        (shape("ear", [[1, 1]], "circle"), "two points, not 1"),
        (shape("ear", [[1, 1]], "rectangle"), "needs more than 1 points"),
        (shape("ear", [[1, 1], [2, 2]], "mask"), "two points and a PNG"),
        (shape("ear", [[1, 1], [2, 2]], "mask", mask="AAAA"), "PNG is cut short or broken"),
        (shape("ear", [[1, 1], [2, 2]], "mask", mask="?"), "PNG is cut short or broken"),
        (shape("", box(0, 0, 2, 2)), "shape 1: it has no label"),
        (shape(7, box(0, 0, 2, 2)), "shape 1: it has no label"),
        ("ear", "shape 1: it is no object"),
    ],
)
def test_the_file_and_the_shape_at_fault_are_named(tmp_path: Path, drawn: Any, said: str) -> None:
    labelme_file(tmp_path / "a.json", [drawn])
    with pytest.raises(DganError, match=rf"a\.json.*{said}"):
        only(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"shapes": [', r"a\.json is not valid JSON"),
        ("[" * 100_000, r"a\.json is not valid JSON"),
        ("\xff\xfe", r"a\.json is not valid JSON"),
        ('{"shapes": 3}', r"a\.json has no list of `shapes`"),
        ('{"shapes": []}', r"a\.json has neither imageData nor an imagePath"),
        ('{"shapes": [], "imagePath": "b.png"}', r"a\.json shows 'b\.png', which is not there"),
        ('{"shapes": [], "imagePath": "."}', r"a\.json shows '\.', which is not there"),
        ('{"shapes": [], "imagePath": "a\\u0000"}', "neither imageData nor an imagePath"),
        ('{"shapes": [], "imageData": "AAA"}', r"a\.json: its imageData is no valid base64"),
        ('{"shapes": [], "imageData": "AAAA"}', r"imageData of .*a\.json cannot be read as a pict"),
        ('{"shapes": [], "imagePath": "a.json"}', r"a\.json cannot be read as a picture"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DganError, match=said):
        only(tmp_path)


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    labelme_file(tmp_path / "a.json", [], imageWidth=W + 1)
    with pytest.raises(DganError, match=r"drawn on 17 x 12 pixels, but its picture is 16 x 12"):
        only(tmp_path)


def test_a_folder_without_any(tmp_path: Path) -> None:
    assert not is_labelme(tmp_path)
    with pytest.raises(DganError, match="no JSON file of LabelMe"):
        read_labelme(tmp_path)


_NUMBERS = st.floats() | st.integers(-40, 40) | st.integers() | st.none() | st.text(max_size=2)
_SHAPES = st.fixed_dictionaries(
    {"label": st.text(max_size=3) | st.none()},
    optional={
        "points": st.lists(st.lists(_NUMBERS, max_size=3), max_size=6) | st.none(),
        "shape_type": st.sampled_from(["polygon", "rectangle", "circle", "mask", "line", "?", 3]),
        "mask": st.text(max_size=8) | st.none(),
    },
)
_PAIRS = st.lists(st.tuples(*[st.floats(-50, 50)] * 2).map(list), min_size=2, max_size=9)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_SHAPES | st.none() | st.integers(), max_size=3), st.data())
def test_any_json_is_read_or_refused_by_name(tmp_path: Path, shapes: list[Any], data: Any) -> None:
    path = labelme_file(tmp_path / "a.json", shapes)
    text = path.read_bytes()
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(text)))
        path.write_bytes(text[:cut] + data.draw(st.binary(max_size=3)) + text[cut + 1 :])
    try:
        read = only(tmp_path)
    except DganError as error:
        assert "a.json" in str(error) or str(tmp_path) in str(error)
    else:
        assert all(r.mask.shape == (H, W) and r.mask.dtype == bool for r in read.regions)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_PAIRS, st.sampled_from(["polygon", "rectangle", "circle"]))
def test_a_shape_lies_within_its_bounds(tmp_path: Path, points: list[Any], kind: str) -> None:
    points = points[:2] if kind == "circle" else points
    kind = "rectangle" if len(points) == 2 and kind == "polygon" else kind
    labelme_file(tmp_path / "a.json", [shape("x", points, kind)])
    (region,) = only(tmp_path).regions
    xy = np.array(points)
    low, high = xy.min(axis=0), xy.max(axis=0)
    if kind == "circle":
        radius = np.hypot(*(xy[1] - xy[0]))
        low, high = xy[0] - radius, xy[0] + radius
    rows, columns = np.nonzero(region.mask)
    assert (rows + 0.5 >= low[1] - 1e-9).all() and (rows + 0.5 <= high[1] + 1e-9).all()
    assert (columns + 0.5 >= low[0] - 1e-9).all() and (columns + 0.5 <= high[0] + 1e-9).all()


def test_the_builder_writes_what_labelme_writes(tmp_path: Path) -> None:
    about = json.loads(labelme_file(tmp_path / "a.json", []).read_text())
    assert about["imageData"] is None and about["imagePath"] == "a.png"
