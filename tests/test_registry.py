"""Which version serves a project."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dgan_backend.errors import DamagedError, DganError
from dgan_backend.partonomy import from_labels, load_partonomy
from dgan_backend.records import version_name
from dgan_backend.registry import Registry
from tests.builders import tiny_segmenter


def test_the_last_own_version_serves_and_else_the_shipped_one(tmp_path: Path) -> None:
    tree = from_labels("project-5", ["paw"])
    made = tiny_segmenter(tmp_path, tree)
    registry = Registry(tmp_path / "models")
    assert registry.current(tree, 5) is None
    (tmp_path / "models").mkdir()
    for number in (1, 2):
        made.save(tmp_path / "models" / version_name(tree.name, 5, number))
    assert registry.current(tree, 5) == "p5-project-5-v0002"
    assert registry.current(tree, 6) is None
    assert registry.current(load_partonomy("toonhead"), 5) == "toonhead-shipped"
    loaded = registry.segmenter("p5-project-5-v0002")
    assert loaded is registry.segmenter("p5-project-5-v0002")
    assert loaded.partonomy == tree


def test_a_version_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DganError, match="There is no version"):
        Registry(tmp_path).segmenter("p1-x-v0001")


# Versions of a project, of which the registry reads nothing but the cards

TREE = from_labels("cat", ["paw"])
OURS, THEIRS = "5.1795491060", "5.1700000000"


class Made:
    """A version that is saved as little more than its card."""

    def __init__(self, version: str, **training: object) -> None:
        self.version, self.training = version, training

    def save(self, folder: Path) -> None:
        partial = folder.with_name(folder.name + ".partial")
        partial.mkdir(parents=True)
        (partial / "version.json").write_text(json.dumps({"training": self.training}))
        partial.replace(folder)


def publish(registry: Registry, *numbers: int, current: bool = True, **training: object) -> None:
    for number in numbers:
        made = Made(version_name("cat", 5, number), **training)
        registry.publish(made, current=current)  # type: ignore[arg-type]


def names(*numbers: int) -> list[str]:
    return [version_name("cat", 5, number) for number in numbers]


@pytest.fixture
def kept(tmp_path: Path) -> Registry:
    """An empty one."""
    return Registry(tmp_path)


def test_what_is_published_is_current_in_all_processes(kept: Registry, tmp_path: Path) -> None:
    other = Registry(tmp_path)
    for number in (1, 2):
        publish(kept, number)
        assert kept.current(TREE, 5) == other.current(TREE, 5) == names(number)[0]


def test_a_version_that_was_held_back_serves_once_it_is_chosen(kept: Registry) -> None:
    publish(kept, 1)
    publish(kept, 2, current=False, held_back="It is worse.")
    assert kept.current(TREE, 5) == names(1)[0]
    assert [k.held_back for k in kept.versions(5)] == ["", "It is worse."]
    kept.use(names(2)[0])
    assert kept.current(TREE, 5) == names(2)[0]


def test_without_any_good_version_the_shipped_one_serves(kept: Registry) -> None:
    publish(kept, 1, current=False, held_back="It is worse.")
    assert kept.current(TREE, 5) is None
    toonhead = load_partonomy("toonhead")
    kept.publish(
        Made(version_name("toonhead", 5, 1), held_back="It is worse."),  # type: ignore[arg-type]
        current=False,
    )
    assert kept.current(toonhead, 5) == "toonhead-shipped"


def test_an_older_version_that_was_chosen_serves_until_a_newer_one_comes(kept: Registry) -> None:
    publish(kept, 1, 2, 3)
    kept.use(names(1)[0])
    assert kept.current(TREE, 5) == names(1)[0]
    publish(kept, 4, current=False, held_back="It is worse.")
    assert kept.current(TREE, 5) == names(1)[0]
    publish(kept, 5)
    assert kept.current(TREE, 5) == names(5)[0]


def test_a_process_killed_right_after_its_version_was_written_has_made_it_current(
    kept: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(kept, 1)
    monkeypatch.setattr(Registry, "use", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        publish(kept, 2)
    assert Registry(tmp_path).current(TREE, 5) == names(2)[0]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "p5-cat-v0009", "last": 9}'])
def test_a_pointer_that_leads_nowhere_is_passed_over(
    kept: Registry, tmp_path: Path, text: str
) -> None:
    publish(kept, 1, 2)
    (tmp_path / "p5-cat.current.json").write_text(text)
    assert kept.current(TREE, 5) == names(2)[0]


@pytest.mark.parametrize("name", ["p5-cat-v0009", "cat", "p5-cat-v0001/", "x/p5-cat-v0001", ""])
def test_a_version_that_is_not_there_cannot_be_chosen(
    kept: Registry, tmp_path: Path, name: str
) -> None:
    publish(kept, 1)
    Made("x").save(tmp_path / "x" / "p5-cat-v0001")
    with pytest.raises(DganError, match=r"There is no version .*: p5-cat-v0001\."):
        kept.use(name)
    assert kept.current(TREE, 5) == names(1)[0]


def test_versions_of_another_label_studios_project_of_that_number_do_not_count(
    kept: Registry,
) -> None:
    publish(kept, 1)  # by hand: of both
    publish(kept, 2, project=OURS)
    publish(kept, 3, project=THEIRS)
    assert [k.name for k in kept.versions(5, OURS)] == names(1, 2)
    assert kept.current(TREE, 5, OURS) == names(2)[0]
    assert kept.current(TREE, 5, THEIRS) == names(3)[0]
    assert kept.current(TREE, 5, "5.3") == names(1)[0]
    assert kept.next_name(TREE, 5) == names(4)[0], "names are of both"


def test_a_choice_is_not_undone_by_another_label_studio(kept: Registry) -> None:
    publish(kept, 1, 2, project=OURS)
    kept.use(names(1)[0])
    publish(kept, 3, project=THEIRS)
    assert kept.current(TREE, 5, OURS) == names(1)[0]
    assert kept.current(TREE, 5, THEIRS) == names(3)[0]


def test_of_a_version_by_hand_and_one_of_the_project_the_later_choice_counts(
    kept: Registry,
) -> None:
    publish(kept, 1)  # by hand
    publish(kept, 2, project=OURS)
    assert kept.current(TREE, 5, OURS) == names(2)[0]
    for chosen in (1, 2, 1):
        kept.use(names(chosen)[0])
        assert kept.current(TREE, 5, OURS) == kept.current(TREE, 5) == names(chosen)[0]
        assert [k.number for k in kept.versions() if kept.serving(k)] == [chosen]


def test_a_choice_of_before_there_was_one_for_each_label_studio_counts(
    kept: Registry, tmp_path: Path
) -> None:
    publish(kept, 1, 2, current=False, project=OURS)
    old = tmp_path / "p5-cat.current.json"
    old.write_text(json.dumps({"version": names(1)[0], "last": 2}))
    assert kept.current(TREE, 5, OURS) == names(1)[0]
    kept.use(names(2)[0])
    assert kept.current(TREE, 5, OURS) == names(2)[0]
    assert kept.forget(5, OURS) == names(1, 2)
    assert list(tmp_path.iterdir()) == []


def test_projects_and_partonomies_do_not_mix(kept: Registry) -> None:
    publish(kept, 1)
    for name in ("p55-cat-v0007", "p5-cat-v2-v0003", "p5-dog-v0004"):
        kept.publish(Made(name), current=True)  # type: ignore[arg-type]
    assert kept.current(TREE, 5) == names(1)[0]
    assert kept.next_name(TREE, 5) == names(2)[0]
    assert kept.next_name(TREE, 55) == "p55-cat-v0008"
    assert kept.next_name(TREE, 6) == "p6-cat-v0001"
    assert kept.next_name(from_labels("cat-v2", ["paw"]), 5) == "p5-cat-v2-v0004"
    assert [k.name for k in kept.versions(5)] == [names(1)[0], "p5-cat-v2-v0003", "p5-dog-v0004"]
    assert kept.current(TREE) is None


def test_versions_are_ordered_by_number(kept: Registry) -> None:
    publish(kept, 10_000, 2, 9999)
    assert [k.number for k in kept.versions()] == [2, 9999, 10_000]
    assert kept.next_name(TREE, 5) == "p5-cat-v10001"


def test_a_name_is_not_given_twice_whatever_the_last_ones_fate(kept: Registry) -> None:
    publish(kept, 1)
    publish(kept, 2, current=False, held_back="It is worse.")
    assert kept.next_name(TREE, 5) == names(3)[0]
    kept.use(names(1)[0])
    kept.prune(5, 0)
    assert kept.next_name(TREE, 5) == names(3)[0]


def test_a_half_written_or_half_deleted_folder_is_no_version(
    kept: Registry, tmp_path: Path
) -> None:
    publish(kept, 1, 2)
    Made("x").save(tmp_path / "p5-cat-v0003.partial")
    (tmp_path / "p5-cat-v0004").mkdir()
    for number, text in [(5, "{"), (6, "[]"), (7, "{}"), (8, '{"training": 3}')]:
        (tmp_path / names(number)[0]).mkdir()
        (tmp_path / names(number)[0] / "version.json").write_text(text)
    assert kept.current(TREE, 5) == names(2)[0]
    (tmp_path / names(2)[0] / "version.json").unlink()  # as another process begins to delete it
    assert [k.name for k in kept.versions(5)] == names(1)
    assert kept.current(TREE, 5) == names(1)[0]
    with pytest.raises(DganError, match="There is no version"):
        kept.use(names(2)[0])


def test_a_name_that_another_process_gave_anew_is_read_anew(kept: Registry, tmp_path: Path) -> None:
    publish(kept, 1, project=OURS)
    assert kept.current(TREE, 5, OURS) == names(1)[0]
    other = Registry(tmp_path)
    other.forget(5)
    publish(other, 1, project=THEIRS)
    assert kept.current(TREE, 5, OURS) is None
    assert kept.current(TREE, 5, THEIRS) == names(1)[0]


def test_serving_is_told_of_the_one_that_does(kept: Registry) -> None:
    publish(kept, 1, 2, project=OURS)
    publish(kept, 3, project=THEIRS)
    publish(kept, 4, current=False, held_back="It is worse.", project=OURS)
    assert [kept.serving(k) for k in kept.versions()] == [False, True, True, False]
    kept.use(names(1)[0])
    assert [kept.serving(k) for k in kept.versions()] == [True, False, True, False]


def test_pruning_keeps_the_last_ones(kept: Registry, tmp_path: Path) -> None:
    publish(kept, *range(1, 7))
    kept.publish(Made("p6-cat-v0001"), current=True)  # type: ignore[arg-type]
    assert kept.prune(5, 2) == names(1, 2, 3, 4)
    assert [k.name for k in kept.versions()] == [*names(5, 6), "p6-cat-v0001"]
    assert not any((tmp_path / name).exists() for name in names(1, 2, 3, 4))
    assert kept.prune(5, 2) == []


@pytest.mark.parametrize("keep", [0, 1])
def test_pruning_keeps_the_current_and_the_last_good_one(kept: Registry, keep: int) -> None:
    publish(kept, *range(1, 5))
    publish(kept, 5, 6, current=False, held_back="It is worse.")
    kept.use(names(2)[0])
    assert kept.prune(5, keep) == names(1, 3, 5)
    assert kept.current(TREE, 5) == names(2)[0]


def test_pruning_leaves_each_label_studio_and_partonomy_what_serves_it(kept: Registry) -> None:
    publish(kept, 1, 2, project=OURS)
    kept.publish(Made("p5-dog-v0001"), current=True)  # type: ignore[arg-type]
    publish(kept, 3, 4, 5, project=THEIRS)
    assert kept.prune(5, 1) == names(3, 4, 1)
    assert kept.current(TREE, 5, OURS) == names(2)[0]
    assert kept.current(TREE, 5, THEIRS) == names(5)[0]
    assert kept.current(from_labels("dog", ["paw"]), 5) == "p5-dog-v0001"


def test_pruning_keeps_all_that_were_chosen(kept: Registry) -> None:
    publish(kept, 1, 2)  # by hand
    publish(kept, 3, 4, project=OURS)
    publish(kept, 5, 6, project=THEIRS)
    kept.use(names(1)[0])
    kept.use(names(5)[0])
    assert kept.prune(5, 1) == names(3)
    assert kept.current(TREE, 5, OURS) == names(1)[0]
    assert kept.current(TREE, 5, THEIRS) == names(5)[0]


def test_a_forgotten_project_leaves_nothing_behind(kept: Registry, tmp_path: Path) -> None:
    publish(kept, 1)
    publish(kept, 2, project=OURS)
    kept.publish(Made("p5-dog-v0001"), current=True)  # type: ignore[arg-type]
    kept.publish(Made("p55-cat-v0001"), current=True)  # type: ignore[arg-type]
    assert kept.forget(5) == [*names(1, 2), "p5-dog-v0001"]
    assert kept.current(TREE, 5) is None and kept.versions(5) == []
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["p55-cat-v0001", "p55-cat.current.json"]


def test_without_a_folder_there_are_no_versions(tmp_path: Path) -> None:
    nowhere = Registry(tmp_path / "nowhere")
    assert nowhere.versions() == [] and nowhere.forget(5) == [] == nowhere.prune(5, 3)
    assert nowhere.next_name(TREE, 5) == names(1)[0]


# Versions that are not as they were written


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the numbers, so that it can be read all the same
    path.write_bytes(data)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Registry, Path, str]:
    """A project's second version, which serves; its folder, and the first one's name."""
    models = tmp_path / "models"
    models.mkdir()
    made = tiny_segmenter(tmp_path, TREE)
    first, second = names(1, 2)
    for name in (first, second):
        made.save(models / name)
    return Registry(models), models / second, first


@pytest.mark.parametrize("damage", [cut_short, one_bit, Path.unlink])
@pytest.mark.parametrize("file", ["interpreter.safetensors", "training.safetensors"])
def test_a_damaged_version_is_put_aside_and_the_one_before_serves(
    two: tuple[Registry, Path, str], file: str, damage: Callable[[Path], None]
) -> None:
    registry, folder, first = two
    damage(folder / file)
    with pytest.raises(DamagedError, match=f"{file} is .*put aside.*learned again"):
        registry.segmenter(folder.name)
    assert registry.current(TREE, 5) == first
    assert registry.segmenter(first).partonomy == TREE
    assert registry.damaged(5) == [folder.name] and registry.damaged(6) == []
    assert registry.next_name(TREE, 5) == "p5-cat-v0003", "its name is not given twice"
    registry.forget(5)
    assert registry.damaged(5) == []


def test_a_version_without_a_readable_card_is_put_aside(two: tuple[Registry, Path, str]) -> None:
    registry, folder, first = two
    (folder / "version.json").write_text("{")
    assert registry.current(TREE, 5) == first
    assert registry.damaged(5) == [folder.name]
    assert registry.next_name(TREE, 5) == "p5-cat-v0003"


def test_a_version_of_before_files_had_digests_serves(two: tuple[Registry, Path, str]) -> None:
    registry, folder, _ = two
    card = json.loads((folder / "version.json").read_text())
    assert set(card.pop("files")) == {f.name for f in folder.iterdir()} - {"version.json"}
    (folder / "version.json").write_text(json.dumps(card))
    assert registry.segmenter(folder.name).partonomy == TREE
    cut_short(folder / "interpreter.safetensors")
    with pytest.raises(DamagedError):
        Registry(folder.parent).segmenter(folder.name)


def test_a_generator_that_is_gone_condemns_no_version(two: tuple[Registry, Path, str]) -> None:
    registry, folder, _ = two
    card = json.loads((folder / "version.json").read_text())
    shutil.rmtree(card["generator"])
    with pytest.raises(DganError):
        registry.segmenter(folder.name)
    assert registry.damaged(5) == [] and registry.current(TREE, 5) == folder.name
