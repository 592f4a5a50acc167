"""Regions of other tools -> label maps, folders to fit from, and tasks that are learned from."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.labeled import load_pairs
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.labelstudio.corrections import correction_of
from dgan_backend.labelstudio.polygon import rasterize
from dgan_backend.labelstudio.project import Project, open_project
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.loop.board import Lost
from dgan_backend.loop.training import read_corrections
from dgan_backend.migration.collection import Collection, Entry, LabeledPicture, Region
from dgan_backend.migration.folder import keep_out, to_yaml, write_folder
from dgan_backend.migration.matching import match, paint, partonomy_of
from dgan_backend.migration.survey import report, survey
from dgan_backend.migration.tasks import Imported, annotation_of, import_entries
from dgan_backend.partonomy import load_partonomy, shipped_partonomies
from dgan_backend.synthesis.inventory import Inventory
from tests.labeling import TOONHEAD
from tests.migrations import encoded, picture
from tests.studio import UID, Studio, studio_with

H, W = 8, 10
FACE, NOSE, MOUTH, TEETH = 3, 5, 7, 8


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((H, W), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def polygon(label: str, top: int, left: int, bottom: int, right: int) -> Region:
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)
    return Region(label, box(top, left, bottom, right), points)


def read(*regions: Region, name: str = "a.json", seed: int = 0, **more: Any) -> LabeledPicture:
    pixels = picture(H, W, seed)
    return LabeledPicture(name, pixels, encoded(pixels), ".png", regions, **more)


def entries(*pictures: LabeledPicture) -> list[Entry]:
    return [Entry(p.name, lambda p=p: p) for p in pictures]


HEAD = read(polygon("Teeth", 5, 3, 6, 6), polygon("mouth", 4, 2, 7, 8), polygon("skin", 1, 1, 8, 9))
EXPECTED = np.zeros((H, W), dtype=np.uint8)
EXPECTED[1:8, 1:9], EXPECTED[4:7, 2:8], EXPECTED[5:6, 3:6] = FACE, MOUTH, TEETH


# Labels and classes


def test_labels_mean_classes_by_name_alias_path_and_in_any_case() -> None:
    labels = ["Rear Hair", "skin", "eye/iris", "TEETH", "background", "_background_", "__ignore__"]
    found = match(labels, TOONHEAD)
    assert dict(found.class_of) == {
        "Rear Hair": 1, "skin": 3, "eye/iris": 12, "TEETH": 8, "background": 0,
        "_background_": 0, "__ignore__": 255,
    }  # fmt: skip
    assert not found.unmatched
    found.check()


def test_what_means_no_class_is_told_with_the_reason() -> None:
    found = match(["wing", "eye", "nose"], TOONHEAD)
    assert dict(found.class_of) == {"nose": 5}
    assert dict(found.unmatched) == {
        "wing": "no class has that name or alias",
        "eye": "it only groups sclera, iris, eyelid",
    }
    with pytest.raises(DganError, match=r"(?s)wing: no class.*--rename OLD=NEW.*--skip-unmatched"):
        found.check()
    assert match(["wing"], TOONHEAD, {"wing": "ear"}).class_of == {"wing": 4}


def test_a_project_knows_its_own_labels_and_only_those() -> None:
    config = (
        '<View><Image name="i" value="$p"/><BrushLabels name="b" toName="i">'
        '<Label value="face" alias="Gesicht"/><Label value="hair"/></BrushLabels></View>'
    )
    binding = open_project(UID, config).binding
    assert binding is not None
    found = match(["Gesicht", "nose", "clothes"], binding.partonomy, {}, binding)
    assert dict(found.class_of) == {"Gesicht": FACE, "nose": NOSE}  # a nose is written as face
    assert dict(found.unmatched) == {
        "clothes": "the project has no label for it, nor for what it is a part of"
    }


# Painting


def test_parts_lie_above_what_they_are_parts_of_whatever_the_order() -> None:
    matching = match(["Teeth", "mouth", "skin"], TOONHEAD)
    assert np.array_equal(paint(HEAD, matching), EXPECTED)
    turned = read(*HEAD.regions[::-1])
    assert np.array_equal(paint(turned, matching), EXPECTED)


def test_of_strangers_the_later_lies_above() -> None:
    matching = match(["nose", "mouth"], TOONHEAD)
    nose, mouth = Region("nose", box(0, 0, 4, 4)), Region("mouth", box(2, 2, 6, 6))
    assert paint(read(nose, mouth), matching)[3, 3] == MOUTH
    assert paint(read(mouth, nose), matching)[3, 3] == NOSE


def test_background_and_ignored_pixels_are_painted_like_others() -> None:
    matching = match(["skin", "background", "__ignore__"], TOONHEAD)
    face, hole = Region("skin", box(0, 0, 8, 10)), Region("background", box(2, 2, 4, 4))
    unclear = Region("__ignore__", box(0, 0, 1, 10))
    labels = paint(read(face, hole, unclear), matching)
    assert (labels[2:4, 2:4] == 0).all() and (labels[0] == 255).all() and labels[1, 1] == FACE
    assert paint(read(unclear, face), matching)[0, 0] == FACE


def test_small_classes_are_ignored_if_asked() -> None:
    matching = match(["skin", "nose"], TOONHEAD)
    found = read(Region("skin", box(0, 0, 8, 10)), Region("nose", box(2, 2, 4, 4)))
    assert (paint(found, matching, least=4) == NOSE).sum() == 4
    assert (paint(found, matching, least=5) == 255).sum() == 4
    assert (paint(found, matching, least=5) == NOSE).sum() == 0


def test_unmatched_labels_leave_what_is_below() -> None:
    found = read(Region("skin", box(0, 0, 8, 10)), Region("wing", box(2, 2, 4, 4)))
    assert (paint(found, match(["skin", "wing"], TOONHEAD)) == FACE).all()


# Survey


def test_a_survey_counts_labels_and_gathers_all_faults() -> None:
    def broken() -> LabeledPicture:
        raise DganError("b.json is broken.")

    pictures = entries(HEAD, read(name="empty.json", left_out={"line": 2}))
    collection = Collection(
        "labelme",
        (*pictures, Entry("b.json", broken)),
        without_labels=("c.png",),
        notes=("A note.",),
    )
    found = survey(collection, lambda _, steps: steps, least=4)
    assert (found.pictures, found.labels) == (1, ["Teeth", "mouth", "skin"])
    assert (found.pixels["mouth"], found.tiny) == (18, {"Teeth": 1})
    lines = list(report(found, match(found.labels, TOONHEAD), collection, 4))
    text = "\n".join(lines)
    assert lines[:2] == ["1 picture with labels (labelme).", "A note."]
    assert "mouth  mouth                       1        1          18" in text
    for said in (
        "Classes of toonhead without a label here: rear_hair, neck, ear",
        "Under 4 pixels and so not imported, in how many pictures: Teeth (1).",
        "area, left out: 2 line.",
        "2 pictures without labels, left out:\n  c.png\n  empty.json",
        "At fault: 1 file.\n  b.json is broken.",
    ):
        assert said in text
    with pytest.raises(DganError, match=r"(?s)Nothing is imported:.*b\.json is broken"):
        found.check()


def test_two_pictures_of_one_name_are_refused() -> None:
    with pytest.raises(DganError, match="stands for two pictures"):
        Collection("masks", tuple(entries(HEAD, HEAD)))


# A folder to fit from


def test_a_folder_is_read_back_by_fit(tmp_path: Path) -> None:
    other = read(Region("nose", box(0, 0, 2, 2)), name="sub/b.json", seed=1)
    bare = read(Region("background", box(0, 0, 2, 2)), name="bare.json")
    out = tmp_path / "new" / "pairs"
    matching = match(["Teeth", "mouth", "skin", "nose", "background"], TOONHEAD)
    assert write_folder(entries(HEAD, other, bare), matching, out) == (2, ["bare.json"])
    pairs = load_pairs(out)
    assert pairs.names == ["a.png", "sub-b.png"]
    assert np.array_equal(pairs.images[1], other.picture)
    assert np.array_equal(pairs.masks[0], EXPECTED)
    assert sorted(p.name for p in out.iterdir()) == ["images", "masks"]  # a shipped partonomy
    assert out.stat().st_mode & 0o777 == out.parent.stat().st_mode & 0o777


def test_names_that_differ_in_ending_or_folder_alone_stay_apart(tmp_path: Path) -> None:
    names = ["images/a.png", "images/a.jpg", "A.json", "images-a.json"]
    nose = Region("nose", box(0, 0, 2, 2))
    pictures = [read(nose, name=name, seed=n) for n, name in enumerate(names)]
    write_folder(entries(*pictures), match(["nose"], TOONHEAD), tmp_path / "out")
    assert load_pairs(tmp_path / "out").names == ["A-3.png", "a-2.png", "a-4.png", "a.png"]


def test_classes_of_ones_own_come_with_a_partonomy(tmp_path: Path) -> None:
    labels = ["cup", "cup/Grip", "__ignore__", "cup/grip"]
    assert partonomy_of(labels, "car").name == "my-car"
    tree = partonomy_of(labels, "my cups!")
    assert tree.classes == ("background", "cup", "cup/Grip")
    out = tmp_path / "out"
    cup = read(Region("cup/grip", box(2, 2, 4, 4)), Region("cup", box(0, 0, 8, 8)))
    write_folder(entries(cup), match(labels, tree), out)
    assert load_partonomy(out / "partonomy.yaml").classes == tree.classes
    assert load_partonomy(out / "partonomy.yaml").name == "my-cups"
    (mask,) = load_pairs(out).masks
    assert (mask[2:4, 2:4] == 2).all() and (mask == 1).sum() == 60


def test_labels_of_a_shipped_partonomy_are_known() -> None:
    assert partonomy_of(["face", "hair"], "x") == TOONHEAD  # it has a generator
    assert partonomy_of(["window", "door"], "x").name == "x"  # of a house, perhaps


@pytest.mark.parametrize("name", shipped_partonomies())
def test_yaml_is_read_back(tmp_path: Path, name: str) -> None:
    tree = load_partonomy(name)
    file = tmp_path / "tree.yaml"
    file.write_text(to_yaml(tree), encoding="utf-8")
    found = load_partonomy(file).to_json()
    colors = {part.name for part in tree.parts if part.index is None}
    for about in (found, expected := tree.to_json()):
        about["merges"] = []
        about["parts"] = [
            {**part, "color": "" if part["name"] in colors else part["color"]}
            for part in about["parts"]
        ]
    assert found == expected


@pytest.mark.parametrize("when", ["a fault", "Ctrl-C"])
def test_nothing_half_written_is_left(tmp_path: Path, when: str) -> None:
    def broken() -> LabeledPicture:
        raise KeyboardInterrupt if when == "Ctrl-C" else DganError("b.json is broken.")

    steps = [*entries(HEAD), Entry("b.json", broken)]
    with pytest.raises((DganError, KeyboardInterrupt)):
        write_folder(steps, match(["skin", "mouth", "Teeth"], TOONHEAD), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    matching = match(["skin", "mouth", "Teeth"], TOONHEAD)
    (tmp_path / "empty").mkdir()
    write_folder(entries(HEAD), matching, tmp_path / "empty")
    for taken in ("empty", "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(DganError, match=f"{taken} is there already"):
            write_folder(entries(HEAD), matching, tmp_path / taken)
    assert load_pairs(tmp_path / "empty").names == ["a.png"]


def test_kept_out_pictures_lie_apart_and_copies_stay_together(tmp_path: Path) -> None:
    nose = Region("nose", box(0, 0, 2, 2))
    pictures = [read(nose, name=f"{n}.png", seed=n % 7) for n in range(9)]  # 7, 8 copy 0, 1
    matching = match(["nose"], TOONHEAD)
    for seed in range(5):
        out = tmp_path / f"out{seed}"
        assert write_folder(entries(*pictures), matching, out, kept_out=(4, seed)) == (5, [])
        left, apart = load_pairs(out), load_pairs(out / "kept-out")
        assert sorted(left.names + apart.names) == [f"{n}.png" for n in range(9)]
        assert not {i.tobytes() for i in left.images} & {i.tobytes() for i in apart.images}
    assert len({tuple(load_pairs(tmp_path / f"out{n}").names) for n in range(5)}) > 1


def test_which_pictures_are_kept_out_is_fixed_by_the_seed() -> None:
    shown = [str(n) for n in range(10)]
    assert keep_out(shown, 3, 1) == keep_out(shown, 3, 1) == [2, 6, 9]
    assert keep_out(shown, 0, 1) == []
    with pytest.raises(DganError, match="There are 10 labeled pictures, so 10 cannot be kept out"):
        keep_out(shown, 10, 0)
    with pytest.raises(DganError, match=r"1 pictures cannot be kept out.* 0 can"):
        keep_out(["a", "a"], 1, 0)


# Tasks


KINDS = ("brush", "bitmask", "polygon")


def project(kind: str = "brush") -> Project:
    return open_project(UID, labeling_config(TOONHEAD, kind))


@pytest.fixture
def world() -> Iterator[tuple[Studio, LabelStudioClient]]:
    with studio_with((7, labeling_config(TOONHEAD))) as made:
        yield made


def bring(
    site: LabelStudioClient, *pictures: LabeledPicture, kind: str = "brush", **more: Any
) -> Imported:
    found = project(kind)
    assert found.binding is not None
    labels = [region.label for p in pictures for region in p.regions]
    matching = match(labels, found.binding.partonomy, {}, found.binding)
    return import_entries(site, found, entries(*pictures), matching, "labelme", **more)


def masks(studio: Studio, kind: str = "brush") -> list[np.ndarray]:
    binding = project(kind).binding
    assert binding is not None
    found = [correction_of(task) for task in studio.of(7)]
    return [c.mask(binding, H, W) for c in found if c is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_say_what_was_drawn(world: tuple[Studio, LabelStudioClient], kind: str) -> None:
    studio, site = world
    assert bring(site, HEAD, kind=kind) == Imported(created=1)
    (task,) = studio.of(7)
    (annotation,) = task["annotations"]
    assert {region["type"] for region in annotation["result"]} == {f"{kind}labels"}
    assert annotation["ground_truth"] is False
    assert np.array_equal(masks(studio, kind)[0], EXPECTED)
    (upload,) = studio.files.values()
    assert upload["file"].endswith(".png") and "-a-" in upload["file"]
    assert task["data"]["image"] == f"/data/{upload['file']}"
    mark = task["data"]["dgan"]
    assert {key: mark[key] for key in ("kind", "format", "source")} == {
        "kind": "imported", "format": "labelme", "source": "a.json",
    }  # fmt: skip


def test_polygons_stay_as_they_were_drawn(world: tuple[Studio, LabelStudioClient]) -> None:
    studio, site = world
    bring(site, HEAD, kind="polygon")
    regions = studio.of(7)[0]["annotations"][0]["result"]
    assert [region["value"]["polygonlabels"] for region in regions] == [
        ["teeth"], ["mouth"], ["face"],
    ]  # fmt: skip
    assert regions[0]["value"]["points"] == [[30, 62.5], [60, 62.5], [60, 75], [30, 75]]
    assert regions[0]["original_width"] == W and regions[0]["original_height"] == H


@pytest.mark.parametrize(
    "other",
    [
        Region("nose", box(2, 4, 3, 5)),  # no polygon
        polygon("__ignore__", 2, 4, 3, 5),
        polygon("background", 2, 4, 3, 5),
    ],
)
def test_what_polygons_cannot_say_is_outlined(
    world: tuple[Studio, LabelStudioClient], other: Region
) -> None:
    studio, site = world
    bring(site, read(*HEAD.regions, other), kind="polygon")
    expected = EXPECTED.copy()
    expected[2:3, 4:5] = NOSE if other.label == "nose" else 0
    assert np.array_equal(masks(studio, "polygon")[0], expected)


def test_the_same_import_again_makes_only_what_is_missing(
    world: tuple[Studio, LabelStudioClient],
) -> None:
    studio, site = world
    second = read(*HEAD.regions, name="b.json", seed=1)
    assert bring(site, HEAD).created == 1
    assert bring(site, HEAD, second) == Imported(created=1, there=1)
    before = len(studio.writes())
    assert bring(site, HEAD, second) == Imported(there=2)
    assert len(studio.writes()) == before
    changed = read(*HEAD.regions[1:])
    assert bring(site, changed) == Imported(there=1, changed=["a.json"])
    assert len(studio.of(7)) == 2 and len(studio.writes()) == before
    retaken = read(*HEAD.regions, seed=2)  # another picture of the same name
    assert bring(site, retaken) == Imported(created=1)


def test_one_picture_labeled_twice_is_two_tasks_and_one_upload(
    world: tuple[Studio, LabelStudioClient],
) -> None:
    studio, site = world
    assert bring(site, HEAD, read(*HEAD.regions[1:], name="x/a.json")).created == 2
    assert len(studio.files) == 1
    assert [m.max() for m in masks(studio)] == [TEETH, MOUTH]


def test_an_import_that_was_stopped_goes_on(world: tuple[Studio, LabelStudioClient]) -> None:
    studio, site = world
    pictures = [read(*HEAD.regions, name=f"{n}.json", seed=n) for n in range(12)]
    calls = iter([None, None, None, Lost("another process")])

    def check() -> None:
        if (stop := next(calls)) is not None:
            raise stop

    with pytest.raises(Lost):
        bring(site, *pictures, check=check)
    assert (len(studio.of(7)), len(studio.files)) == (5, 10)
    assert bring(site, *pictures) == Imported(created=7, there=5)
    assert len(studio.files) == 12
    sources = {task["data"]["dgan"]["source"] for task in studio.of(7)}
    assert len(sources) == len(studio.of(7)) == 12


def test_pictures_without_a_pixel_of_a_class_are_left_out(
    world: tuple[Studio, LabelStudioClient],
) -> None:
    bare = read(Region("background", box(0, 0, 8, 10)), Region("__ignore__", box(0, 0, 1, 1)))
    assert bring(world[1], bare) == Imported(bare=["a.json"])
    assert not world[0].writes()


def test_they_are_learned_from_like_a_persons_and_are_no_push(
    world: tuple[Studio, LabelStudioClient],
) -> None:
    _, site = world
    bring(site, read(*HEAD.regions, data={"latent": {"generator": "g", "index": 3}}))
    (correction,) = read_corrections(site, 7)
    binding = project().binding
    assert binding is not None
    assert np.array_equal(correction.mask(binding, H, W), EXPECTED)
    assert correction.data["latent"] == {"generator": "g", "index": 3}
    assert not list(Inventory.of(site, 7))


def test_photos_are_uploaded_as_they_are(world: tuple[Studio, LabelStudioClient]) -> None:
    pixels = picture(H, W)
    photo = LabeledPicture("my photo.json", pixels, encoded(pixels, "JPEG"), ".jpg", HEAD.regions)
    studio, site = world
    bring(site, photo)
    (upload,) = studio.files.values()
    assert upload["file"].partition("-")[2].startswith("my-photo-")
    assert upload["file"].endswith(".jpg")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["face", "nose", "mouth", "teeth", "hair", "__ignore__", "background"]),
            st.integers(0, H - 1), st.integers(0, W - 1), st.integers(1, H), st.integers(1, W),
        ),
        min_size=1, max_size=6,
    ),
    st.sampled_from(KINDS),
)  # fmt: skip
def test_any_boxes_come_back_as_they_were_painted(
    rows: Sequence[tuple[str, int, int, int, int]], kind: str
) -> None:
    found = read(*(polygon(name, t, x, t + h, x + w) for name, t, x, h, w in rows))
    binding = project(kind).binding
    assert binding is not None
    matching = match([region.label for region in found.regions], TOONHEAD, {}, binding)
    labels = paint(found, matching)
    regions = annotation_of(found, labels, matching, binding)
    back = to_label_map(regions, binding, H, W)
    assert np.array_equal(back, np.where(labels == 255, 0, labels))


def test_masks_on_disk_are_plain(tmp_path: Path) -> None:
    write_folder(entries(HEAD), match(["Teeth", "mouth", "skin"], TOONHEAD), tmp_path / "out")
    data = (tmp_path / "out" / "masks" / "a.png").read_bytes()
    with Image.open(io.BytesIO(data)) as mask:
        assert mask.mode == "L" and np.array_equal(np.asarray(mask), EXPECTED)


def test_edges_through_the_centres_of_pixels_are_kept_to_the_pixel() -> None:
    """0.5 of 7 pixels is 7.142857 %: rounded, the edge would leave out a column."""
    points = np.array([[0.5, 1], [6, 1], [6, 7], [0.5, 7]])
    mask = rasterize(points, 8, 7)
    assert mask[1, 0]
    pixels = picture(8, 7)
    found = LabeledPicture("a", pixels, encoded(pixels), ".png", (Region("face", mask, points),))
    binding = project("polygon").binding
    assert binding is not None
    matching = match(["face"], TOONHEAD, {}, binding)
    labels = paint(found, matching)
    regions = annotation_of(found, labels, matching, binding)
    assert np.array_equal(to_label_map(regions, binding, 8, 7), labels)
