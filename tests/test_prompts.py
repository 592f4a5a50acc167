"""What a person drew with a smart tool."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.prompts import Prompt, read_prompts
from dgan_backend.partonomy import from_labels
from tests.drawing import click, drawn, stroke

PARENTS = {"eye": "head", "iris": "eye", "nose": "head"}
FACE = from_labels("face", ["head", "eye", "iris", "nose", "hat"], PARENTS)
BINDING = bind(parse_config(labeling_config(FACE, smart=True)), 1, {"partonomy": "own"})
HEAD, EYE, IRIS, NOSE, HAT = 1, 2, 3, 4, 5
SIZE = (8, 10)


def read(*regions: object, binding: Binding = BINDING) -> list[Prompt]:
    return read_prompts({"result": list(regions)}, binding)


def pixels(prompt: Prompt) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(prompt.mask)]


@given(row=st.integers(0, 7), column=st.integers(0, 9))
def test_a_click_is_its_pixel(row: int, column: int) -> None:
    (prompt,) = read(click(row, column, SIZE))
    assert prompt.mask.shape == SIZE
    assert pixels(prompt) == [(row, column)]
    assert prompt.chosen is None and prompt.positive


@pytest.mark.parametrize(("at", "pixel"), [(0, (0, 0)), (100, (7, 9)), (99.99, (7, 9))])
def test_clicks_on_the_rim_are_inside(at: float, pixel: tuple[int, int]) -> None:
    (prompt,) = read(drawn("keypoint", {"x": at, "y": at}, SIZE))
    assert pixels(prompt) == [pixel]


def test_a_box_holds_the_pixels_whose_centre_is_inside() -> None:
    box = {"x": 20, "y": 25, "width": 30, "height": 50, "rectanglelabels": ["eye"]}
    (prompt,) = read(drawn("rectanglelabels", box, SIZE))
    expected = np.zeros(SIZE, dtype=bool)
    expected[2:6, 2:5] = True
    np.testing.assert_array_equal(prompt.mask, expected)
    assert prompt.chosen == EYE


def test_a_turned_box_is_turned_clockwise_about_its_corner() -> None:
    box = {"x": 50, "y": 0, "width": 40, "height": 20, "rotation": 90}
    (prompt,) = read(drawn("rectangle", box, (10, 10)))
    expected = np.zeros((10, 10), dtype=bool)
    expected[0:4, 3:5] = True
    np.testing.assert_array_equal(prompt.mask, expected)


@pytest.mark.parametrize("kind", ["brush", "bitmask"])
def test_strokes_are_their_masks(kind: str) -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask[1, 2:7] = mask[2, 6] = True
    for label, chosen in (("", None), ("nose", NOSE)):
        (prompt,) = read(stroke(mask, label, kind))
        np.testing.assert_array_equal(prompt.mask, mask)
        assert prompt.chosen == chosen


def test_polygons_are_filled() -> None:
    points = [[0, 0], [50, 0], [50, 50], [0, 50]]
    (prompt,) = read(drawn("polygonlabels", {"points": points, "polygonlabels": ["hat"]}, SIZE))
    assert prompt.mask[:4, :5].all() and prompt.mask.sum() == 20
    assert prompt.chosen == HAT


def test_labels_may_stand_in_another_result_of_the_same_region() -> None:
    """`<KeyPoint>` or `<Brush>` beside `<Labels>`."""
    point = click(1, 1, SIZE)
    label = drawn("labels", {"x": 0, "y": 0, "labels": ["eye"]}, SIZE, from_name="names")
    other = {**label, "id": "another", "value": {"labels": ["hat"]}}
    assert [prompt.chosen for prompt in read(point, label, other)] == [EYE]


def test_a_smart_click_names_its_labels_itself() -> None:
    point = click(1, 1, SIZE)
    point["value"]["labels"] = ["hat"]
    assert [prompt.chosen for prompt in read(point)] == [HAT]


def test_of_several_labels_the_deepest_is_chosen() -> None:
    point = click(1, 1, SIZE, "head")
    point["value"]["keypointlabels"] = ["head", "iris", "eye"]
    assert [prompt.chosen for prompt in read(point)] == [IRIS]


def test_labels_of_other_tools_choose_nothing() -> None:
    assert [prompt.chosen for prompt in read(click(1, 1, SIZE, "this part"))] == [None]


def test_clicks_may_say_no() -> None:
    yes, no = click(1, 1, SIZE, is_positive=True), click(2, 2, SIZE, is_positive=False, id="b")
    assert [prompt.positive for prompt in read(yes, no)] == [True, False]


def test_other_results_and_pictures_are_passed_over() -> None:
    choice = drawn("choices", {"choices": ["blurred"]}, SIZE, id="c")
    elsewhere = click(2, 2, SIZE, "hat", id="e", to_name="second")
    assert [pixels(prompt) for prompt in read(choice, click(1, 1, SIZE), elsewhere)] == [[(1, 1)]]


@pytest.mark.parametrize("context", [None, {}, [], "x", {"result": []}, {"result": "x"}])
def test_no_context(context: object) -> None:
    with pytest.raises(DganError, match=r'must be an object like \{"result"'):
        read_prompts(context, BINDING)


EMPTY = np.zeros(SIZE, dtype=bool)


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        ([7], "must be an object with a value, not 7"),
        ([drawn("keypoint", None, SIZE)], "must be an object with a value"),  # type: ignore[arg-type]
        ([drawn("choices", {"choices": ["x"]}, SIZE)], "use one of the smart tools keypoint"),
        ([click(1, 1, SIZE, to_name="other")], "points at a place of 'image'"),
        ([click(1, 1, SIZE, original_width=None)], "original_width and original_height are None"),
        ([click(1, 1, SIZE, original_width="10")], "'drawn' .keypoint. cannot be read"),
        ([click(1, 1, SIZE, original_height=0)], "original_height are 10, 0"),
        ([click(1, 1, SIZE, original_width=10**6, original_height=10**6)], "are too many"),
        ([click(1, 1, SIZE, image_rotation=90)], "turn the picture back"),
        ([drawn("keypoint", {"x": "1", "y": 1}, SIZE)], "its x is '1'"),
        ([drawn("keypoint", {"x": 1}, SIZE)], "its y is None"),
        ([drawn("keypoint", {"x": float("nan"), "y": 1}, SIZE)], "its x is nan"),
        ([drawn("keypoint", {"x": 101, "y": 1}, SIZE)], "outside of the picture"),
        ([drawn("rectangle", {"x": 1, "y": 1, "width": 5}, SIZE)], "its height is None"),
        ([drawn("rectangle", {"x": 1, "y": 1, "width": 1, "height": 1}, SIZE)], "holds no pixel"),
        ([drawn("polygon", {"points": [[1, 1]]}, SIZE)], "needs three points"),
        ([drawn("brush", {}, SIZE)], "it has no 'rle'"),
        ([drawn("brush", {"rle": [1, 2]}, SIZE)], r"'drawn' \(no label\) cannot be read: its RLE"),
        ([stroke(EMPTY)], "holds no pixel"),
        ([stroke(EMPTY, original_width=11)], "its RLE holds 80 pixels"),
        ([click(1, 1, SIZE), click(1, 1, (9, 9), id="b")], "pictures of different sizes"),
        ([click(1, 1, SIZE)] * 33, "has 33 drawn regions, of which 32 are read at most"),
        ([click(1, 1, (7000, 7000))] * 5, "of which 4 are read at most on 7000 x 7000 pixels"),
    ],
)
def test_what_cannot_be_used_is_said(regions: list, said: str) -> None:
    with pytest.raises(DganError, match=said):
        read(*regions)


def test_sizes_are_compared_before_any_mask_is_read() -> None:
    broken = drawn("brush", {"rle": "none"}, (7000, 7000))
    tracemalloc.start()
    with pytest.raises(DganError, match="pictures of different sizes"):
        read(click(1, 1, SIZE), *[click(1, 1, (7000, 7000))] * 3, broken)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_as_many_regions_as_people_draw_are_read() -> None:
    assert len(read(*[click(1, 1, SIZE)] * 32)) == 32


def test_without_smart_tools_they_are_named() -> None:
    plain = bind(parse_config(labeling_config(FACE)), 1, {"partonomy": "own"})
    assert BINDING.config.smart and not plain.config.smart
    with pytest.raises(DganError, match='adding smart="true"'):
        read(drawn("choices", {}, SIZE), binding=plain)


def test_a_label_that_the_version_does_not_know_is_said() -> None:
    older = from_labels("face", ["head", "eye", "iris", "nose"], PARENTS)
    with pytest.raises(DganError, match="does not know the label 'hat' yet"):
        read(click(1, 1, SIZE, "hat"), binding=BINDING.to(older))
