"""Tensors of the reference implementations (tests/data/conformance), and how near is near."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dgan_backend.generators.network import Network

DATA = Path(__file__).parent / "data" / "conformance"


def sets(pattern: str) -> list[str]:
    return sorted(path.stem for path in DATA.glob(f"{pattern}.json"))


def read_card(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text())


def read_weights(name: str) -> dict[str, Tensor]:
    return load_file(DATA / f"{name}.safetensors")


class Reference:
    """One set: the network with its weights, what it gives, and what it must give."""

    def __init__(
        self, name: str, network: Network, weights: dict[str, Tensor] | None = None
    ) -> None:
        """weights: None = the set's own."""
        self.card = read_card(name)
        self.io = {k: torch.from_numpy(v) for k, v in np.load(DATA / f"{name}.io.npz").items()}
        self.network = network.eval()
        self.network.load_tensors(read_weights(name) if weights is None else weights)
        self.c = self.io.get("c")
        with torch.inference_mode():
            self.w = self.network.mapping(self.io["z"], self.c)
            self.out = self.network.synthesis(self.w)

    def assert_mapping(self) -> None:
        assert torch.allclose(self.w[:, 0], self.io["w"], atol=2e-5, rtol=0)
        assert torch.equal(self.w[:, 0], self.w[:, -1])
        assert self.w.shape[1] == self.card["num_ws"] == self.network.config.num_ws

    def mixed(self, first: int, second: int, rows: int) -> Tensor:
        """w+ [1, num_ws, w_dim]: the first rows of one sample, the others of another."""
        parts = self.w[first, :rows], self.w[second, rows:]
        return torch.cat(parts)[None]

    def assert_strided(self, name: str, found: Tensor, parts: int) -> None:
        """found: of all samples, of which the set holds two, `parts` places along each side."""
        stride = max(1, found.shape[-1] // parts)
        assert_near(found[:2, :, ::stride, ::stride], self.io[f"sub/{name}"], name)


def assert_near(found: Tensor, wanted: Tensor, what: str, within: float | None = None) -> None:
    """The acceptance that comes with the sets: 1e-4 * max(1, absmax / 10), or `within`."""
    assert found.shape == wanted.shape, what
    bound = 1e-4 * max(1.0, float(wanted.abs().max()) / 10) if within is None else within
    assert float((found - wanted).abs().max()) <= bound, what
