"""How far each idea takes the labels: seconds, and multiply-adds, which are the floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dgan_backend.benchmark.cases import UNSEEN, Case
from dgan_backend.benchmark.measuring import median, timed
from dgan_backend.benchmark.reference import dense_weights
from dgan_backend.interpreter import PixelPrediction
from dgan_backend.interpreter.refine import EXACT, refinement_for

_ROUNDS = 3


@torch.inference_mode()
def ideas(case: Case) -> dict[str, Any]:
    """Labels of one picture, its maps given, idea upon idea: `rows` of name, seconds, and 10^9
    multiply-adds; `picture` has those of the picture alone."""
    scene = case.load()
    generator, ensemble, side = scene.generator, scene.ensemble, scene.generator.resolution
    w = scene.latent(UNSEEN)
    products, out = _counted(lambda: generator.synthesis(w))
    maps, size, fine = out.features, (side, side), refinement_for(side)
    whole = replace(ensemble, w1=dense_weights(ensemble), bases=())
    all_features = sum(f.shape[1] for f in maps)
    layers = ensemble.members * (
        ensemble.w1.shape[1] * all_features + ensemble.w2[0].numel() + ensemble.w3[0].numel()
    )
    ways: dict[str, Callable[[], PixelPrediction]] = {
        "first layers at each map's own resolution": partial(whole.predict, maps, size, EXACT),
        "and principal directions": partial(ensemble.predict, maps, size, EXACT),
        "from coarse to fine": partial(ensemble.predict, maps, size, fine),
    }
    rows = [
        {"idea": "every pixel, all features", "seconds": None, "products": layers * side**2 / 1e9}
    ]
    for name, way in ways.items():
        flops, _ = _counted(way)
        seconds = median([timed(way)[0] for _ in range(_ROUNDS)])
        rows.append({"idea": name, "seconds": seconds, "products": flops})
    return {"resolution": side, "picture": products, "rows": rows}


def _counted(run: Callable[[], Any]) -> tuple[float, Any]:
    """10^9 multiply-adds of matrix products and convolutions, and what `run` returned."""
    with FlopCounterMode(display=False) as counter:
        value = run()
    return counter.get_total_flops() / 2e9, value
