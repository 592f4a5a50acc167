"""Corrections -> labeled pictures that can be learned from; each is fetched and inverted once.

Pictures and masks come first, latents after them: a student learns from the former alone, so it
need not wait for inversions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dgan_backend.errors import DganError, PassingError
from dgan_backend.fitting import NOT_INVERTED, Steps, label_side, on_grid
from dgan_backend.generators import Generator
from dgan_backend.interpreter.uncertainty import reconstruction_factor
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.framing import Frame
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.latents import Latent, Latents, inverter_id, latent_key
from dgan_backend.inversion.native import InDomainErrors
from dgan_backend.labelstudio.binding import Binding
from dgan_backend.labelstudio.corrections import Correction
from dgan_backend.merging import IGNORE
from dgan_backend.pictures import Picture
from dgan_backend.reading import invert_all
from dgan_backend.records import SeedLatent
from dgan_backend.versions import Source, TrainingSet

log = logging.getLogger(__name__)

Fetch = Callable[[Mapping[str, Any]], Picture]
_POORLY = 0.5  # factors below are told
_NOT_OF_ONE = (MemoryError, torch.cuda.OutOfMemoryError)  # the machine's fault, not a correction's


@dataclass(frozen=True)
class LeftOut:
    """A correction that nothing is learned from, and why. again: it may be used next time."""

    task: int
    key: str
    reason: str
    again: bool = False


@dataclass(frozen=True)
class Gathered:
    """data: of the corrections that are learned from, None without any; latents of new ones are 0
    until `Gatherer.inverted` has filled them in. new: the tasks that were not known before."""

    data: TrainingSet | None
    new: tuple[int, ...]
    left_out: tuple[LeftOut, ...]


class Gatherer:
    """Makes training pictures of one generator's domain.

    fetch: a task -> its picture [H, W, 3] uint8; raises DganError. known: the training set of an
    earlier version, whose pictures and latents are taken over where annotations are the same.
    latents: of pictures that were inverted before. check: called before a picture is inverted and
    before its latent is kept; raises when this process has to stop.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: tuple[Encoder, InDomainErrors | None] | None,
        inversion: InversionSettings,
        binding: Binding,
        fetch: Fetch,
        *,
        known: TrainingSet | None = None,
        latents: Latents | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._generator, self._encoder, self._inversion = generator, encoder, inversion
        self._binding, self._fetch = binding, fetch
        self._known, self._latents, self._check = known, latents, check
        self._pending: dict[int, Picture] = {}  # of each task, as it is inverted
        self._side = known.side if known else label_side(generator.resolution)
        self._mask_side = known.masks.shape[-1] if known else self._side

    def gather(self, corrections: Sequence[Correction]) -> Gathered:
        """In the order of the corrections."""
        rows: list[TrainingSet] = []
        new: list[int] = []
        left_out: list[LeftOut] = []
        for correction in corrections:
            row = self._taken_over(correction)
            try:
                if row is None:
                    row = self._made(correction)
                    new.append(correction.task)
            except PassingError as error:
                left_out.append(LeftOut(correction.task, correction.key, str(error), again=True))
                continue
            except DganError as error:
                left_out.append(LeftOut(correction.task, correction.key, str(error)))
                continue
            except _NOT_OF_ONE:
                raise
            except Exception:  # one correction must not keep all others from being learned from
                log.exception("The correction of task %d cannot be used", correction.task)
                left_out.append(LeftOut(correction.task, correction.key, _broke(correction)))
                continue
            rows.append(row)
        return Gathered(joined(rows) if rows else None, tuple(new), tuple(left_out))

    def _taken_over(self, correction: Correction) -> TrainingSet | None:
        if self._known is None:
            return None
        for n, source in enumerate(self._known.sources):
            if source.task == correction.task and source.key == correction.key:
                has_one_now = source.reason == NOT_INVERTED.reason and self._encoder is not None
                return None if has_one_now else self._known.pick([n])
        return None

    def _made(self, correction: Correction) -> TrainingSet:
        picture = self._fetch({"id": correction.task, "data": correction.data})
        frame = Frame(*picture.shape[:2])
        mask = correction.mask(self._binding, frame.height, frame.width)
        if (mask == IGNORE).all():
            raise DganError(f"Task {correction.task} has no labeled pixel; label a part of it.")
        small = frame.picture(picture, self._generator.resolution)
        w = self._sampled(correction)
        if w is None:
            self._pending[correction.task] = small
            w = torch.zeros(1, self._generator.num_ws, self._generator.w_dim)
        return TrainingSet(
            w,
            torch.from_numpy(self._framed(frame, mask))[None],
            on_grid([frame.picture(picture, self._side)]),
            (Source(correction.task, correction.key),),
        )

    def inverted(self, data: TrainingSet, progress: Steps = iter) -> TrainingSet:
        """With the latents of the pictures that this gatherer has made; one that the generator
        re-creates poorly, or not at all, gets a smaller factor and the reason. progress: given the
        rows to invert, wraps them."""
        w, sources = data.w.clone(), list(data.sources)
        for n in progress([n for n, s in enumerate(sources) if s.task in self._pending]):
            self._check()
            task = sources[n].task
            assert task is not None  # or it were not pending
            w[n], factor, reason = self._latent(self._pending[task])
            sources[n] = replace(sources[n], factor=factor, reason=reason)
        return replace(data, w=w, sources=tuple(sources))

    def _framed(self, frame: Frame, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return np.array(frame.mask(mask, self._mask_side, IGNORE))

    def _sampled(self, correction: Correction) -> Tensor | None:
        """w [1, num_ws, w_dim] of a picture that the generator itself sampled."""
        sampled = sampled_latent(correction.data, self._generator.id)
        if sampled is None:
            return None
        z = self._generator.latent_from_seed(sampled.seed)
        with torch.inference_mode():
            return self._generator.mapping(z, truncation=sampled.truncation).cpu()

    def _latent(self, small: Picture) -> tuple[Tensor, float, str]:
        """w [num_ws, w_dim], how well it re-creates the picture, and what follows from that."""
        if self._encoder is None:
            empty = torch.zeros(self._generator.num_ws, self._generator.w_dim)
            return empty, NOT_INVERTED.factor, NOT_INVERTED.reason
        encoder, errors = self._encoder
        found = self._inverted_once(encoder, small)
        if errors is None:
            return found.w[0], 1.0, ""
        factor = reconstruction_factor(found.error, errors.median, errors.limit)
        how = f"(error {found.error:.3f}, limit {errors.limit:.3f})"
        reason = ""
        if factor <= 0:
            reason = f"The generator cannot re-create it {how}: only the student learns from it."
        elif factor < _POORLY:
            reason = (
                f"The generator re-creates it poorly {how}: the interpreter learns from it "
                f"{factor:.2f} times as much as from others."
            )
        return found.w[0], factor, reason

    def _inverted_once(self, encoder: Encoder, small: Picture) -> Latent:
        if self._latents is None:
            return self._inverted(encoder, small)
        key = latent_key(self._inverter, small)
        latent = self._latents.find(key)
        if latent is None:
            latent = self._inverted(encoder, small)
            self._check()
            self._latents.keep(key, latent)
        return latent

    def _inverted(self, encoder: Encoder, small: Picture) -> Latent:
        made = invert_all(self._generator, encoder, [small], self._inversion)
        return Latent(made.w.cpu(), float(made.errors[0]))

    @cached_property
    def _inverter(self) -> str:
        assert self._encoder is not None  # nothing is inverted otherwise
        return inverter_id(self._generator, self._encoder[0], self._inversion)


def joined(parts: Sequence[TrainingSet]) -> TrainingSet:
    """One after the other; masks of different sizes are brought to the largest."""
    side = max(part.masks.shape[-1] for part in parts)
    return TrainingSet(
        torch.cat([part.w for part in parts]),
        torch.cat([_resized(part.masks, side) for part in parts]),
        torch.cat([part.pictures for part in parts]),
        tuple(source for part in parts for source in part.sources),
    )


def _resized(masks: Tensor, side: int) -> Tensor:
    if masks.shape[-1] == side:
        return masks
    images = (Image.fromarray(m.numpy()) for m in masks)
    return torch.from_numpy(
        np.stack([np.asarray(i.resize((side, side), Image.Resampling.NEAREST)) for i in images])
    )


def _broke(correction: Correction) -> str:
    return (
        f"The backend failed on the correction of task {correction.task}; the worker's log says "
        "where. Draw its regions again, or delete its annotation."
    )


def sampled_latent(data: Mapping[str, Any], generator: str) -> SeedLatent | None:
    """The latent of a picture that this generator sampled; None for all others."""
    value = data.get("latent")
    if not isinstance(value, Mapping) or value.get("generator") != generator:
        return None
    try:
        return SeedLatent.from_json(value)
    except DganError:
        return None
