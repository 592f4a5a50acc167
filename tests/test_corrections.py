"""A task's annotations -> one mask."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.corrections import Correction, correction_of, regions_hash
from dgan_backend.labelstudio.regions import to_regions
from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import from_labels

FACE = from_labels("face", ["head", "nose", "hat"])
HEAD, NOSE, HAT = 1, 2, 3
MAP = np.array([[1, 1, 2], [0, 3, 3]], dtype=np.uint8)

label_maps = npst.arrays(np.uint8, (2, 3), elements=st.integers(0, 3))


def bound(kind: str = "brush", *labels: str) -> Binding:
    tree = from_labels("face", list(labels)) if labels else FACE
    return bind(parse_config(labeling_config(tree, kind)), 1, {"partonomy": "own"})


BOUND = bound()


def regions(label_map: np.ndarray = MAP, kind: str = "brush") -> list[dict[str, Any]]:
    return to_regions(label_map, None, bound(kind))


def annotation(number: int, result: object = None, **fields: object) -> dict[str, Any]:
    """One that a person of that number submitted at that time."""
    return {
        "id": number,
        "result": regions() if result is None else result,
        "was_cancelled": False,
        "ground_truth": False,
        "completed_by": number,
        "updated_at": f"2026-11-24T10:{number:02d}:00.000000Z",
        **fields,
    }


def task(*annotations: dict[str, Any], **data: object) -> dict[str, Any]:
    picture = {"image": "/data/upload/1/a.png", **data}
    return {"id": 7, "data": picture, "annotations": list(annotations)}


def chosen(*annotations: dict[str, Any]) -> list[int]:
    found = correction_of(task(*annotations))
    return [a["id"] for a in found.annotations] if found else []


def mask_of(*maps: np.ndarray, ignore_bare: bool = False) -> np.ndarray:
    """What annotators of these label maps agree on."""
    found = correction_of(task(*(annotation(n, regions(m)) for n, m in enumerate(maps, 1))))
    assert found is not None
    return replace(found, ignore_bare=ignore_bare).mask(BOUND, 2, 3)


# Which annotations count


def test_a_task_without_a_submitted_annotation_is_no_correction() -> None:
    assert correction_of(task()) is None
    assert correction_of({"id": 7, "data": {}}) is None
    assert correction_of(task(annotation(1, was_cancelled=True))) is None
    assert correction_of(task(annotation(1, result="not a list"))) is None


def test_the_newest_of_each_annotator_counts() -> None:
    first = annotation(1, completed_by=5)
    other = annotation(2, completed_by={"id": 6, "email": "a@example.com"})
    newer = annotation(3, completed_by={"id": 5, "email": "b@example.com"})
    assert chosen(newer, first, other) == [2, 3]
    late = annotation(1, completed_by=5, updated_at="2026-11-25T00:00:00.000000Z")
    assert chosen(late, newer) == [1], "the one that was changed last, not made last"
    same = {"completed_by": 5, "updated_at": "2026-11-25T00:00:00.000000Z"}
    assert chosen(annotation(2, **same), annotation(1, **same)) == [2]


def test_a_skipped_one_does_not_hide_an_earlier_one() -> None:
    assert chosen(
        annotation(1, completed_by=5), annotation(2, completed_by=5, was_cancelled=True)
    ) == [1]


def test_ground_truth_alone_counts_where_there_is_any() -> None:
    truth = annotation(1, ground_truth=True)
    assert chosen(truth, annotation(2), annotation(3)) == [1]
    assert chosen({**truth, "was_cancelled": True}, annotation(2)) == [2]


def test_what_this_backend_wrote_counts_once_a_person_changed_it() -> None:
    written = annotation(1)
    data = {"dgan": {"annotation": regions_hash(written["result"])}}
    read_back = [{**r, "id": "another", "origin": "manual"} for r in written["result"]]
    for same in (written["result"], read_back):
        assert correction_of(task(annotation(1, same), **data)) is None
    changed = regions(np.where(MAP == NOSE, HEAD, MAP))
    for result in (changed, written["result"][1:], []):
        assert correction_of(task(annotation(1, result), **data)) is not None
    assert correction_of(task(written, dgan="no object")) is not None
    both = correction_of(task(written, annotation(2, changed), **data))
    assert both is not None and [a["id"] for a in both.annotations] == [2]


# Which of them are the same


def test_the_key_is_of_the_task_its_picture_and_what_was_drawn() -> None:
    drawn = regions()
    base = task(annotation(1, drawn), annotation(2, drawn))
    key = correction_of(base).key  # type: ignore[union-attr]
    assert key == correction_of(json.loads(json.dumps(base))).key  # type: ignore[union-attr]
    backwards = {**base, "annotations": base["annotations"][::-1]}
    later = task(annotation(1, drawn, lead_time=3.0), annotation(2, drawn, updated_at="2027"))
    for same in (backwards, later):
        assert correction_of(same).key == key  # type: ignore[union-attr]
    others = [
        {**base, "id": 8},
        task(annotation(1, drawn), annotation(2, drawn), image="/data/upload/1/b.png"),
        task(annotation(1, drawn), annotation(2, regions(MAP[::-1]))),
        task(annotation(1, drawn)),
        task(annotation(1, drawn), annotation(3, drawn)),
    ]
    keys = {correction_of(other).key for other in others}  # type: ignore[union-attr]
    assert len(keys | {key}) == 1 + len(others)


def test_the_size_is_the_pictures_as_it_was_drawn_on() -> None:
    assert correction_of(task(annotation(1))).size() == (2, 3)  # type: ignore[union-attr]
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    first = annotation(1, [choice, "junk", {"original_height": 0, "original_width": "3"}])
    assert correction_of(task(first)).size() is None  # type: ignore[union-attr]
    assert correction_of(task(first, annotation(2))).size() == (2, 3)  # type: ignore[union-attr]


# Its mask


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon"])
def test_one_annotation_is_the_mask_that_was_drawn(kind: str) -> None:
    labels = np.kron(MAP, np.ones((4, 4), dtype=np.uint8))
    found = Correction(7, {}, (annotation(1, to_regions(labels, None, bound(kind), tolerance=0)),))
    np.testing.assert_array_equal(found.mask(bound(kind), 8, 12), labels)


def test_bare_pixels_are_background_or_ignored_as_the_project_says() -> None:
    np.testing.assert_array_equal(mask_of(MAP), MAP)
    ignored = mask_of(MAP, ignore_bare=True)
    np.testing.assert_array_equal(ignored, np.where(MAP == 0, IGNORE, MAP))
    bare = Correction(7, {}, (annotation(1, []),))
    assert (bare.mask(BOUND, 2, 3) == 0).all()
    ignoring = replace(bare, ignore_bare=True)
    assert (ignoring.mask(BOUND, 2, 3) == IGNORE).all()
    assert ignoring.key != bare.key  # so that it is learned from anew when the project says so


def test_most_annotators_decide_and_a_tie_is_ignored() -> None:
    one = np.array([[0, 1, 1], [1, 1, 2]], dtype=np.uint8)
    two = np.array([[0, 1, 2], [1, 2, 3]], dtype=np.uint8)
    three = np.array([[0, 2, 2], [0, 3, 0]], dtype=np.uint8)
    agreed = [[0, 1, 2], [1, IGNORE, IGNORE]]
    np.testing.assert_array_equal(mask_of(one, two, three), agreed)
    np.testing.assert_array_equal(mask_of(one, two), np.where(one == two, one, IGNORE))


def test_ignored_bare_pixels_have_no_vote() -> None:
    one = np.array([[0, 1, 1], [0, 0, 0]], dtype=np.uint8)
    two = np.array([[0, 0, 2], [3, 0, 0]], dtype=np.uint8)
    agreed = [[IGNORE, 1, IGNORE], [3, IGNORE, IGNORE]]
    np.testing.assert_array_equal(mask_of(one, two, ignore_bare=True), agreed)


@settings(max_examples=40, deadline=None)
@given(maps=st.lists(label_maps, min_size=1, max_size=4), ignore_bare=st.booleans())
def test_the_order_of_annotators_changes_nothing_and_nobody_is_outvoted_by_one(
    maps: list[np.ndarray], ignore_bare: bool
) -> None:
    agreed = mask_of(*maps, ignore_bare=ignore_bare)
    np.testing.assert_array_equal(agreed, mask_of(*maps[::-1], ignore_bare=ignore_bare))
    doubled = mask_of(*maps, *maps, ignore_bare=ignore_bare)
    np.testing.assert_array_equal(agreed, doubled)
    said = np.stack(maps)
    for place in zip(*np.nonzero(agreed != IGNORE), strict=True):
        assert agreed[place] in said[(slice(None), *place)]


# Labels that are not in the config any more


def test_regions_of_labels_that_the_config_lost_are_ignored_and_told() -> None:
    found = Correction(7, {}, (annotation(1),))
    assert found.unknown_labels(BOUND) == []
    now = bound("brush", "head", "nose")
    assert found.unknown_labels(now) == ["hat"]
    np.testing.assert_array_equal(found.mask(now, 2, 3), np.where(MAP == HAT, IGNORE, MAP))


def test_of_a_regions_two_labels_the_one_that_is_left_counts() -> None:
    result = regions(np.full((2, 3), HAT, dtype=np.uint8))
    result[0]["value"]["brushlabels"] = ["gone", "hat"]
    found = Correction(7, {}, (annotation(1, result),))
    assert found.unknown_labels(BOUND) == ["gone"]
    assert (found.mask(BOUND, 2, 3) == HAT).all()
    assert result[0]["value"]["brushlabels"] == ["gone", "hat"], "what was read stays as it is"


def test_regions_of_other_tags_say_nothing() -> None:
    choice = {"id": "c", "type": "choices", "to_name": "image", "value": {"choices": ["good"]}}
    found = Correction(7, {}, (annotation(1, [choice, *regions()]),))
    assert found.unknown_labels(BOUND) == []
    np.testing.assert_array_equal(found.mask(BOUND, 2, 3), MAP)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("junk", "A region must be an object"),
        ({"original_width": 4}, "'abc'.*drawn on 4 x 2 pixels, not 3 x 2"),
        ({"value": {"brushlabels": []}}, "'abc' has no label"),
        ({"value": None}, "'abc' has no label"),
    ],
    ids=["no object", "of another size", "no label", "no value"],
)
def test_a_region_that_cannot_be_read_is_named(broken: Any, said: str) -> None:
    region = {**regions()[0], "id": "abc", **broken} if isinstance(broken, dict) else broken
    found = correction_of(task(annotation(1, [region]), dgan={"annotation": "of another"}))
    assert found is not None
    with pytest.raises(DganError, match=said):
        found.mask(BOUND, 2, 3)
