"""Label maps -> regions -> label maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dgan_backend.errors import DganError
from dgan_backend.labelstudio import bitmask, brush, polygon
from dgan_backend.labelstudio.binding import Binding, bind
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.regions import read_mask, to_label_map, to_regions
from dgan_backend.partonomy import Partonomy, from_labels

KINDS = ["brush", "bitmask", "polygon"]
FACE = from_labels("face", ["head", "head/eye", "head/eye/iris", "head/nose", "hat"])
HEAD, EYE, IRIS, NOSE, HAT = 1, 2, 3, 4, 5

label_maps = npst.arrays(
    np.uint8,
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.integers(0, 5),
)
# Two classes make larger pieces, with holes, than six do.
blotches = label_maps.map(lambda x: x // 3)
any_map = st.one_of(label_maps, blotches, blotches.map(lambda x: x * 5))


def bound(kind: str, partonomy: Partonomy = FACE) -> Binding:
    return bind(parse_config(labeling_config(partonomy, kind)), 1, {"partonomy": "own"})


def labels_of(regions: list[dict], kind: str) -> list[str]:
    return [region["value"][f"{kind}labels"][0] for region in regions]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(label_map=any_map)
def test_reading_back_gives_the_same_label_map(kind: str, label_map: np.ndarray) -> None:
    regions = to_regions(label_map, None, bound(kind), tolerance=0)
    read = to_label_map(regions, bound(kind), *label_map.shape)
    np.testing.assert_array_equal(read, label_map)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (48, 80)])
@pytest.mark.parametrize("value", [0, NOSE])
def test_full_and_empty_masks(kind: str, shape: tuple[int, int], value: int) -> None:
    label_map = np.full(shape, value, dtype=np.uint8)
    regions = to_regions(label_map, None, bound(kind))
    assert len(regions) == (1 if value else 0)
    np.testing.assert_array_equal(to_label_map(regions, bound(kind), *shape), label_map)


def disc(size: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def toon(size: int = 200) -> np.ndarray:
    label_map = np.zeros((size, size), dtype=np.uint8)
    label_map[disc(size, size * 0.5, size * 0.5, size * 0.45)] = HEAD
    label_map[disc(size, size * 0.4, size * 0.3, size * 0.1)] = EYE
    label_map[disc(size, size * 0.4, size * 0.3, size * 0.04)] = IRIS
    label_map[disc(size, size * 0.6, size * 0.5, size * 0.02)] = NOSE
    label_map[size // 10, size // 10] = HAT
    return label_map


def test_polygons_have_few_points_and_lose_little() -> None:
    label_map = toon()
    regions = to_regions(label_map, None, bound("polygon"))
    assert sum(len(region["value"]["points"]) for region in regions) < 150
    read = to_label_map(regions, bound("polygon"), 200, 200)
    for index in (HEAD, EYE, IRIS, NOSE, HAT):
        both = ((read == index) & (label_map == index)).sum()
        assert both / ((read == index) | (label_map == index)).sum() > 0.9, FACE.classes[index]


@pytest.mark.parametrize("kind", KINDS)
def test_parents_come_before_their_parts(kind: str) -> None:
    regions = to_regions(toon(), None, bound(kind))
    written = labels_of(regions, kind)
    assert set(written) == {"head", "head/eye", "head/eye/iris", "head/nose", "hat"}
    assert written.index("head") < written.index("head/eye") < written.index("head/eye/iris")
    assert written.index("head") < written.index("head/nose")
    assert len({region["id"] for region in regions}) == len(regions)


def test_a_brush_region_of_a_parent_holds_its_own_pixels_only() -> None:
    label_map = toon()
    head = to_regions(label_map, None, bound("brush"))[0]
    assert head["value"]["brushlabels"] == ["head"]
    mask = brush.decode(head["value"]["rle"], 200, 200)
    np.testing.assert_array_equal(mask, label_map == HEAD)


def test_a_region_looks_as_label_studio_wants_it() -> None:
    label_map = np.array([[0, NOSE], [NOSE, 0], [0, 0]], dtype=np.uint8)
    region = to_regions(label_map, None, bound("brush"))[0]
    del region["id"]
    assert region == {
        "type": "brushlabels",
        "from_name": "parts",
        "to_name": "image",
        "original_width": 2,
        "original_height": 3,
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": brush.encode(label_map == NOSE),
            "brushlabels": ["head/nose"],
        },
    }


def test_the_brush_code_is_the_browsers() -> None:
    """Known answer, checked against npm's @thi.ng/rle-pack (facts/label-studio.md, section 3)."""
    mask = np.array([[False, True], [True, False]])
    assert brush.encode(mask) == [0, 0, 0, 16, 57, 27, 252, 96, 19, 255, 198, 0]


def test_scores_are_one_minus_the_mean_normalised_uncertainty() -> None:
    label_map = np.array([[NOSE, NOSE, HAT, 0]], dtype=np.uint8)
    uncertainty = np.array([[0.5, 1.5, 0.0, 9.0]], dtype=np.float32)
    for kind in KINDS:
        regions = to_regions(label_map, uncertainty, bound(kind), max_uncertainty=4.0)
        scores = dict(
            zip(labels_of(regions, kind), [region["score"] for region in regions], strict=True)
        )
        assert scores == {"head/nose": 0.75, "hat": 1.0}


def test_classes_without_a_label_become_their_nearest_labeled_ancestor() -> None:
    config = parse_config(
        '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">'
        '<Label value="Face"/><Label value="HAIR"/></BrushLabels></View>'
    )
    binding = bind(config, 1)
    assert binding.partonomy.name == "toonhead"
    iris, hair, clothes = (binding.partonomy.classes.index(n) for n in ("iris", "hair", "clothes"))
    regions = to_regions(np.array([[iris, hair, clothes]], dtype=np.uint8), None, binding)
    assert labels_of(regions, "brush") == ["Face", "HAIR"]
    assert regions[0]["to_name"] == "i" and regions[0]["from_name"] == "b"


def region(label: str | list[str], mask: np.ndarray, kind: str = "brush", **more: object) -> dict:
    value = (
        {"rle": brush.encode(mask)} if kind == "brush" else {"imageDataURL": bitmask.encode(mask)}
    )
    labels = [label] if isinstance(label, str) else label
    return {
        "id": "r1",
        "type": f"{kind}labels",
        "to_name": "image",
        "from_name": "parts",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "value": {**value, f"{kind}labels": labels},
        **more,
    }


LEFT = np.array([[True, True, False]])
RIGHT = np.array([[False, True, True]])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param("head", "hat", [HEAD, HAT, HAT], id="the later of unrelated parts"),
        pytest.param("head", "head/eye/iris", [HEAD, IRIS, IRIS], id="descendant comes later"),
        pytest.param("head/eye/iris", "head", [IRIS, IRIS, HEAD], id="descendant comes first"),
        pytest.param("hat", "hat", [HAT, HAT, HAT], id="same"),
    ],
)
def test_overlap(first: str, second: str, expected: list[int]) -> None:
    regions = [region(first, LEFT), region(second, RIGHT)]
    assert to_label_map(regions, bound("brush"), 1, 3).tolist() == [expected]


def test_the_deepest_of_several_labels_counts() -> None:
    regions = [region(["head/eye", "head/eye/iris", "head"], LEFT)]
    assert to_label_map(regions, bound("brush"), 1, 3, fill=255).tolist() == [[IRIS, IRIS, 255]]


def test_soft_stroke_edges_count_from_alpha_128() -> None:
    from label_studio_sdk.converter.brush import encode_rle

    alpha = np.array([127, 128, 255], dtype=np.uint8)
    drawn = region("hat", LEFT)
    drawn["value"]["rle"] = encode_rle(np.repeat(alpha, 4))
    assert to_label_map([drawn], bound("brush"), 1, 3).tolist() == [[0, HAT, HAT]]


def test_a_bitmask_of_another_size_is_stretched() -> None:
    drawn = region("hat", LEFT.repeat(2, axis=0), kind="bitmask")
    drawn.update(original_width=6, original_height=4)
    read = to_label_map([drawn], bound("bitmask"), 4, 6)
    assert read.tolist() == [[HAT] * 4 + [0] * 2] * 4


def test_regions_of_other_tags_and_pictures_are_passed_over() -> None:
    others = [
        {"id": "c", "type": "choices", "to_name": "image", "value": {"choices": ["good"]}},
        region("hat", LEFT, to_name="another"),
    ]
    assert to_label_map(others, bound("brush"), 1, 3, fill=7).tolist() == [[7, 7, 7]]


def broken(kind: str, value: dict) -> dict:
    bad = region("hat", LEFT, kind="brush")
    bad.update(type=f"{kind}labels", value={**value, f"{kind}labels": ["hat"]})
    return bad


RLE = brush.encode(np.eye(3, dtype=bool)[:1])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        pytest.param(region("hat", LEFT.T), "drawn on 1 x 3 pixels, not 3 x 1", id="other size"),
        pytest.param(region("hat", LEFT, image_rotation=90), "turn", id="turned picture"),
        pytest.param(region("wing", LEFT), "'wing', which is not in the labeling", id="unknown"),
        pytest.param(region([{}], LEFT), "which is not in the labeling", id="odd label"),
        pytest.param(region([], LEFT), "has no label", id="no label"),
        pytest.param(broken("brush", {"rle": RLE[:9]}), "cut short", id="cut rle"),
        pytest.param(broken("brush", {"rle": [0, 0, 1, 0, *RLE[4:]]}), "64 pixels", id="rle size"),
        pytest.param(broken("brush", {"rle": RLE[:4]}), "pixels", id="rle header only"),
        pytest.param(broken("brush", {"rle": [999]}), "0 to 255", id="rle of no bytes"),
        pytest.param(broken("brush", {"rle": None}), "0 to 255", id="rle null"),
        pytest.param(broken("brush", {}), "no 'rle'", id="no rle"),
        pytest.param(broken("bitmask", {"imageDataURL": "data:x"}), "imageDataURL", id="no png"),
        pytest.param(
            broken("bitmask", {"imageDataURL": bitmask.encode(LEFT)[:60]}), "broken", id="cut png"
        ),
        pytest.param(broken("polygon", {"points": [[0, 0], [9, 9]]}), "three", id="two points"),
        pytest.param(broken("polygon", {"points": [[0, "a"]]}), "pairs of numbers", id="letters"),
        pytest.param(
            broken("polygon", {"points": [[0, 0], [1, 0], [float("nan"), 1]]}), "finite", id="nan"
        ),
    ],
)
def test_a_broken_region_is_named(bad: dict, said: str) -> None:
    with pytest.raises(DganError, match=said) as caught:
        to_label_map([bad], bound("brush"), 1, 3)
    assert "'r1'" in str(caught.value)


@given(
    code=st.lists(st.integers(0, 255), max_size=40),
    where=st.integers(0, 40),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
@settings(max_examples=300, deadline=None)
def test_no_rle_does_more_than_an_error(code: list[int], where: int, size: tuple[int, int]) -> None:
    """Spliced into a good one, so that most get beyond the header."""
    good = brush.encode(np.ones(size, dtype=bool))
    bad = region("hat", np.ones(size, dtype=bool))
    bad["value"]["rle"] = good[:where] + code
    try:
        read = to_label_map([bad], bound("brush"), *size)
    except DganError as error:
        assert "'r1' (hat)" in str(error)
    else:
        assert read.shape == size


@pytest.mark.parametrize("labels", [5, None, [], "hat", [5, "hat"]])
def test_odd_labels_are_no_matter_where_a_mask_cannot_be_read(labels: object) -> None:
    bad = region("hat", LEFT.T)
    bad["value"]["brushlabels"] = labels
    with pytest.raises(DganError, match="drawn on 1 x 3 pixels, not 3 x 1"):
        read_mask(bad, "brush", 1, 3)


def test_a_region_that_is_no_object_is_said() -> None:
    with pytest.raises(DganError, match="must be an object"):
        to_label_map(["odd"], bound("brush"), 1, 3)  # type: ignore[list-item]


def test_a_ring_follows_pixel_centres() -> None:
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    assert polygon.rasterize(triangle, 4, 5).astype(int).tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_rings_outside_the_picture_are_clipped() -> None:
    square = np.array([[-9.0, -9.0], [1e9, -9.0], [1e9, 2.0], [-9.0, 2.0]])
    assert polygon.rasterize(square, 3, 2).tolist() == [[True, True], [True, True], [False, False]]


def test_a_parents_ring_covers_its_parts_at_the_edge_too() -> None:
    label_map = np.zeros((6, 9), dtype=np.uint8)
    label_map[1:5, 1:7] = HEAD
    label_map[2:4, 5:8] = NOSE
    ring = polygon.rings(label_map, FACE, tolerance=0)[0]
    assert ring.index == HEAD
    np.testing.assert_array_equal(polygon.rasterize(ring.points, 6, 9), label_map > 0)


@given(label_map=blotches)
@settings(max_examples=50, deadline=None)
def test_a_simplified_ring_keeps_97_percent(label_map: np.ndarray) -> None:
    """However small the part and generous the tolerance."""
    exact = polygon.rings(label_map, FACE, tolerance=0)
    rough = polygon.rings(label_map, FACE, tolerance=4)
    for ring, expected in zip(rough, exact, strict=True):
        inside = polygon.rasterize(ring.points, *label_map.shape)
        filled = polygon.rasterize(expected.points, *label_map.shape)
        assert (inside & filled).sum() >= 0.97 * (inside | filled).sum()


def test_small_islands_are_left_out_but_no_class_vanishes() -> None:
    label_map = toon()
    label_map[10, 150] = HEAD  # an island
    label_map[100, 60] = 0  # a hole
    regions = to_regions(label_map, None, bound("polygon"), min_area=4)
    assert sorted(labels_of(regions, "polygon")) == sorted(FACE.classes[1:])
