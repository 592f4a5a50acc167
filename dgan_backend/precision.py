"""The numbers that labels of samples are computed in, by PRECISION and what the device has.

Float32 whatever is chosen: mapping, styles, norms, what adds up to a picture, the interpreter's
last layer, softmax and entropy. Fits and pictures from outside do not ask for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from dgan_backend.processor import multiplies_bfloat16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Numbers:
    """maps: what the generator convolves. products: what the interpreter multiplies."""

    maps: torch.dtype = torch.float32
    products: torch.dtype = torch.float32

    def __str__(self) -> str:
        maps, products = (str(one).removeprefix("torch.") for one in (self.maps, self.products))
        return maps if maps == products else f"maps {maps}, products {products}"


FLOAT32 = Numbers()


def numbers_for(precision: str, device: str) -> Numbers:
    """float32; half, of everything, where the device has it, else it is said that it is float32;
    auto, the fastest whose labels were shown to be those of float32 (99.8 % of pixels, an IoU of
    .98 of every class): of all that was measured, float32 itself (docs/notes/speed.md).
    """
    if precision != "half":
        return FLOAT32
    found = half_type(device)
    if found is None:
        _log.warning("PRECISION=half: %s, so labels are computed in float32.", _lack(device))
        return FLOAT32
    return Numbers(found, found)


def half_type(device: str) -> torch.dtype | None:
    """The type of 16 bits that the device multiplies fast, with the range of float32; or None."""
    fast = _cuda_has_it(device) if device.startswith("cuda") else multiplies_bfloat16()
    return torch.bfloat16 if fast else None


def _cuda_has_it(device: str) -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)


def _lack(device: str) -> str:
    if device.startswith("cuda"):
        return f"{device} has no bfloat16 (compute capability 8.0 or more)"
    return "this processor has neither avx512_bf16 nor amx_bf16"
