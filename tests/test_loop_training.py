"""A project's training: what is learned from, what is left out, what is promoted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dgan_backend.errors import DganError, PassingError
from dgan_backend.fitting import Labels
from dgan_backend.inversion.latents import LATENTS, Latents
from dgan_backend.labelstudio.config import labeling_config
from dgan_backend.labelstudio.corrections import Correction, correction_of
from dgan_backend.labelstudio.project import Project, open_project
from dgan_backend.labelstudio.regions import to_regions
from dgan_backend.loop import crossvalidation, gathering
from dgan_backend.loop.crossvalidation import CrossValidation
from dgan_backend.loop.stopping import Paused
from dgan_backend.loop.training import Trained, Training
from dgan_backend.loop.twins import Twins
from dgan_backend.loop.validation import Comparison, fold_of
from dgan_backend.partonomy import from_labels, load_partonomy
from dgan_backend.pictures import Picture
from dgan_backend.reading import invert_all
from dgan_backend.refitting import RefitSettings, refit_student
from dgan_backend.registry import Registry
from dgan_backend.versions import Source
from tests.builders import QUICK, add_tiny_backbone, tiny_generator_folder

UID = "3.1795491060"
SHORT = RefitSettings(pictures=8, more_pictures=0, steps=3, pixels=128, taught=2)
LABELS = ["wing", "tail"]


class Workshop:
    """A project with labels of its own, whose pictures and annotations the test makes."""

    def __init__(self, folder: Path, labels: list[str] = LABELS) -> None:
        self.generator = tiny_generator_folder(folder / "tiny")
        add_tiny_backbone(self.generator)
        self.models = folder / "models"
        self.registry = Registry(self.models)
        self.twins = Twins(self.models)
        self.pictures: dict[int, Picture | Exception] = {}
        self.fetched: list[int] = []
        self.labels = labels

    def project(self, **params: Any) -> Project:
        config = labeling_config(from_labels("own", self.labels))
        params = {"partonomy": "own", "generator": str(self.generator), **params}
        return open_project(UID, config, params)

    def annotated(self, task: int, *, band: int = 8, annotation: int = 0) -> Correction:
        """A task whose upper half is a wing, with a tail of `band` rows at the bottom."""
        random = np.random.RandomState(task)
        self.pictures.setdefault(task, random.randint(0, 256, (32, 32, 3)).astype(np.uint8))
        mask = np.zeros((32, 32), np.uint8)
        mask[:16] = 1
        mask[32 - band :] = 2
        binding = self.project().binding
        assert binding is not None
        regions = to_regions(mask, None, replace(binding, label_of=binding.label_of))
        told = {"id": annotation or task, "result": regions, "completed_by": 1, "updated_at": "x"}
        found = correction_of({"id": task, "data": {"image": "x"}, "annotations": [told]})
        assert found is not None
        return found

    def fetch(self, task: Mapping[str, Any]) -> Picture:
        self.fetched.append(int(task["id"]))
        picture = self.pictures[int(task["id"])]
        if isinstance(picture, Exception):
            raise picture
        return picture

    def train(self, corrections: list[Correction], **params: Any) -> Trained:
        self.fetched.clear()
        return self.training(**params).run(corrections)

    def training(self, **params: Any) -> Training:
        return self.training_of(params)

    def training_of(
        self, params: dict[str, Any], check: Callable[[], None] = lambda: None
    ) -> Training:
        return Training(
            self.registry,
            self.twins,
            self.project(**params),
            self.fetch,
            settings=SHORT,
            plan=QUICK,
            latents=Latents(self.models / LATENTS / UID),
            check=check,
        )


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_the_first_annotations_make_the_first_version(workshop: Workshop) -> None:
    assert workshop.train([]).version == ""
    first = workshop.train([workshop.annotated(5), workshop.annotated(6)])
    assert (first.version, first.current) == ("p3-project-3-v0001", True)
    version = workshop.registry.segmenter(first.version)
    assert [source.task for source in version.data.sources] == [5, 6]
    assert version.partonomy.classes == ("background", "wing", "tail")
    tree = workshop.project().binding
    assert tree is not None
    assert workshop.registry.current(tree.partonomy, 3, UID) == first.version


def test_later_ones_go_on_and_fetch_only_what_is_new(workshop: Workshop) -> None:
    one, two = workshop.annotated(5), workshop.annotated(6)
    workshop.train([one])
    again = workshop.train([one])
    assert (again.version, workshop.fetched) == ("", [])
    second = workshop.train([one, two])
    assert second.version == "p3-project-3-v0002"
    assert workshop.fetched == [6]
    changed = workshop.train([workshop.annotated(5, band=4), two])
    assert workshop.fetched == [5]
    told = workshop.registry.segmenter(changed.version).card.training
    assert told["new"] == [5]
    assert told["project"] == UID
    fewer = workshop.train([two])
    assert [s.task for s in workshop.registry.segmenter(fewer.version).data.sources] == [6]


def test_one_region_does_not_stop_all_learning(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither one that cannot be read nor one that something stumbles over."""
    good, bad, worse = (workshop.annotated(number) for number in (5, 6, 7))
    far = {**bad.annotations[0]["result"][0], "type": "polygonlabels"}
    far["value"] = {"points": [[10**400, 1], [2, 2], [3, 3]], "polygonlabels": ["wing"]}
    bad = replace(bad, annotations=({**bad.annotations[0], "result": [far]},))
    workshop.pictures[7] = KeyError("of no picture")  # type: ignore[assignment]
    told = workshop.train([good, bad, worse])
    assert told.version == "p3-project-3-v0001"
    reasons = {left.task: left.reason for left in told.left_out}
    assert "not finite" in reasons[6]
    assert reasons[7].startswith("The backend failed on the correction of task 7")
    assert "of no picture" in caplog.text and "Traceback" in caplog.text
    workshop.pictures[8] = MemoryError()  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        workshop.train([good, workshop.annotated(8)])


def test_a_picture_is_inverted_once_whatever_becomes_of_its_annotation(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inverted: list[int] = []

    def spy(*args: Any) -> Any:
        inverted.append(len(args[2]))
        return invert_all(*args)

    monkeypatch.setattr(gathering, "invert_all", spy)
    first = workshop.train([workshop.annotated(5)])
    assert inverted == [1]
    edited = workshop.train([workshop.annotated(5, band=4)])
    assert inverted == [1]
    before, after = (workshop.registry.segmenter(v.version).data for v in (first, edited))
    assert torch.equal(before.w, after.w) and before.sources[0].factor == after.sources[0].factor
    workshop.pictures[5] = 255 - workshop.pictures[5]  # type: ignore[operator]
    workshop.train([workshop.annotated(5, band=5)])
    assert inverted == [1, 1]
    for path in (workshop.models / LATENTS).rglob("*.safetensors"):
        path.write_bytes(b"cut short")
    workshop.train([workshop.annotated(5, band=6)])
    assert inverted == [1, 1, 1] and "inverted again" in caplog.text


@pytest.mark.parametrize("known", [0, 1])
def test_a_stop_ends_inversions_and_those_that_were_made_are_kept(
    workshop: Workshop, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first version's fit, and where inversions go on beside a student's."""
    corrections = [workshop.annotated(task) for task in (5, 6, 7, 8)]
    if known:
        workshop.train(corrections[:known])
    inverted: list[int] = []

    def spy(*args: Any) -> Any:
        inverted.append(len(args[2]))
        return invert_all(*args)

    def check() -> None:
        if len(inverted) > 1:
            raise Paused("It was paused.")

    monkeypatch.setattr(gathering, "invert_all", spy)
    before = len(workshop.registry.versions())
    with pytest.raises(Paused):
        workshop.training_of({}, check).run(corrections)
    assert len(inverted) == 2 and len(workshop.registry.versions()) == before
    workshop.train(corrections)
    assert len(inverted) == 5 - known  # the one that was under way is made again


def test_what_a_thread_sets_for_itself_ends_with_its_work() -> None:
    threads = torch.get_num_threads()
    with crossvalidation.same_threads():
        torch.set_num_threads(2)
    assert torch.get_num_threads() == threads
    try:
        torch.set_num_threads(2)
        with crossvalidation.same_threads(), ThreadPoolExecutor(1) as aside:
            aside.submit(torch.set_num_threads, 1).result()
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_picture_that_the_generator_cannot_re_create_teaches_the_student_alone(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = [workshop.annotated(task) for task in (5, 6)]
    workshop.train(corrections[:1])
    monkeypatch.setattr(gathering, "reconstruction_factor", lambda *_: 0.0)
    trained = workshop.train(corrections)
    known, bad = workshop.registry.segmenter(trained.version).data.sources
    assert known.factor > 0 and known.reason == ""
    assert bad.factor == 0.0 and "only the student learns from it" in bad.reason


def test_every_correction_is_used_or_left_out_with_a_reason(workshop: Workshop) -> None:
    corrections = [workshop.annotated(task) for task in (5, 6, 7, 8)]
    workshop.train(corrections[:1])
    workshop.pictures[6] = PassingError("Task 6: the picture cannot be reached.")
    workshop.pictures[7] = DganError("Task 7: the picture is broken.")
    workshop.pictures[8] = np.zeros((40, 40, 3), np.uint8)  # not what was drawn on
    trained = workshop.train(corrections)
    assert [(left.task, left.again) for left in trained.left_out] == [
        (6, True), (7, False), (8, False),
    ]  # fmt: skip
    assert "32 x 32 pixels, not 40 x 40" in trained.left_out[2].reason
    told = workshop.registry.segmenter(trained.version).card.training
    assert [left["task"] for left in told["left_out"]] == [6, 7, 8]
    again = workshop.train(corrections)
    assert (again.version, workshop.fetched) == ("", [6, 7, 8])  # still out of reach
    del workshop.pictures[6]
    workshop.annotated(6)
    later = workshop.train(corrections)
    assert 6 in [s.task for s in workshop.registry.segmenter(later.version).data.sources]
    assert workshop.train(corrections).version == ""


def test_a_version_fitted_by_hand_is_left_alone_until_there_is_a_correction(
    workshop: Workshop,
) -> None:
    workshop.train([workshop.annotated(5)])
    version = workshop.registry.segmenter("p3-project-3-v0001")
    version.card = replace(version.card, name="p3-project-3-v0002", training={})
    version.data = replace(version.data, sources=(Source(),))
    version.save(workshop.models / version.version)
    registry = workshop.registry = Registry(workshop.models)
    registry.use("p3-project-3-v0002")
    assert workshop.train([]).version == ""
    assert workshop.train([workshop.annotated(6)]).version == "p3-project-3-v0003"


def test_nothing_usable_makes_no_version(workshop: Workshop) -> None:
    correction = workshop.annotated(5)
    workshop.pictures[5] = DganError("Task 5: the picture is broken.")
    trained = workshop.train([correction])
    assert trained.version == ""
    assert "the picture is broken" in trained.said


def test_twins_never_see_their_fold(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What promotes a version has not learned from the pictures that it is judged by."""
    tasks = list(range(1, 9))
    assert {fold_of(task) for task in tasks} == {0, 1}
    corrections = [workshop.annotated(task) for task in tasks]
    workshop.train(corrections[:5])
    learned: list[set[int | None]] = []

    def spying(fit: Any) -> Any:
        def spy(first: Any, *rest: Any) -> Any:
            data = first.data if isinstance(first, Labels) else rest[0]
            learned.append({source.task for source in data.sources})
            return fit(first, *rest)

        return spy

    monkeypatch.setattr(Labels, "fit_student", spying(Labels.fit_student))
    monkeypatch.setattr(crossvalidation, "refit_student", spying(refit_student))
    workshop.training().prepare("p3-project-3-v0001")
    trained = workshop.train(corrections)
    early, late = tasks[:5], tasks
    expected = [{t for t in seen if fold_of(t) != f} for seen in (early, late) for f in (0, 1)]
    assert sorted(map(sorted, learned)) == sorted(map(sorted, expected))  # type: ignore[type-var]
    told = workshop.registry.segmenter(trained.version).card.training
    assert told["validation"]["pictures"] == 8
    assert "8 pictures that neither had learned from" in trained.said


def test_twins_are_given_up_when_there_is_something_better_to_do(workshop: Workshop) -> None:
    trained = workshop.train([workshop.annotated(task) for task in range(1, 6)])
    workshop.training().prepare(trained.version, hurry=lambda: True)
    assert not (workshop.models / "twins").exists()


def test_a_worse_candidate_is_held_back_and_the_current_version_stays(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = [workshop.annotated(task) for task in (5, 6)]
    first = workshop.train(corrections[:1])
    worse = Comparison(8, 0.5, 0.6, -0.1, -0.2, -0.05)
    monkeypatch.setattr(CrossValidation, "of", lambda *_: worse)
    second = workshop.train(corrections)
    assert not second.current
    assert "worse" in second.said
    binding = workshop.project().binding
    assert binding is not None
    assert workshop.registry.current(binding.partonomy, 3, UID) == first.version
    assert workshop.registry.versions(3)[-1].held_back == second.said
    assert workshop.train(corrections).version == ""  # tried already
    workshop.registry.use(second.version)
    assert workshop.registry.current(binding.partonomy, 3, UID) == second.version


def test_a_label_added_later_becomes_a_class_and_a_removed_one_is_ignored(
    workshop: Workshop,
) -> None:
    one, two = workshop.annotated(5), workshop.annotated(6)
    workshop.train([one, two])
    workshop.labels = ["tail", "beak"]
    trained = workshop.train([one, two])
    version = workshop.registry.segmenter(trained.version)
    assert version.partonomy.classes == ("background", "tail", "beak")
    assert trained.current


def test_a_bare_generator_is_enough_for_pictures_from_outside(workshop: Workshop) -> None:
    """Without encoder and backbone: the student learns from all, the interpreter from samples."""
    for path in (*workshop.generator.glob("encoder.*"), *workshop.generator.glob("backbone.*")):
        path.unlink()
    corrections = [workshop.annotated(task) for task in (5, 6)]
    trained = workshop.train(corrections)
    assert trained.current and "no backbone" in trained.said
    version = workshop.registry.segmenter(trained.version)
    assert [source.factor for source in version.data.sources] == [0.0, 0.0]
    assert version.card.outside == "student"
    picture = workshop.fetch({"id": 5})
    assert version.segment_image(picture).labels.shape == (32, 32)
    later = workshop.train([*corrections, workshop.annotated(7)])
    assert workshop.fetched == [7] and later.current
    workshop.training().prepare(later.version)
    assert not list((workshop.models / "twins").glob(f"{later.version}/1"))  # too few to compare


def test_a_generator_that_was_prepared_meanwhile_is_learned_on_anew(workshop: Workshop) -> None:
    corrections = [workshop.annotated(task) for task in (5, 6)]
    for path in workshop.generator.glob("backbone.*"):
        path.unlink()
    first = workshop.train(corrections)
    assert workshop.train(corrections).version == ""
    add_tiny_backbone(workshop.generator)
    second = workshop.train(corrections)
    assert "learned anew" in second.said and second.version == first.version[:-1] + "2"
    made = workshop.registry.segmenter(second.version)
    assert made.backbone.trained and [s.task for s in made.data.sources] == [5, 6]
    assert workshop.train(corrections).version == ""
    corrections.append(workshop.annotated(7))
    third = workshop.train(corrections)
    assert workshop.fetched == [7] and "anew" not in third.said
    assert workshop.train(corrections).version == ""


@pytest.mark.parametrize("case", ["gone", "base", "not named"])
def test_it_is_not_learned_anew_where_that_would_lose_something(
    workshop: Workshop, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = [workshop.annotated(5)]
    trained = workshop.train(corrections)
    other = tiny_generator_folder(workshop.models / "other", name="other")
    named = str(workshop.models / "nowhere") if case == "gone" else str(other)
    if case == "base":  # pictures that are not the project's
        monkeypatch.setattr(Registry, "sources", lambda *_: (Source(), Source(5)))
    if case == "not named":
        named = ""
    assert workshop.train(corrections, generator=named).version == ""
    assert workshop.registry.segmenter(trained.version).generator.id.startswith("tiny-")


def test_bare_pixels_are_background_or_ignored(workshop: Workshop) -> None:
    one = workshop.annotated(5)
    first = workshop.train([one], unlabeled="ignore")
    masks = workshop.registry.segmenter(first.version).data.masks
    assert set(masks.unique().tolist()) == {1, 2, 255}


def test_what_bare_pixels_mean_may_change_later(workshop: Workshop) -> None:
    one = workshop.annotated(5)
    workshop.train([one])
    assert (workshop.registry.segmenter("p3-project-3-v0001").data.masks == 0).any()
    again = workshop.train([one], unlabeled="ignore")
    assert again.version
    assert not (workshop.registry.segmenter(again.version).data.masks == 0).any()


def test_a_shipped_version_is_not_fitted_again_from_nothing(tmp_path: Path) -> None:
    project = open_project(UID, labeling_config(load_partonomy("toonhead")))
    assert project.binding is not None
    mask = np.ones((64, 64), np.uint8)
    told = {"id": 1, "result": to_regions(mask, None, project.binding), "updated_at": "x"}
    found = correction_of({"id": 1, "data": {"image": "x"}, "annotations": [told]})
    assert found is not None

    def fetch(task: Mapping[str, Any]) -> Picture:
        raise PassingError("Task 1 is out of reach.")

    registry = Registry(tmp_path)
    training = Training(registry, Twins(tmp_path), project, fetch, settings=SHORT, plan=QUICK)
    trained = training.run([found])
    assert (trained.version, trained.current) == ("", False)
    assert [left.again for left in trained.left_out] == [True]
