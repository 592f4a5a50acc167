"""Partonomies: the shipped files, projects' own labels, and what bad files say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.partonomy import (
    Partonomy,
    class_color,
    from_labels,
    load_partonomy,
    shipped_partonomies,
)

REFERENCE = Path(__file__).parent / "data" / "toonhead" / "reference.npz"


@pytest.mark.parametrize("name", shipped_partonomies())
def test_shipped_partonomies_load_with_distinct_colors(name: str) -> None:
    tree = load_partonomy(name)
    assert tree.name == name
    assert tree.classes[0] == "background"
    assert len({tuple(c) for c in tree.palette}) == tree.num_classes


def test_toonhead_is_the_domain() -> None:
    tree = load_partonomy("toonhead")
    assert tree.classes == tuple(str(c) for c in np.load(REFERENCE)["classes"])
    assert tree.ancestors("teeth") == ["mouth", "face", "head"]
    assert tree.depth("teeth") == 3


def test_parents_come_before_their_parts() -> None:
    tree = load_partonomy("toonhead")
    order = [tree.classes[i] for i in tree.class_order()]
    assert "background" not in order
    for name in order:
        for ancestor in tree.ancestors(name):
            if ancestor in order:
                assert order.index(ancestor) < order.index(name)


@pytest.mark.parametrize(
    "label", ["iris", "Iris", "IRIS ", "head/face/eye/iris", "eye/iris", "head/eye/iris"]
)
def test_labels_are_found_by_name_path_and_case(label: str) -> None:
    part = load_partonomy("toonhead").find(label)
    assert part is not None
    assert part.index == 12


@pytest.mark.parametrize("label", ["mouth/iris", "eye/head/iris", "iris/", "x/iris"])
def test_a_path_that_is_none_is_not_found(label: str) -> None:
    assert load_partonomy("toonhead").find(label) is None


@pytest.mark.parametrize("label", ["rear_hair", "Rear hair", "rear-hair", "head/hair/rear_hair"])
def test_separators_do_not_matter(label: str) -> None:
    part = load_partonomy("toonhead").find(label)
    assert part is not None
    assert part.name == "rear_hair"


def test_own_labels_become_classes_in_order() -> None:
    tree = from_labels("project-3", ["paw", "head/ear", "head", "Background"])
    assert tree.classes == ("Background", "paw", "head/ear", "head")
    assert tree.ancestors("head/ear") == ["head"]
    assert tree.class_order() == [1, 3, 2]


def test_a_parent_that_is_no_label_only_groups() -> None:
    tree = from_labels("p", ["body/leg/paw"])
    assert tree.classes == ("background", "body/leg/paw")
    assert tree.ancestors("body/leg/paw") == ["body/leg", "body"]
    assert tree.part("body").index is None


def test_parent_attributes_give_the_tree() -> None:
    tree = from_labels("p", ["paw", "leg"], parents={"paw": "leg"})
    assert tree.ancestors("paw") == ["leg"]
    with pytest.raises(DganError, match="own ancestor"):
        from_labels("p", ["a", "b"], parents={"a": "b", "b": "a"})


@given(st.lists(st.text(st.characters(categories=["L", "N", "Zs", "Po"]), max_size=12), max_size=9))
def test_any_labels_make_a_partonomy_that_survives_json(labels: list[str]) -> None:
    tree = from_labels("any", labels)
    assert tree.num_classes >= 1
    assert Partonomy.from_json(json.loads(json.dumps(tree.to_json()))) == tree


def test_neighbouring_colors_differ() -> None:
    colors = [class_color(i) for i in range(1, 60)]
    assert len(set(colors)) == len(colors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parts: [", "not valid YAML"),
        ("name: x", "list of `parts`"),
        ("parts: [{index: 0}]", "every part needs a name"),
        ("parts: [{name: a, index: 1}]", "without gaps"),
        ("parts: [{name: a, index: 0}, {name: a, index: 1}]", "names a more than once"),
        ("parts: [{name: a, index: 0, color: red}]", "no colour"),
        ("parts: [{name: a, index: '0'}]", "no whole number"),
    ],
    ids=["yaml", "parts", "name", "gap", "twice", "color", "index"],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DganError, match=message) as caught:
        load_partonomy(path)
    assert "mine.yaml" in str(caught.value)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(DganError, match=r"shipped are: .*toonhead"):
        load_partonomy("hors")


def test_a_stored_value_that_is_none_is_refused() -> None:
    with pytest.raises(DganError, match="stored partonomy"):
        Partonomy.from_json({"name": "x"})
