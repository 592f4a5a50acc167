"""Samples as tasks: which ones, where, with what labels, never twice, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.labelstudio.client import LabelStudioClient
from dgan_backend.labelstudio.corrections import correction_of
from dgan_backend.labelstudio.project import open_project
from dgan_backend.loop.board import Lost
from dgan_backend.loop.training import read_corrections
from dgan_backend.records import SeedLatent
from dgan_backend.segmenter import Segmenter
from dgan_backend.synthesis import choice, sister
from dgan_backend.synthesis.batch import Batch, Mark, first_seed, latent_of
from dgan_backend.synthesis.importing import CHUNK, file_name
from dgan_backend.synthesis.inventory import Inventory
from dgan_backend.synthesis.pushing import Order, Pushed, Pusher
from dgan_backend.synthesis.settling import settle
from dgan_backend.synthesis.undoing import Stayed, undo
from tests.labeling import CONFIG, VERSION
from tests.studio import UID, Studio, studio_with

PROJECT = open_project(UID, CONFIG)
SISTER = 8


@pytest.fixture
def world() -> Iterator[tuple[Studio, LabelStudioClient]]:
    with studio_with((7, CONFIG)) as made:
        yield made


@pytest.fixture
def studio(world: tuple[Studio, LabelStudioClient]) -> Studio:
    return world[0]


@pytest.fixture
def site(world: tuple[Studio, LabelStudioClient]) -> LabelStudioClient:
    return world[1]


def push(site: LabelStudioClient, segmenter: Segmenter, count: int, **order: Any) -> Pushed:
    options = {key: order.pop(key) for key in ("check", "progress") if key in order}
    return Pusher(site, PROJECT, segmenter, **options).push(Order(count, **order))


def seeds(studio: Studio, project: int = SISTER) -> list[int]:
    tasks = [task["data"] for task in studio.of(project)]
    return sorted(data["latent"]["seed"] for data in tasks if "latent" in data)


# Which seeds


@pytest.mark.parametrize(
    ("arrive", "sampled"), [(1, 2), (9, 10), (10, 12), (18, 20), (20, 23), (90, 100), (9000, 10000)]
)
def test_a_tenth_is_dropped_so_that_the_count_arrives(arrive: int, sampled: int) -> None:
    assert choice.candidates(arrive) == sampled


@given(st.integers(1, 10_000))
def test_at_least_a_tenth_is_dropped_and_no_more_than_one_above_it(count: int) -> None:
    sampled = choice.candidates(count)
    assert sampled * 0.1 - 1e-6 <= sampled - count < sampled * 0.1 + 1
    assert choice.pool(count) >= 2 * count


def test_the_surest_and_the_least_sure_are_chosen_in_order() -> None:
    numbers, scores = [5, 6, 7, 8, 9], [0.5, 0.9, 0.1, 0.5, 0.3]
    assert choice.surest(numbers, scores, 3) == [6, 5, 8]
    assert choice.least_sure(numbers, scores, 3) == [7, 9, 5]


def test_seeds_that_are_taken_are_passed_over_and_the_last_is_followed_by_the_first() -> None:
    assert choice.free_seeds(3, 4, {4, 5, 9}) == [3, 6, 7, 8]
    assert choice.free_seeds(2**32 - 2, 3, set()) == [2**32 - 2, 2**32 - 1, 0]


# Names


def test_a_batch_is_named_after_what_was_asked_for() -> None:
    version = "p7-toonhead-v0003"
    assert Order(50).batch(version).name == "p7-toonhead-v0003-x50-s3000000"
    assert Order(50, first_seed=12).batch(version).name == "p7-toonhead-v0003-x50-s12"
    assert Order(20, True).batch(version).name == "p7-toonhead-v0003-for-labeling-x20-s3000000"
    assert Order(5).batch("toonhead-shipped").name == "toonhead-shipped-x5-s0"
    assert Batch("seed", "toonhead-d7eba7d2", 16).name == "toonhead-d7eba7d2-seed-x16-s0"


@pytest.mark.parametrize(
    ("version", "first"),
    [("toonhead-shipped", 0), ("p7-a-v0001", 10**6), ("p7-a-v4294", 294 * 10**6), ("mine", 0)],
)
def test_each_version_has_seeds_of_its_own(version: str, first: int) -> None:
    assert first_seed(version) == first
    assert 0 <= first_seed(version) + 10**6 < 2**32


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"count": 0}, "1 to 10000 tasks, not 0"),
        ({"count": 10_001}, "1 to 10000 tasks, not 10001"),
        ({"count": 1, "for_labeling": True, "annotations": True}, "without annotations"),
    ],
)
def test_an_order_that_cannot_be_is_refused(order: dict[str, Any], said: str) -> None:
    with pytest.raises(DganError, match=said):
        Order(**order)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_cannot_be_is_refused(seed: int) -> None:
    with pytest.raises(DganError, match=str(seed)):
        Order(1, first_seed=seed).batch("toonhead-shipped")


@pytest.mark.parametrize(
    "mark",
    [
        Mark("synthetic", "b", "v", 0.5),
        Mark("synthetic", "b", "v", 0.5, "hash"),
        Mark("seed", "b"),
        Mark("for labeling", "b", "v", 0.0),
    ],
)
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert Mark.of({"dgan": mark.to_json()}) == mark


@pytest.mark.parametrize("data", [{}, {"dgan": 3}, {"dgan": {"kind": "x"}}, {"dgan": None}])
def test_other_tasks_have_no_mark(data: dict[str, Any]) -> None:
    assert Mark.of(data) is None


def test_a_file_is_named_so_that_label_studio_keeps_the_name() -> None:
    assert file_name(SeedLatent("my net/ü-12345678", 7, 0.7)) == "my-net---12345678-0.7-7.png"
    assert len(file_name(SeedLatent("n" * 200, 2**32 - 1, -0.123456))) < 70


# Pushing


def test_samples_arrive_in_a_sister_project_with_labels_and_all_that_is_known_of_them(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    pushed = push(site, segmenter, 9)
    assert pushed == Pushed("toonhead-tiny-x9-s0", SISTER, 9, 0)
    assert not studio.of(7)
    about = studio.projects[SISTER]
    assert (about["title"], about["label_config"]) == ("Project 7 (synthetic)", CONFIG)
    assert about["show_collab_predictions"] and about["model_version"] == VERSION
    scores = {seed: segmenter.segment_seed(seed).score for seed in range(10)}
    worst = min(scores, key=lambda seed: scores[seed])
    assert seeds(studio) == [seed for seed in range(10) if seed != worst]
    for task in studio.of(SISTER):
        data, (prediction,) = task["data"], task["predictions"]
        latent = latent_of(data)
        assert latent == segmenter.latent(data["latent"]["seed"])
        assert data["image"].startswith("/data/upload/8/") and data["image"].endswith(".png")
        score = round(scores[latent.seed], 4)
        assert data["dgan"] == {
            "kind": "synthetic",
            "batch": pushed.batch,
            "version": VERSION,
            "score": score,
        }
        assert (prediction["score"], prediction["model_version"]) == (score, VERSION)
        assert prediction["result"] and not task["annotations"]


def test_a_push_that_is_repeated_makes_nothing_and_samples_nothing(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 5)
    before, sampled = studio.writes(), list[str]()

    def progress(name: str, steps: Any) -> Any:
        sampled.append(name)
        return steps

    again = push(site, segmenter, 5, progress=progress)
    assert (again.created, again.there, again.target) == (0, 5, SISTER)
    assert studio.writes() == before and not sampled


@pytest.mark.parametrize("bare", [0, 1, 2, 3])
@pytest.mark.parametrize("annotations", [False, True])
def test_tasks_that_label_studio_stores_several_times_are_there_once_and_whole(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter, annotations: bool, bare: int
) -> None:
    """Its SQLite was locked: three tries, of which the answer tells the last one, and the last
    ones made bare tasks of the first call."""
    count, key = CHUNK + 3, "annotations" if annotations else "predictions"
    others = site.import_tasks(7, [{"data": {"image": "/data/upload/7/1-a.png"}}] * 2).ids
    studio.tries, studio.bare = 3, bare
    pushed = push(site, segmenter, count, annotations=annotations, same_project=True)
    assert pushed.created == count
    assert len(set(seeds(studio, 7))) == len(seeds(studio, 7)) == count
    made = [task for task in studio.of(7) if task["id"] not in others]
    assert [len(task[key]) for task in made] == [1] * count
    assert all(other in studio.tasks for other in others)


def test_what_a_person_has_begun_with_of_doubled_tasks_stays(
    studio: Studio, site: LabelStudioClient
) -> None:
    """A draft, a skip, an annotation, or another than was sent; of the rest each stays once."""
    region = {"type": "brushlabels", "from_name": "b", "value": {"rle": [1]}}
    labeled = {"annotations": [{"result": [region], "ground_truth": False}]}
    sent = [{"data": {"n": n}, **(labeled if n > 3 else {})} for n in range(6)]
    first, again = site.import_tasks(7, sent).ids, site.import_tasks(7, sent).ids
    studio.tasks[again[0]]["draft"] = True
    studio.annotate(again[1], [], was_cancelled=True)
    studio.annotate(again[2], [region])
    studio.tasks[again[4]]["annotations"][0]["result"] = []
    assert settle(site, 7, sent, [*first, *again]) == []
    assert sorted(studio.tasks) == sorted([*again[:3], first[3], again[4], first[5]])


def test_two_tasks_that_are_alike_stay_two(studio: Studio, site: LabelStudioClient) -> None:
    sent = [{"data": {"n": 1}}, {"data": {"n": 1}}, {"data": {"n": 2}}]
    other = {"data": {"n": 3}}
    ids = [*site.import_tasks(7, sent).ids, *site.import_tasks(7, sent).ids]
    assert settle(site, 7, [*sent, other], ids) == [other]
    assert sorted(studio.tasks) == ids[:3]


def test_tasks_that_are_never_made_whole_are_an_error(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    """As where the labeling config was changed meanwhile; the next push makes them."""
    studio.passes_over = True
    with pytest.raises(DganError, match=r"did not make 3 of 3 tasks in project 7 .*config"):
        push(site, segmenter, 3, same_project=True)
    assert not studio.tasks
    studio.passes_over = False
    assert push(site, segmenter, 3, same_project=True).created == 3


def test_a_push_that_is_killed_before_any_write_goes_on_where_it_ended(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    count = CHUNK + 3
    written: list[int] = []
    push(site, segmenter, count, check=lambda: written.append(len(studio.writes())))
    moments = {writes: len(written) - written[::-1].index(writes) for writes in written}
    assert len(moments) == 6  # before sister, files and tasks twice, and the sister's version
    for checks in moments.values():
        studio.tasks.clear(), studio.files.clear(), studio.projects.pop(SISTER, None)
        left = [checks]

        def die(left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Lost

        with pytest.raises(Lost):
            push(site, segmenter, count, check=die)
        there = len(studio.of(SISTER))
        pushed = push(site, segmenter, count)
        assert (pushed.created, pushed.there) == (count - there, there)
        assert len(seeds(studio)) == len(set(seeds(studio))) == count
        assert len(studio.files) == count  # no file was uploaded twice
        assert studio.projects[SISTER]["model_version"] == VERSION


def test_a_batch_is_filled_up_when_other_scores_come_out(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    """Another number of threads may change the order of two scores; no more than M arrive."""
    push(site, segmenter, 5)
    first, second, *_ = studio.of(SISTER)
    del studio.tasks[first["id"]]
    second["data"]["latent"]["seed"] = 400  # as if another one had been chosen
    assert push(site, segmenter, 5).created == 1
    assert len(studio.of(SISTER)) == 5


def test_a_picture_that_is_there_is_not_made_again_whoever_brought_it(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    data = {"image": "/x.png", "latent": segmenter.latent(1).to_json()}
    site.import_tasks(7, [{"data": data}])
    push(site, segmenter, 4, same_project=True)
    assert len(studio.of(7)) == 5 and seeds(studio, 7).count(1) == 1
    pushed = push(site, segmenter, 6, same_project=True)
    assert (pushed.created, pushed.there) == (6, 0)
    assert len(set(seeds(studio, 7))) == 11
    assert SISTER not in studio.projects


def test_other_seeds_make_another_batch(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 2)
    pushed = push(site, segmenter, 2, first_seed=100)
    assert (pushed.batch, pushed.created) == ("toonhead-tiny-x2-s100", 2)
    assert [seed for seed in seeds(studio) if seed >= 100] == seeds(studio)[2:]


def test_the_least_sure_go_to_people_in_the_project_itself(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    pushed = push(site, segmenter, 3, for_labeling=True)
    assert (pushed.target, pushed.created) == (7, 3)
    scores = {seed: segmenter.segment_seed(seed).score for seed in range(choice.pool(3))}
    assert seeds(studio, 7) == sorted(sorted(scores, key=lambda seed: scores[seed])[:3])
    told = [task["predictions"][0]["score"] for task in studio.of(7)]
    assert told == sorted(told)  # the lowest is asked for first by uncertainty sampling
    assert {task["data"]["dgan"]["kind"] for task in studio.of(7)} == {"for labeling"}


# Annotations


def test_annotations_of_ours_are_no_corrections_until_somebody_changes_them(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 3, annotations=True, same_project=True)
    for task in studio.of(7):
        (annotation,) = task["annotations"]
        assert annotation["result"] and annotation["ground_truth"] is False
        assert not task["predictions"] and correction_of(task) is None
    changed = studio.of(7)[0]
    del changed["annotations"][0]["result"][0]
    assert [c.task for c in read_corrections(site, 7)] == [changed["id"]]


def test_a_batch_is_not_made_half_of_predictions_and_half_of_annotations(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 3)
    with pytest.raises(DganError, match=r"without annotations; .*--undo toonhead-tiny-x3-s0"):
        push(site, segmenter, 3, annotations=True)


# The sister


def test_a_sister_that_was_renamed_is_found_and_gets_the_labels_of_today(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 1)
    studio.projects[SISTER]["title"] = "Generated"
    studio.projects[7]["label_config"] = changed = CONFIG.replace("#", "#0")
    assert push(site, segmenter, 2, first_seed=50).target == SISTER
    assert studio.projects[SISTER]["label_config"] == changed
    assert sorted(studio.projects) == [7, SISTER]


def test_a_sister_is_found_among_many_projects_and_is_not_that_of_another(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 1)
    for number in range(9, 230):
        studio.add_project(number, CONFIG, description=sister._line(70 + number))
    found = sister.find(site, 7)
    assert found is not None and found["id"] == SISTER
    assert sister.find(site, 8) is None


def test_of_two_sisters_that_label_studio_made_of_one_call_the_first_gets_all(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    line = "dgan-backend: synthetic tasks of project 7"
    studio.before["POST /api/projects/"] = lambda: studio.add_project(8, CONFIG, description=line)
    assert push(site, segmenter, 2).target == 8
    assert push(site, segmenter, 2).created == 0
    assert sorted(studio.projects) == [7, 8, 9] and not studio.of(9)


def test_a_long_title_is_cut(studio: Studio, site: LabelStudioClient, segmenter: Segmenter) -> None:
    studio.projects[7]["title"] = "x" * 50
    push(site, segmenter, 1)
    assert studio.projects[SISTER]["title"] == "x" * 38 + " (synthetic)"


def test_labels_that_label_studio_does_not_take_are_explained(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 1)
    studio.projects[7]["label_config"] = "<View/>"
    studio.refused = "PATCH /api/projects/8/"
    with pytest.raises(DganError, match="Project 8 has the synthetic tasks of project 7"):
        push(site, segmenter, 2, first_seed=50)


def test_with_labels_of_several_versions_no_version_is_chosen_that_would_hide_the_others(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    push(site, segmenter, 1)
    assert studio.projects[SISTER]["model_version"] == VERSION
    studio.of(SISTER)[0]["data"]["dgan"]["version"] = "p7-toonhead-v0001"
    push(site, segmenter, 2, first_seed=50)
    assert studio.projects[SISTER]["model_version"] == ""


# Undo


def test_undo_removes_a_batch_with_its_files_and_nothing_else(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    kept = push(site, segmenter, 2)
    batch = push(site, segmenter, 60, first_seed=100).batch
    push(site, segmenter, 60, first_seed=100, same_project=True)
    site.import_tasks(7, [{"data": {"image": "/theirs.png"}}])
    undone = undo(site, [SISTER, 7], batch)
    assert (undone.removed, undone.stayed) == (120, ())
    assert {made.mark.batch for made in Inventory.of(site, SISTER)} == {kept.batch}
    assert [task["data"]["image"] for task in studio.of(7)] == ["/theirs.png"]
    assert len(studio.files) == 2


@pytest.mark.parametrize("project", [SISTER, 7])
def test_undo_keeps_a_file_as_long_as_a_task_shows_it(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter, project: int
) -> None:
    batch = push(site, segmenter, 60).batch
    first, *_, last = studio.of(SISTER)
    site.import_tasks(project, [{"data": {"image": first["data"]["image"]}}])
    last["data"]["image"] = studio.of(SISTER)[1]["data"]["image"]  # deleted in another chunk
    studio.files.popitem()
    assert undo(site, [SISTER, 7], batch).removed == 60
    shown = [f"/data/{file['file']}" for file in studio.files.values()]
    assert shown == [first["data"]["image"]]


def test_what_a_person_touched_stays_and_is_told(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    batch = push(site, segmenter, 5).batch
    tasks = [task["id"] for task in studio.of(SISTER)]
    studio.annotate(tasks[0], [])
    studio.annotate(tasks[1], [], was_cancelled=True)
    studio.tasks[tasks[2]]["draft"] = True
    undone = undo(site, [7, SISTER], batch)
    assert undone.removed == 2 and len(studio.files) == 3
    assert undone.stayed == (
        Stayed(SISTER, tasks[0], "it is annotated"),
        Stayed(SISTER, tasks[1], "somebody skipped it"),
        Stayed(SISTER, tasks[2], "somebody has begun with it"),
    )
    assert undo(site, [7, SISTER], batch).removed == 0


def test_an_annotation_of_ours_goes_unless_somebody_changed_it_or_added_one(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    batch = push(site, segmenter, 3, annotations=True).batch
    first, second, third = studio.of(SISTER)
    del first["annotations"][0]["result"][0]
    studio.annotate(second["id"], second["annotations"][0]["result"])
    undone = undo(site, [SISTER], batch)
    assert undone.removed == 1 and third["id"] not in studio.tasks
    assert [stayed.task for stayed in undone.stayed] == [first["id"], second["id"]]


def test_what_somebody_begins_with_at_the_last_moment_stays(
    studio: Studio, site: LabelStudioClient, segmenter: Segmenter
) -> None:
    batch = push(site, segmenter, 3).batch
    first = studio.of(SISTER)[0]
    looked = f"GET /api/projects/{SISTER}/file-uploads"  # after all tasks were listed
    studio.before[looked] = lambda: studio.annotate(first["id"], [])
    assert undo(site, [SISTER], batch).removed == 2
    assert first["id"] in studio.tasks


def test_an_unknown_batch_is_answered_with_those_that_are_there(
    site: LabelStudioClient, segmenter: Segmenter
) -> None:
    batch = push(site, segmenter, 2).batch
    with pytest.raises(DganError, match=f"'other' in project 8 or 7; there are: {batch}"):
        undo(site, [SISTER, 7], "other")
    with pytest.raises(DganError, match="there are: none"):
        undo(site, [7], batch)
