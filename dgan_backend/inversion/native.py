"""The encoder's native form: `encoder.safetensors` and `encoder.json` in a generator's folder."""

from __future__ import annotations

import json
from pathlib import Path

from dgan_backend.errors import DganError
from dgan_backend.generators.native import generator_folder, read_tensors, write_json, write_tensors
from dgan_backend.inversion.encoder import Encoder, EncoderConfig

CARD, WEIGHTS = "encoder.json", "encoder.safetensors"


def save_encoder(folder: Path, encoder: Encoder) -> None:
    """Write an encoder beside its generator, weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, encoder.state_dict())
    write_json(folder / CARD, encoder.config.to_json())


def load_encoder(generator: str | Path, device: str = "cpu") -> Encoder:
    """Load the encoder of a shipped generator or native folder; raises DganError without one."""
    folder = generator_folder(generator)
    try:
        config = EncoderConfig.from_json(json.loads((folder / CARD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DganError(
            f"{folder} has no {CARD}: this generator has no encoder, so pictures from outside "
            "cannot be inverted; train one with its generator (dgan-backend generator train)."
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DganError(f"{folder / CARD} is no encoder card ({error}).") from error
    encoder = Encoder(config)
    try:
        encoder.load_state_dict({k: v.float() for k, v in read_tensors(folder / WEIGHTS).items()})
    except RuntimeError as error:
        raise DganError(f"{folder / WEIGHTS} does not fit {CARD} ({error}).") from error
    return encoder.eval().requires_grad_(False).to(device)
