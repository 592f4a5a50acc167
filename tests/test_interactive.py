"""The part that a person points at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dgan_backend.interactive import parts_at, regions_at
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.prompts import Prompt
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.partonomy import from_labels
from dgan_backend.records import Segmentation

KINDS = ["brush", "bitmask", "polygon"]
PARENTS = {"eye": "head", "iris": "eye", "nose": "head"}
FACE = from_labels("face", ["head", "eye", "iris", "nose", "hat"], PARENTS)
HEAD, EYE, IRIS, NOSE, HAT = 1, 2, 3, 4, 5
# fmt: off
TOON = np.array([
    [0, 5, 5, 5, 5, 5, 0, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    [0, 2, 3, 1, 2, 3, 1, 0, 0, 0, 0, 0],
    [0, 2, 2, 1, 2, 2, 1, 0, 0, 0, 0, 4],
    [0, 1, 1, 4, 1, 1, 1, 0, 0, 0, 4, 0],
], dtype=np.uint8)
# fmt: on


def bound(kind: str = "brush") -> Binding:
    return bind(parse_config(labeling_config(FACE, kind)), 1, {"partonomy": "own"})


def at(*places: tuple[int, int], chosen: int | None = None, positive: bool = True) -> Prompt:
    """A prompt of these pixels: row, column."""
    mask = np.zeros(TOON.shape, dtype=bool)
    mask[tuple(zip(*places, strict=True))] = True
    return Prompt(mask, chosen, positive)


def found(*prompts: Prompt, labels: np.ndarray = TOON) -> dict[int, np.ndarray]:
    return parts_at(labels, prompts, FACE)


def same(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all((one[k] == other[k]).all() for k in one)


LEFT, RIGHT = np.s_[2:4, 1:3], np.s_[2:4, 4:6]


def only(index: int, where: object = np.s_[:]) -> dict[int, np.ndarray]:
    """The class there and nowhere else."""
    mask = np.zeros(TOON.shape, dtype=bool)
    mask[where] = TOON[where] == index  # type: ignore[index]
    return {index: mask}


def below(index: int, *, where: object = np.s_[:]) -> dict[int, np.ndarray]:
    """The class and everything below it there."""
    mask = np.zeros(TOON.shape, dtype=bool)
    members = (index == TOON) | FACE.descends[:, index][TOON]
    mask[where] = members[where]  # type: ignore[index]
    return {index: mask}


def test_a_click_gets_the_piece_of_the_class_under_it() -> None:
    assert same(found(at((3, 1))), only(EYE, LEFT))
    assert same(found(at((2, 5))), only(IRIS, RIGHT))
    assert same(found(at((1, 1))), only(HEAD))


def test_pieces_reach_across_corners() -> None:
    assert same(found(at((3, 11))), only(NOSE, np.s_[:, 10:]))


def test_background_gets_nothing() -> None:
    assert found(at((0, 0))) == found(at((4, 8), (4, 9))) == {}


def test_a_stroke_gets_the_class_with_the_most_pixels_but_background() -> None:
    rough = at((3, 0), (2, 0), (4, 0), (3, 1), (3, 2), (4, 2))
    assert same(found(rough), only(EYE, LEFT))
    both = at((3, 1), (3, 2), (3, 3), (3, 4), (3, 5))
    assert same(found(both), only(EYE))


def test_a_chosen_inner_node_has_everything_below_it() -> None:
    assert same(found(at((2, 2), chosen=EYE)), below(EYE, where=LEFT))
    assert same(found(at((2, 2), chosen=HEAD)), below(HEAD, where=np.s_[:, :8]))
    assert same(found(at((2, 2), chosen=IRIS)), only(IRIS, LEFT))


def test_a_chosen_class_that_was_missed_is_found_nearby() -> None:
    wide = np.zeros((10, 100), dtype=np.uint8)  # 5 % are 5 pixels
    wide[5, 20], wide[5, 40:42] = NOSE, NOSE
    for column, expected in [(26, []), (25, [20]), (22, [20]), (35, [40, 41]), (34, [])]:
        mask = np.zeros(wide.shape, dtype=bool)
        mask[5, column] = True
        part = found(Prompt(mask, NOSE), labels=wide)
        columns = list(np.flatnonzero(part[NOSE].any(axis=0))) if part else []
        assert columns == expected, column
        assert found(Prompt(mask), labels=wide) == {}  # it only holds for a chosen one


def test_what_is_touched_comes_before_what_is_near() -> None:
    touching = at((2, 0), (2, 1), (2, 2), (2, 3), chosen=EYE)
    assert same(found(touching), below(EYE, where=LEFT))


def test_a_class_that_is_not_there_gets_nothing() -> None:
    assert found(at((4, 10), chosen=HAT)) == {}
    assert found(at((1, 1), chosen=0)) == {}


def test_several_prompts_add_up() -> None:
    assert same(found(at((3, 1)), at((3, 4))), only(EYE))
    two = found(at((3, 1)), at((0, 2)))
    assert same(two, only(EYE, LEFT) | only(HAT))


def test_a_no_takes_its_pieces_out() -> None:
    both = at((3, 1), (3, 4))
    assert same(found(both, at((3, 4), positive=False)), only(EYE, LEFT))
    assert same(found(both, at((0, 0), positive=False)), only(EYE))
    assert found(at((3, 1)), at((3, 2), positive=False)) == {}
    assert found(at((3, 1), positive=False)) == {}


label_maps = npst.arrays(
    np.uint8,
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.integers(0, 5),
)


@settings(deadline=None)
@given(labels=label_maps, data=st.data())
def test_clicks_hold_what_they_point_at(labels: np.ndarray, data: st.DataObject) -> None:
    """Each part has the pixel, one class, and the same answer from each of its pixels."""
    height, width = labels.shape
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))

    def answer(row: int, column: int) -> dict[int, np.ndarray]:
        mask = np.zeros(labels.shape, dtype=bool)
        mask[row, column] = True
        return parts_at(labels, [Prompt(mask)], FACE)

    parts = answer(row, column)
    assert list(parts) == ([labels[row, column]] if labels[row, column] else [])
    for index, part in parts.items():
        assert part[row, column] and (labels[part] == index).all()
        other = data.draw(st.sampled_from([tuple(place) for place in np.argwhere(part)]))
        assert same(answer(*other), parts)


# Regions


def segmentation(uncertain: float = 0.0) -> Segmentation:
    return Segmentation(
        image=np.zeros((*TOON.shape, 3), dtype=np.uint8),
        labels=TOON,
        uncertainty=np.where(TOON == EYE, uncertain, 0.5).astype(np.float32),
        score=0.5,
        bound=2.0,
    )


def read_back(regions: list[dict], kind: str) -> np.ndarray:
    return to_label_map(regions, bound(kind), *TOON.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_regions_are_written_for_the_projects_control(kind: str) -> None:
    (region,) = regions_at(segmentation(), [at((2, 1), chosen=EYE)], bound(kind))
    assert (region["type"], region["from_name"]) == (f"{kind}labels", "parts")
    assert region["value"][f"{kind}labels"] == ["eye"]
    expected = np.where(below(EYE, where=LEFT)[EYE], EYE, 0)
    np.testing.assert_array_equal(read_back([region], kind), expected)


def test_a_polygon_covers_its_parts() -> None:
    assert same(parts_at(TOON, [at((3, 1))], FACE, whole=True), below(EYE, where=LEFT))
    assert same(parts_at(TOON, [at((1, 1))], FACE, whole=True), below(HEAD, where=np.s_[:, :8]))
    (region,) = regions_at(segmentation(), [at((1, 1))], bound("polygon"))
    expected = np.where(below(HEAD, where=np.s_[:, :8])[HEAD], HEAD, 0)
    np.testing.assert_array_equal(read_back([region], "polygon"), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_regions_are_scored_over_their_own_pixels(kind: str) -> None:
    """As a prediction's: 1 - mean uncertainty / bound."""
    (region,) = regions_at(segmentation(uncertain=1.0), [at((2, 2), chosen=EYE)], bound(kind))
    assert region["score"] == pytest.approx(1 - (3 * 1.0 + 0.5) / 4 / 2.0, abs=1e-4)


def test_parents_come_before_their_parts() -> None:
    prompts = [at((2, 2)), at((0, 2)), at((1, 1))]
    regions = regions_at(segmentation(), prompts, bound())
    assert [region["value"]["brushlabels"] for region in regions] == [["head"], ["hat"], ["iris"]]


def test_classes_without_a_label_count_as_their_ancestor() -> None:
    config = labeling_config(FACE).replace('<Label value="iris"', '<Other value="iris"')
    binding = bind(parse_config(config), 1, {"partonomy": "own"}).to(FACE)
    (region,) = regions_at(segmentation(), [at((2, 2))], binding)
    assert region["value"]["brushlabels"] == ["eye"]
    expected = np.where(below(EYE, where=LEFT)[EYE], EYE, 0)
    np.testing.assert_array_equal(read_back([region], "brush"), expected)
