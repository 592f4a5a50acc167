"""The model class under label-studio-ml 1.0.9 and under a stand-in of 2.x; and its predictions."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import dgan_backend.model
from dgan_backend.labelstudio.binding import bind
from dgan_backend.labelstudio.config import labeling_config, parse_config
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.model import DganModel
from dgan_backend.predictor import Predictor
from dgan_backend.registry import Registry
from dgan_backend.segmenter import Segmenter
from dgan_backend.settings import Settings
from tests import label_studio_ml_2
from tests.builders import tiny_models
from tests.labeling import (
    CONFIG,
    OTHER_CONFIG,
    TOONHEAD,
    VERSION,
    TinyRegistry,
    data_uri,
    seed_task,
    task,
)
from tests.sites import Answer, Site, serving


@pytest.fixture
def predictor(registry: TinyRegistry) -> Predictor:
    return Predictor(Settings(), registry)


@pytest.fixture
def model(predictor: Predictor) -> DganModel:
    return DganModel("5.1795491060", CONFIG, predictor=predictor)


def label_map(entry: dict, height: int, width: int, config: str = CONFIG) -> np.ndarray:
    return to_label_map(entry["result"], bind(parse_config(config), 1), height, width)


def test_a_sampled_picture_is_segmented_exactly(model: DganModel, segmenter: Segmenter) -> None:
    entry = model.predict([seed_task(1, segmenter, seed=7)])[0]
    expected = segmenter.segment_seed(7)
    np.testing.assert_array_equal(label_map(entry, 16, 16), expected.labels)
    assert entry["score"] == pytest.approx(expected.score, abs=1e-4)
    assert entry["model_version"] == VERSION
    assert "reason" not in entry


def test_the_latents_own_truncation_counts(model: DganModel, segmenter: Segmenter) -> None:
    sampled = seed_task(1, segmenter, seed=7)
    sampled["data"]["latent"]["truncation"] = 0.1
    expected = segmenter.segment_seed(7, truncation=0.1).labels
    assert (expected != segmenter.segment_seed(7).labels).any()
    np.testing.assert_array_equal(label_map(model.predict([sampled])[0], 16, 16), expected)


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon"])
def test_other_pictures_are_inverted_at_their_own_size(
    predictor: Predictor, segmenter: Segmenter, kind: str
) -> None:
    config = labeling_config(TOONHEAD, kind)
    entry = DganModel("5", config, predictor=predictor).predict([task(1, data_uri(20, 30))])[0]
    assert entry["result"] and "reason" not in entry
    assert 0.0 <= entry["score"] <= 1.0
    for region in entry["result"]:
        assert region["type"] == f"{kind}labels"
        assert (region["original_height"], region["original_width"]) == (20, 30)
        assert 0.0 <= region["score"] <= 1.0


def test_region_scores_are_normalised_by_the_most_members_can_disagree(
    model: DganModel, segmenter: Segmenter
) -> None:
    entry = model.predict([seed_task(1, segmenter, seed=7)])[0]
    found = segmenter.segment_seed(7)
    region = entry["result"][0]
    own = found.labels == TOONHEAD.classes.index(region["value"]["brushlabels"][0])
    expected = 1 - found.uncertainty[own].mean() / found.bound
    assert region["score"] == pytest.approx(expected, abs=1e-4)


def test_pictures_with_a_foreign_latent_are_inverted(
    model: DganModel, segmenter: Segmenter, caplog: pytest.LogCaptureFixture
) -> None:
    latents = [
        {"generator": "another-00000000", "seed": 7, "truncation": 0.7},
        "a column of somebody else",
        {"generator": segmenter.generator.id, "seed": "seven"},
    ]
    tasks = [task(n, data_uri(20, 30), latent=latent) for n, latent in enumerate(latents)]
    for entry in model.predict(tasks):
        assert entry["result"][0]["original_width"] == 30
    assert "Task 2: latent.seed must be a whole number" in caplog.text


def test_each_task_gets_its_entry_in_order_also_when_some_fail(
    model: DganModel, segmenter: Segmenter, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [
        task(1, "data:image/png;base64,AAAA"),
        seed_task(2, segmenter, seed=1),
        {"id": 3, "data": {}},
        seed_task(4, segmenter, seed=2),
        task(5, "http://127.0.0.1:1/a.png"),
        "no task",
    ]
    entries = model.predict(tasks)
    assert [bool(entry["result"]) for entry in entries] == [False, True, False, True, False, False]
    assert {entry["model_version"] for entry in entries} == {VERSION}
    failed = [entry for entry in entries if not entry["result"]]
    assert all(entry["score"] == 0.0 for entry in failed)
    reasons = [entry["reason"] for entry in failed]
    assert "Task 1: the picture data:image/png" in reasons[0]
    assert "Task 3 has no picture" in reasons[1]
    assert "ALLOWED_IMAGE_HOSTS" in reasons[2]
    assert all(reason in caplog.text for reason in reasons)
    kept = model._predictor.failures()
    assert [(failure["project"], failure["task"]) for failure in kept] == [
        (5, 1), (5, 3), (5, 5), (5, None)
    ]  # fmt: skip
    assert [failure["reason"] for failure in kept] == reasons


def test_a_bug_costs_one_task(
    model: DganModel, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Segmenter.segment_seed

    def segment_seed(self: Segmenter, seed: int, truncation: float | None = None) -> object:
        if seed == 2:
            raise ZeroDivisionError
        return real(self, seed, truncation)

    monkeypatch.setattr(Segmenter, "segment_seed", segment_seed)
    entries = model.predict([seed_task(n, segmenter, seed=n) for n in (1, 2, 3)])
    assert [bool(entry["result"]) for entry in entries] == [True, False, True]
    assert entries[1]["reason"] == "Task 2: the backend failed on it; its log says where."


@pytest.mark.parametrize(
    ("config", "extra_params", "version", "reason"),
    [
        (OTHER_CONFIG, None, "project-5-untrained", "are not trained yet"),
        (CONFIG, {"partonomy": "own"}, "project-5-untrained", "not trained yet"),
        (OTHER_CONFIG, {"partonomy": "toonhead"}, "project-5-unusable", "do not fit"),
        ("<View/>", None, "project-5-unusable", "has no BrushLabels"),
        (None, None, "project-5-unusable", "no labeling config"),
    ],
)
def test_projects_without_a_version_get_empty_predictions_with_a_reason(
    predictor: Predictor, config: str | None, extra_params: object, version: str, reason: str
) -> None:
    model = DganModel("5.1", config, predictor=predictor, extra_params=extra_params)
    entry = model.predict([task(1, data_uri(2, 2))])[0]
    assert model.model_version == entry["model_version"] == version
    assert (entry["result"], entry["score"]) == ([], 0.0)
    assert reason in entry["reason"] and "Task 1" in entry["reason"]


# Whose pictures, with which token


@pytest.fixture
def studio() -> Iterator[Site]:
    with serving(lambda seen: Answer(status=404)) as site:
        yield site


def asked_with(studio: Site, settings: Settings, registry: TinyRegistry, **access: str) -> list:
    """Authorization headers with which Label Studio is asked for an upload."""
    model = DganModel("5", CONFIG, predictor=Predictor(settings, registry), **access)
    model.predict([task(1, "/data/upload/1/a.png")])
    return [seen.headers.get("authorization") for seen in studio.seen]


def test_setups_address_and_token_are_enough(studio: Site, registry: TinyRegistry) -> None:
    access = {"hostname": studio.url, "access_token": "theirs"}
    assert asked_with(studio, Settings(), registry, **access) == ["Token theirs"]


def test_the_settings_come_before_setup(studio: Site, registry: TinyRegistry) -> None:
    settings = Settings(label_studio_url=studio.url, label_studio_api_key="ours")
    access = {"hostname": "http://127.0.0.1:1", "access_token": "theirs"}
    assert asked_with(studio, settings, registry, **access) == ["Token ours"]


def test_without_a_key_setups_token_goes_to_the_url_of_the_settings(
    studio: Site, registry: TinyRegistry
) -> None:
    settings = Settings(label_studio_url=studio.url)
    access = {"hostname": "http://127.0.0.1:1", "access_token": "theirs"}
    assert asked_with(studio, settings, registry, **access) == ["Token theirs"]


def test_the_key_never_goes_to_a_host_that_setup_named(
    studio: Site, registry: TinyRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(label_studio_api_key="ours")
    access = {"hostname": studio.url, "access_token": "theirs"}
    assert asked_with(studio, settings, registry, **access) == ["Token theirs"]
    assert "LABEL_STUDIO_URL is not set" in caplog.text
    assert "ours" not in caplog.text and "theirs" not in caplog.text


# Base classes


def test_label_studio_ml_1_makes_and_asks_it(
    predictor: Predictor, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its LabelStudioMLManager does."""
    monkeypatch.setattr(dgan_backend.model, "shared_predictor", lambda: predictor)
    model = DganModel(
        label_config=CONFIG, train_output={"a": 1}, hostname="http://127.0.0.1:1", access_token="t"
    )
    assert isinstance(model, dgan_backend.model.LabelStudioMLBase)
    assert model.train_output == {"a": 1} and model.hostname == "http://127.0.0.1:1"
    assert set(model.parsed_label_config) == {"parts"}
    entries = model.predict([seed_task(1, segmenter, seed=7)], login=None, password=None)
    assert entries[0]["model_version"] == model.model_version == VERSION
    assert model.process_event("ANNOTATION_CREATED", {}, "job", {"workdir": "."}) == {}


def test_the_server_of_label_studio_ml_1_runs_it(
    predictor: Predictor, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from label_studio_ml.model import LabelStudioMLManager

    monkeypatch.setattr(dgan_backend.model, "shared_predictor", lambda: predictor)
    manager = LabelStudioMLManager()
    manager.initialize(DganModel, model_dir=str(tmp_path))
    model = manager.fetch("5.17", CONFIG, False, hostname="http://127.0.0.1:1", access_token="t")
    assert model.model.model_version == VERSION
    tasks = [seed_task(n, segmenter, seed=n) for n in (1, 2)]
    predictions, _ = manager.predict(tasks, "5.17", CONFIG, False, True, context=None)
    assert [entry["model_version"] for entry in predictions] == [VERSION, VERSION]


@pytest.fixture
def model_2(monkeypatch: pytest.MonkeyPatch, predictor: Predictor) -> ModuleType:
    """dgan_backend.model, imported once more on top of the 2.x base class."""
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", label_studio_ml_2)
    monkeypatch.setattr(label_studio_ml_2, "CACHE", {})
    spec = importlib.util.spec_from_file_location("model_2", dgan_backend.model.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.shared_predictor = lambda: predictor  # type: ignore[attr-defined]
    return module


def test_label_studio_ml_2_makes_and_asks_it(model_2: ModuleType, segmenter: Segmenter) -> None:
    assert issubclass(model_2.DganModel, label_studio_ml_2.LabelStudioMLBase)
    about = {"project": "5.17", "schema": CONFIG, "label_config": CONFIG, "params": {}}
    assert label_studio_ml_2.setup(model_2.DganModel, about) == {"model_version": VERSION}
    tasks = [seed_task(1, segmenter, seed=7), {"id": 2}]
    results = label_studio_ml_2.predict(model_2.DganModel, {**about, "tasks": tasks})["results"]
    assert [bool(entry["result"]) for entry in results] == [True, False]
    assert {entry["model_version"] for entry in results} == {VERSION}
    model = model_2.DganModel(project_id="5", label_config=CONFIG)
    assert model.fit("START_TRAINING", {"project": {}}, job_id="1") == {}


def test_label_studio_ml_2_keeps_the_extra_params(model_2: ModuleType) -> None:
    about = {"project": "5.17", "schema": CONFIG, "label_config": CONFIG, "params": {}}
    about["extra_params"] = {"partonomy": "own"}
    untrained = {"model_version": "project-5-untrained"}
    assert label_studio_ml_2.setup(model_2.DganModel, about) == untrained
    results = label_studio_ml_2.predict(model_2.DganModel, {**about, "tasks": [{"id": 2}]})
    assert results["results"][0]["model_version"] == "project-5-untrained"


def test_label_studio_ml_2_survives_a_config_that_cannot_be_used(model_2: ModuleType) -> None:
    about = {"project": "5.17", "schema": "<!DOCTYPE x><View/>"}
    assert label_studio_ml_2.setup(model_2.DganModel, about) == {
        "model_version": "project-5-unusable"
    }


def test_a_damaged_version_answers_nothing_the_one_before_does(tmp_path: Path) -> None:
    first, second = "p5-toonhead-v0001", "p5-toonhead-v0002"
    made = Segmenter.load(tiny_models(tmp_path, first) / first)
    made.card = replace(made.card, name=second)
    made.save(tmp_path / second)
    model = DganModel("5", CONFIG, predictor=Predictor(Settings(), Registry(tmp_path)))
    assert model.model_version == second
    (tmp_path / second / "interpreter.safetensors").write_bytes(b"damaged")
    entry = model.predict([seed_task(1, made, seed=7)])[0]
    assert entry["model_version"] == first and entry["result"]
