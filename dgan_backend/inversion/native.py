"""The encoder's native form: `encoder.safetensors` and `encoder.json` in a generator's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dgan_backend.errors import DganError
from dgan_backend.generators.native import (
    read_card,
    read_tensors,
    trained_for,
    write_json,
    write_tensors,
)
from dgan_backend.generators.references import generator_folder
from dgan_backend.inversion.encoder import Encoder, EncoderConfig

CARD, WEIGHTS = "encoder.json", "encoder.safetensors"


@dataclass(frozen=True)
class InDomainErrors:
    """Inversion errors of held-back in-domain pictures: their median and 99.9th percentile."""

    median: float
    limit: float


def save_encoder(
    folder: Path,
    encoder: Encoder,
    errors: InDomainErrors | None = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Write an encoder beside its generator, weights in float16. training: what its card tells of
    how it came about."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, encoder.state_dict())
    card = {
        "architecture": encoder.config.to_json(),
        "in_domain_errors": asdict(errors) if errors else None,
        "training": training or {},
    }
    write_json(folder / CARD, card)


def load_encoder(
    generator: str | Path, device: str = "cpu"
) -> tuple[Encoder, InDomainErrors | None]:
    """Load the encoder of a shipped generator or native folder; raises DganError without one, and
    where it was trained for other weights than the generator has."""
    folder = generator_folder(generator)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        encoder = Encoder(EncoderConfig.from_json(card["architecture"]))
        measured = card.get("in_domain_errors")
        errors = InDomainErrors(**measured) if measured else None
        told = str(card.get("training", {}).get("generator", ""))
    except FileNotFoundError:
        raise DganError(
            f"{folder} has no {CARD}: this generator has no encoder, so pictures from outside "
            "cannot be inverted; give it one with "
            f"`dgan-backend generator encoder train {folder}`."
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DganError(f"{folder / CARD} is no encoder card ({error}).") from error
    if not trained_for(folder, told):
        raise DganError(
            f"{folder / CARD} was trained for the generator {told}, and beside it is "
            f"{read_card(folder).id}; `dgan-backend generator prepare {folder}` trains it anew."
        )
    try:
        encoder.load_state_dict({k: v.float() for k, v in read_tensors(folder / WEIGHTS).items()})
    except RuntimeError as error:
        raise DganError(f"{folder / WEIGHTS} does not fit {CARD} ({error}).") from error
    return encoder.eval().requires_grad_(False).to(device), errors


def has_encoder(generator: str | Path) -> bool:
    return (generator_folder(generator) / CARD).is_file()
