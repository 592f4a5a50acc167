"""Partonomies: the shipped files, projects' own labels, and what bad files say."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.partonomy import (
    Part,
    Partonomy,
    class_color,
    from_labels,
    load_partonomy,
    shipped_partonomies,
)

SHIPPED = Path(__file__).parent.parent / "partonomies"
REFERENCE = Path(__file__).parent / "data" / "toonhead" / "reference.npz"


def lab(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """sRGB [..., 3] as CIE L*a*b* under D65 (IEC 61966-2-1; CIE 15)."""
    value = rgb / 255
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    xyz = linear @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    white = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(white > 216 / 24389, np.cbrt(white), (24389 / 27 * white + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_lab_of_known_colors() -> None:
    found = lab(np.array([[255, 255, 255], [255, 0, 0], [0, 0, 0]], np.uint8))
    np.testing.assert_allclose(found, [[100, 0, 0], [53.24, 80.09, 67.20], [0, 0, 0]], atol=0.1)


@pytest.mark.parametrize("name", ["a\0b", "../toonhead", "", "toonhead.yaml\0.yaml"])
def test_names_that_are_no_names_are_refused_as_unknown(name: str) -> None:
    with pytest.raises(DganError, match="There is no partonomy"):
        load_partonomy(name)


def test_a_file_without_a_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("name: empty\nparts:\n  - {name: background, index: 0}\n")
    with pytest.raises(DganError, match=r"empty\.yaml, line 2: there is no class beside"):
        load_partonomy(path)


def test_left_and_right_of_the_cars_trade_places_when_mirrored() -> None:
    tree = load_partonomy("car-32")
    assert tree.mirrored is not None
    swapped = {tree.classes[a]: tree.classes[b] for a, b in enumerate(tree.mirrored) if a != b}
    assert swapped == {
        "car_light_right": "car_light_left",
        "car_light_left": "car_light_right",
        "tail_light_right": "tail_light_left",
        "tail_light_left": "tail_light_right",
    }


@pytest.mark.parametrize(
    ("labels", "mirrored"),
    [
        (["Left-eye", "right eye", "upright"], (0, 2, 1, 3)),
        (["l_eye", "nose", "r_eye"], (0, 3, 2, 1)),
        (["LeftEye", "RightEye"], (0, 2, 1)),
        (["eye.L", "eye.R"], (0, 2, 1)),
        (["r"], (0, 1)),  # a letter that is no side
        (["Left-eye", "head/right eye"], None),
    ],
)
def test_words_of_names_tell_sides(labels: list[str], mirrored: tuple[int, ...] | None) -> None:
    tree = from_labels("own", labels)
    assert tree.mirrored == mirrored
    assert bool(tree.one_sided) == (mirrored is None)


@pytest.mark.parametrize("name", shipped_partonomies())
def test_shipped_partonomies_load_with_colors_that_can_be_told_apart(name: str) -> None:
    """2.3 is just noticeable between two large fields (delta E 1976); parts are small."""
    tree = load_partonomy(name)
    assert tree.name == name
    assert tree.classes[0] == "background"
    points = lab(tree.palette)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    one, other = np.unravel_index(apart.argmin(), apart.shape)
    assert apart.min() > 20, (tree.classes[one], tree.classes[other])


@pytest.mark.parametrize(
    ("name", "classes", "labels"),
    [
        ("toonhead", 16, 16),
        ("head", 34, 16),
        ("head-full", 47, 16),
        ("car", 20, 16),
        ("car-32", 32, 16),
        ("cat", 15, 30),
        ("bedroom", 29, 40),
        ("bird", 11, 30),
    ],
)
def test_shipped_partonomies_are_of_the_sizes_published(
    name: str, classes: int, labels: int
) -> None:
    """Bedroom-28 does not count the background, the others do."""
    tree = load_partonomy(name)
    assert (tree.num_classes, tree.labels_needed) == (classes, labels)
    assert tree.generator or tree.wanted


def test_the_sizes_are_of_all_that_are_shipped() -> None:
    assert shipped_partonomies() == [
        "bedroom", "bird", "car", "car-32", "cat", "head", "head-full", "toonhead",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("head", {"head": 1, "lobule": 6, "iris": 9, "hair": 17, "neck": 25, "wrinkles": 33}),
        ("head-full", {"head": 1, "lobule": 6, "iris": 9, "hair": 17, "neck": 25, "wrinkles": 33}),
        ("car", {"back_bumper": 1, "car_lights": 4, "licensePlate": 10, "tire": 15, "window": 18}),
        ("car-32", {"back bumper": 1, "door_back": 6, "logo": 15, "trunks": 23, "windshield": 31}),
        ("cat", {"back": 1, "head": 6, "tongue": 10, "neck": 14}),
        ("bedroom", {"bed": 1, "table/top": 12, "window/frame": 20, "picture / mirrow": 13}),
    ],
)
def test_indices_are_those_published_and_stay(name: str, indices: dict[str, int]) -> None:
    tree = load_partonomy(name)
    found = {label: tree.find(label) for label in indices}
    assert {label: part and part.index for label, part in found.items()} == indices


def test_all_parts_of_heads_begin_with_the_34() -> None:
    assert load_partonomy("head-full").classes[:34] == load_partonomy("head").classes


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


BACKGROUND = "parts:\n- {name: background, index: 0}\n"  # two lines
NESTED = "parts: " + 2000 * "["


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("name: x\nparts: [", 2, "not valid YAML", id="yaml"),
        pytest.param("\x00", None, "not valid YAML", id="no text"),
        pytest.param(NESTED, None, "not valid YAML", id="deep"),
        pytest.param("a: &a [1]\nparts: *a", 2, "aliases are refused", id="alias"),
        pytest.param("a: &a\n  <<: *a", 2, "aliases are refused", id="merge key"),
        pytest.param(
            "parts: !!python/object:os.system []", 1, "tag .*python.* is refused", id="object"
        ),
        pytest.param("parts: !mine []", 1, "tag '!mine' is refused", id="tag"),
        pytest.param("parts: !!int {}", 1, "list", id="other tag"),
        pytest.param("", 1, "list of `parts`", id="empty"),
        pytest.param("- x", 1, "list of `parts`", id="list"),
        pytest.param("name: x", 1, "list of `parts`", id="no parts"),
        pytest.param("\nparts: 3", 2, "`parts` must be a list", id="parts"),
        pytest.param("parts: []", 1, "has no class", id="none"),
        pytest.param(BACKGROUND + "part: []", 3, "no key 'part'", id="key"),
        pytest.param(BACKGROUND + "parts: []", 3, "second time", id="key twice"),
        pytest.param(BACKGROUND + "? [a]\n: b", 3, "a key must be text", id="key type"),
        pytest.param(BACKGROUND + "name: a/b", 3, "folder names", id="file name"),
        pytest.param(BACKGROUND + "labels_needed: few", 3, "whole number", id="labels needed"),
        pytest.param(BACKGROUND + "labels_needed: 0", 3, "whole number", id="labels needed 0"),
        pytest.param("parts: [{index: 0}]", 1, "every part needs a name", id="no name"),
        pytest.param(BACKGROUND + "- a", 3, "every part needs a name", id="no mapping"),
        pytest.param(BACKGROUND + "- {name: no, index: 1}", 3, "text, not False", id="no text"),
        pytest.param(BACKGROUND + "- {name: 2001-99-99}", 3, "cannot be read", id="no date"),
        pytest.param(BACKGROUND + '- {name: "a\\e[2J"}', 3, "printable", id="escape code"),
        pytest.param(BACKGROUND + "- {name: a, colour: red}", 3, "no key 'colour'", id="part key"),
        pytest.param(BACKGROUND + "- {name: a, aliases: b}", 3, "must be a list", id="aliases"),
        pytest.param("parts: [{name: a, index: 1}]", 1, "without gaps", id="gap"),
        pytest.param(
            BACKGROUND + "- {name: a, index: 3}\n- {name: b, index: 1}",
            3,
            "without gaps",
            id="gap 2",
        ),
        pytest.param(
            BACKGROUND + "- {name: a, index: 1}\n- {name: b, index: 1}", 4, "each once", id="index"
        ),
        pytest.param(BACKGROUND + "- name: a\n  index: '1'", 3, "no whole number", id="index type"),
        pytest.param(
            BACKGROUND + "- {name: a, index: true}", 3, "no whole number", id="index bool"
        ),
        pytest.param(
            BACKGROUND + "- {name: a}\n- {name: b}\n- {name: a}", 5, "a more than once", id="twice"
        ),
        pytest.param(
            BACKGROUND + "- {name: a}\n- name: b\n  aliases: [A]",
            4,
            "already means 'a'",
            id="label",
        ),
        pytest.param(BACKGROUND + "- {name: a, color: red}", 3, "no colour", id="color"),
        pytest.param("parts:\n- {name: head, index: 0}", 2, "class 0 must be", id="background"),
        pytest.param(
            "parts:\n- name: a\n  children:\n  - {name: background, index: 0}",
            4,
            "alone at the top",
            id="background inside",
        ),
    ],
)
def test_bad_files_are_named_with_the_line(
    tmp_path: Path, text: str, line: int | None, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DganError, match=message) as caught:
        load_partonomy(path)
    assert str(caught.value).startswith(f"{path}, line {line}: " if line else f"{path} ")


CAR = (SHIPPED / "car.yaml").read_text()


@settings(deadline=None)  # the first example pays for what is imported late
@given(st.data())
def test_a_file_with_anything_in_it_loads_or_says_why(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    start = data.draw(st.integers(0, len(CAR)))
    end = data.draw(st.integers(start, min(start + 40, len(CAR))))
    inserted = data.draw(st.text("\x00\t\n &*!%@:-?[]{},#|>'\"<=~.0123456789abyné", max_size=12))
    path.write_text(CAR[:start] + inserted + CAR[end:])
    try:
        assert load_partonomy(path).num_classes >= 1
    except DganError as error:
        assert str(error).startswith(str(path))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(DganError, match=r"folder\.yaml cannot be read"):
        load_partonomy(tmp_path / "folder.yaml")
    with pytest.raises(DganError, match=r"latin\.yaml is not valid YAML"):
        load_partonomy(tmp_path / "latin.yaml")


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    parts = [f"- {{name: p{i}, index: {i}}}" for i in range(1, 256)]
    path.write_text("\n".join([BACKGROUND.strip(), *parts[:-1]]))
    assert load_partonomy(path).num_classes == 255
    path.write_text("\n".join([BACKGROUND.strip(), *parts]))
    with pytest.raises(DganError, match="over 255 classes"):
        load_partonomy(path)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(DganError, match=r"shipped are: .*toonhead"):
        load_partonomy("hors")


def test_a_stored_value_that_is_none_is_refused() -> None:
    with pytest.raises(DganError, match="stored partonomy"):
        Partonomy.from_json({"name": "x"})


def test_the_example_of_the_readme_is_a_partonomy(tmp_path: Path) -> None:
    readme = (SHIPPED.parent / "README.md").read_text(encoding="utf-8")
    (tmp_path / "cup.yaml").write_text(readme.split("```yaml\n")[1].split("```")[0])
    tree = load_partonomy(tmp_path / "cup.yaml")
    assert tree.classes == ("background", "body", "handle", "rim")
    assert tree.merge("simple").target == (0, 1, 1, 0)


def test_a_large_tree_takes_no_longer_than_it_is_large() -> None:
    """Each part is walked up from once, not once for each other."""
    chain = [Part(f"group {n}", None, f"group {n - 1}" if n else None) for n in range(10_000)]
    parts = (Part("background", 0), *chain, Part("last", 1, "group 9999"))
    began = time.process_time()
    assert Partonomy("deep", parts).num_classes == 2
    assert time.process_time() - began < 2.0
    with pytest.raises(DganError, match="is its own ancestor"):
        Partonomy("round", (replace(parts[0]), replace(chain[0], parent="last"), *parts[2:]))
