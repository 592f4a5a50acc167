"""Latents as tasks carry them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgan_backend.errors import DganError
from dgan_backend.records import SeedLatent


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
