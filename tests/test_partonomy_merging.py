"""Merges: named tables of the files, merges to ancestors, and what bad tables say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgan_backend.errors import DganError
from dgan_backend.merging import Merge, merge_by_name
from dgan_backend.partonomy import Partonomy, load_partonomy, shipped_partonomies

MERGES = [
    (name, merge.name) for name in shipped_partonomies() for merge in load_partonomy(name).merges
]
CAR = load_partonomy("car")
HEAD = load_partonomy("head")
masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=8))


def names(merge: Merge, mask: npt.NDArray[np.uint8]) -> list[str]:
    """The class of each pixel before and after."""
    return [merge.classes[i] for i in merge.apply(mask)]


def pixels(tree: Partonomy, *parts: str) -> npt.NDArray[np.uint8]:
    return np.array([tree.classes.index(part) for part in parts], np.uint8)


def test_faces_merge_into_eight_by_the_published_numbers() -> None:
    """HandsOff, utils/data_utils.py, 34 -> 8: the numbers, as facts."""
    published = {
        1: [1, 2, 3, 15, 16, 19, 20, 31, 32, 33],
        2: [26, 27, 28, 29, 30],
        3: [7, 8, 9, 10, 11, 12, 13],
        4: [14],
        5: [4, 5, 6],
        6: [21, 22, 23, 24],
        7: [17, 18],
        0: [0, 25],
    }
    merge = HEAD.merge("celeba-8")
    assert merge.classes == (
        "background", "skin", "nose", "eye", "brow", "ear", "mouth", "hair",
    )  # fmt: skip
    for new, old in published.items():
        assert [merge.target[index] for index in old] == [new] * len(old)


def test_cars_merge_into_twelve_by_the_published_numbers() -> None:
    """DatasetGAN, utils/data_util.py, 20 -> 12: what is not listed is body (1)."""
    published = {4: 2, 14: 5, 10: 3, 19: 8, 15: 6, 5: 9, 8: 10, 17: 11, 18: 7, 11: 4, 0: 0}
    assert CAR.merge("car-12").target == tuple(published.get(index, 1) for index in range(20))


def test_cars_merge_on_into_five() -> None:
    merge = CAR.merge("car-5")
    assert merge.classes == ("background", "body", "light", "wheel", "window")
    mask = pixels(CAR, "background", "door", "tail_light", "wheelhub", "windshield")
    assert names(merge, mask) == ["background", "body", "light", "wheel", "window"]
    step = CAR.merge("car-5", start="car-12")
    assert step.source == CAR.merge("car-12").classes
    assert CAR.merge("car-12").then(step) == merge


def test_the_larger_partonomies_lead_to_the_smaller_ones() -> None:
    fine = load_partonomy("car-32")
    assert set(fine.merge("car-20").classes) == set(CAR.classes)
    for name in ("car-12", "car-5"):
        assert fine.merge(name).classes == CAR.merge(name).classes
        for old, middle in zip(fine.classes, fine.merge("car-20").target, strict=True):
            twenty = fine.merge("car-20").classes[middle]
            mask, other = pixels(fine, old), pixels(CAR, twenty)
            assert names(fine.merge(name), mask) == names(CAR.merge(name), other)
    full = load_partonomy("head-full")
    assert set(full.merge("face-34").classes) == set(HEAD.classes)
    assert full.merge("celeba-8").classes == HEAD.merge("celeba-8").classes
    for old in HEAD.classes:
        assert names(full.merge("face-34"), pixels(full, old)) == [old]
        mask = pixels(HEAD, old)
        assert names(full.merge("celeba-8"), mask) == names(HEAD.merge("celeba-8"), mask)


@pytest.mark.parametrize(("name", "merge"), MERGES)
def test_every_new_class_has_a_source(name: str, merge: str) -> None:
    found = load_partonomy(name).merge(merge)
    assert set(found.target) == set(range(len(found.classes)))
    assert found.source == load_partonomy(name).classes
    assert found.target[0] == 0
    assert found.classes[0] == "background"


@given(masks, st.sampled_from(MERGES))
def test_a_merge_keeps_ignored_pixels_and_the_shape(
    mask: npt.NDArray[np.uint8], which: tuple[str, str]
) -> None:
    tree = load_partonomy(which[0])
    merged = tree.merge(which[1]).apply(mask)
    assert (merged.dtype, merged.shape) == (np.uint8, mask.shape)
    assert np.array_equal(merged == 255, mask >= tree.num_classes)
    step = tree.merge(which[1])
    for old, new in zip(mask.flat, merged.flat, strict=True):
        assert new == (step.target[old] if old < tree.num_classes else 255)


@given(masks, st.sampled_from(["car", "car-32"]))
def test_a_chain_is_its_steps_one_after_the_other(mask: npt.NDArray[np.uint8], name: str) -> None:
    tree = load_partonomy(name)
    by_steps = tree.merge("car-5", start="car-12").apply(tree.merge("car-12").apply(mask))
    assert np.array_equal(tree.merge("car-5").apply(mask), by_steps)


@given(st.data())
def test_merging_to_ancestors_gives_each_pixel_its_nearest_one(data: st.DataObject) -> None:
    tree = load_partonomy(data.draw(st.sampled_from(shipped_partonomies())))
    wanted = data.draw(st.sets(st.sampled_from([part.name for part in tree.parts])))
    merge = tree.merge_into(*wanted)
    assert merge.apply(np.array([255], np.uint8)) == 255
    for index, name in enumerate(tree.classes):
        new = merge.classes[merge.table[index]]
        chain = [name, *tree.ancestors(name)]
        above = [part for part in chain if part in wanted]
        assert new == (above[0] if above else name)


@given(st.sampled_from(shipped_partonomies()), st.integers(0, 6), st.integers(0, 6))
def test_depths_compose(name: str, one: int, other: int) -> None:
    tree = load_partonomy(name)
    deep, shallow = max(one, other), min(one, other)
    fine, coarse = tree.merge_to_depth(deep), tree.merge_to_depth(shallow)
    for index, part in enumerate(tree.classes):
        new = fine.classes[fine.table[index]]
        assert tree.depth(new) == min(deep, tree.depth(part))
        chain = [new, *tree.ancestors(new)]
        assert coarse.classes[coarse.table[index]] in chain


def test_merging_to_an_ancestor_is_one_call() -> None:
    merge = HEAD.merge_into("eye", "mouth")
    assert "iris" not in merge.classes
    mask = pixels(HEAD, "iris", "sclera", "teeth", "nose_tip", "background")
    assert names(merge, mask) == ["eye", "eye", "mouth", "nose_tip", "background"]
    assert HEAD.merge_into("head").classes == ("background", "head")
    assert HEAD.merge_to_depth(0).classes == ("background", "head")
    assert names(HEAD.merge_to_depth(1), mask) == ["eye", "eye", "mouth", "nose", "background"]
    assert HEAD.merge_to_depth(9).classes == HEAD.classes
    with pytest.raises(DganError, match=r"no part 'eyes'; it has: .*eye"):
        HEAD.merge_into("eyes")
    with pytest.raises(DganError, match="0 or more"):
        HEAD.merge_to_depth(-1)


def test_merges_that_are_not_there_are_named() -> None:
    with pytest.raises(DganError, match="no merge 'car-7'; it has: car-12, car-5"):
        CAR.merge("car-7")
    with pytest.raises(DganError, match="it has: none"):
        load_partonomy("toonhead").merge("x")
    with pytest.raises(DganError, match="'car-12' of 'car' is not made of 'car-5'"):
        CAR.merge("car-12", start="car-5")
    with pytest.raises(DganError, match="takes the classes"):
        CAR.merge("car-5").then(CAR.merge("car-12"))


def test_only_masks_are_merged() -> None:
    with pytest.raises(DganError, match="must be uint8, not int64"):
        CAR.merge("car-12").apply(np.zeros(3, np.int64))  # type: ignore[arg-type]


def test_merges_survive_json_and_versions_without_any_still_load() -> None:
    stored = json.loads(json.dumps(CAR.to_json()))
    assert Partonomy.from_json(stored) == CAR
    assert merge_by_name("m", "ab", "xx") == Merge("m", ("a", "b"), ("x",), (0, 0))
    del stored["merges"], stored["wanted"]
    assert Partonomy.from_json(stored).merges == ()


HEADER = """\
parts:
- {name: background, index: 0}
- {name: a, index: 1}
- {name: b, index: 2}
- {name: c, index: 3}
merges:
"""


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("  - x", 6, "`merges` must be a mapping", id="list"),
        pytest.param("  m: [a, b, c]", 7, "the merge 'm' must be a mapping", id="table"),
        pytest.param("  m: {x: a}", 7, "must be a list", id="no list"),
        pytest.param("  m:\n    x: [a, b]", 7, "'m' leaves out c; list", id="left out"),
        pytest.param("  m:\n    x: [a, b]\n    y: [c, d]", 9, "names 'd', which", id="unknown"),
        pytest.param(
            "  m:\n    x: [a, b]\n    y:\n    - c\n    - b", 11, "'b' under 'x'", id="twice"
        ),
        pytest.param("  m:\n    x: [a, a, b, c]", 8, "'a' under 'x' already", id="same twice"),
        pytest.param(
            "  m:\n    x: [a, b, c]\n    y: []", 9, "'y' of the merge 'm' has no", id="none"
        ),
        pytest.param(
            "  m:\n    x: [a, b, c, background]", 8, "'background' under", id="background"
        ),
        pytest.param("  m:\n    of: n\n    x: [a, b, c]", 8, "no merge 'n' above 'm'", id="of"),
        pytest.param(
            "  m:\n    of: m\n    x: [a, b, c]", 8, "no merge 'm' above 'm'", id="of itself"
        ),
        pytest.param(
            "  m: {x: [a], y: [b, c]}\n  n: {of: m, z: [a, y]}", 8, "names 'a', which", id="chain"
        ),
        pytest.param("  m: {x: [a, b, c]}\n  m: {}", 8, "second time", id="name twice"),
        pytest.param("  m: {x: [a, b], X: [c]}", 7, "'X' already means 'x'", id="alike"),
    ],
)
def test_bad_merges_are_named_with_the_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HEADER + text)
    with pytest.raises(DganError, match=message) as caught:
        load_partonomy(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")


def test_a_class_may_vanish_and_be_called_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        HEADER + "  m: {Background: [background, b], of: [a, c]}\n  n: {of: m, x: [of]}"
    )
    tree = load_partonomy(path)
    assert tree.merge("m").classes == ("background", "of")
    assert tree.merge("m").target == (0, 1, 0, 1)
    assert tree.merge("n").target == (0, 1, 0, 1)
