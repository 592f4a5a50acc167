"""Latents as tasks carry them, and whose a prediction is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.records import SeedLatent, is_own_version


@given(st.text(min_size=1), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_latent_survives_json(generator: str, seed: int, truncation: float) -> None:
    latent = SeedLatent(generator, seed, truncation)
    assert SeedLatent.from_json(json.loads(json.dumps(latent.to_json()))) == latent


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("x", "latent must be"),
        ({"seed": 1}, "generator"),
        ({"generator": "g", "seed": -1}, "seed"),
        ({"generator": "g", "seed": True}, "seed"),
        ({"generator": "g", "seed": 2**32}, "seed"),
        ({"generator": "g", "seed": 1, "truncation": "half"}, "truncation"),
        ({"generator": "g", "seed": 1, "truncation": float("nan")}, "truncation"),
        ({"generator": "g", "seed": 1, "truncation": 1e308}, "truncation"),
    ],
)
def test_what_is_no_latent_names_the_key(value: object, key: str) -> None:
    with pytest.raises(DganError, match=key):
        SeedLatent.from_json(value)


@pytest.mark.parametrize(
    "text",
    [
        "p7-toonhead-v0003",
        "p7-project-7-v12345",
        "toonhead-shipped",
        "car-32-untrained",
        "project-7-untrained",
        "project-7-unusable",
        "pending",
    ],
)
def test_a_prediction_is_ours_by_the_version_in_it(text: str) -> None:
    assert is_own_version(text, 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p8-toonhead-v0003",
        "p7-toonhead-v3",
        "p77-toonhead-v0003",
        "yolo-shipped",
        "sam2-untrained",
        "toonhead-shipped-2",
        "toonhead-unusable",
        "project-8-untrained",
        "project-7-shipped",
        "toonhead",
    ],
)
def test_predictions_of_other_models_and_projects_are_not_ours(text: str) -> None:
    assert not is_own_version(text, 7)
