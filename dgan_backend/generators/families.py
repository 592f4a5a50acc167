"""The families of generators that are known, by the name that a card has for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.generators.network import Architecture, Network
from dgan_backend.generators.stylegan1 import StyleGAN1, StyleGAN1Config
from dgan_backend.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from dgan_backend.generators.stylegan3 import StyleGAN3, StyleGAN3Config


@dataclass(frozen=True)
class Family:
    """config: its numbers. network: makes a network of them, with random weights."""

    config: type[Architecture]
    network: Callable[[Any], Network]


FAMILIES = {
    "stylegan1": Family(StyleGAN1Config, StyleGAN1),
    "stylegan2": Family(StyleGAN2Config, StyleGAN2),
    "stylegan3": Family(StyleGAN3Config, StyleGAN3),
}


def family(name: str) -> Family:
    """Raises DganError that lists the names when there is no such family."""
    if name not in FAMILIES:
        raise DganError(f"family {name!r} is none of {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def family_name(config: Architecture) -> str:
    """The name of the family that these numbers are of."""
    return next(name for name, one in FAMILIES.items() if one.config is type(config))


def build(config: Architecture) -> Network:
    """A network of these numbers, with random weights."""
    return family(family_name(config)).network(config)
