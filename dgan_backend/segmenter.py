"""Generator, inversion and interpreter together: picture or seed -> segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.generators import Generator, load_generator
from dgan_backend.generators.native import generator_folder, shipped_generators
from dgan_backend.interpreter import Ensemble, FitSettings, fit_ensemble
from dgan_backend.interpreter.sampling import IGNORE
from dgan_backend.interpreter.uncertainty import image_uncertainty, reconstruction_factor, score
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.framing import Frame
from dgan_backend.inversion.invert import Inversion, InversionSettings, invert
from dgan_backend.inversion.native import InDomainErrors, has_encoder, load_encoder
from dgan_backend.partonomy import Partonomy, load_partonomy
from dgan_backend.pictures import Picture, to_pictures, to_tensor
from dgan_backend.records import SeedLatent, Segmentation
from dgan_backend.versions import (
    TrainingSet,
    VersionCard,
    read_version,
    shipped_versions,
    write_version,
)

__all__ = ["Segmenter", "shipped_versions"]

_LABEL_RESOLUTION = 128  # at least; parts of few pixels vanish on a coarser grid
_MASK_SIDES = 4  # masks are learned from at up to so many times the label resolution
_BATCH = 8


class Segmenter:
    """One version at work. Made by `load` or `fit`."""

    def __init__(
        self,
        card: VersionCard,
        generator: Generator,
        encoder: tuple[Encoder, InDomainErrors | None] | None,
        ensemble: Ensemble,
        data: TrainingSet,
    ) -> None:
        self.card = card
        self.generator = generator
        self.ensemble = ensemble
        self.inversion = InversionSettings(**card.inversion)
        self._encoder = encoder
        self._data = data
        wanted = sum(generator.synthesis.feature_channels)
        if ensemble.num_features != wanted:
            raise DganError(
                f"version {card.name} reads {ensemble.num_features} features, but generator "
                f"{generator.id} has {wanted}; fit it again on this generator."
            )

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu") -> Segmenter:
        """Load a version folder, or a shipped version by its name or its partonomy's.

        Raises DganError that names what is missing or does not fit together.
        """
        folder = _version_folder(name)
        card, ensemble, data = read_version(folder, device)
        generator = load_generator(card.generator, device)
        if generator.id != card.generator_id:
            raise DganError(
                f"version {card.name} was fitted on generator {card.generator_id}, but "
                f"{card.generator!r} is now {generator.id}; fit it again."
            )
        return cls(card, generator, _encoder_of(card.generator, device), ensemble, data)

    @classmethod
    def fit(
        cls,
        generator: str | Path,
        images: Sequence[Picture] | Picture,
        masks: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
        partonomy: str | Path | Partonomy,
        *,
        version: str = "",
        settings: FitSettings | None = None,
        inversion: InversionSettings | None = None,
        device: str = "cpu",
        progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> Segmenter:
        """Fit an interpreter on labeled pictures, which are inverted first.

        images: N pictures [H, W, 3] uint8 RGB; masks: N masks [H, W] uint8 of the same sizes,
        class indices of the partonomy, 255 = ignore. One picture is enough to start.
        Raises DganError that names the picture or mask at fault, and when nothing is labeled.
        """
        tree = partonomy if isinstance(partonomy, Partonomy) else load_partonomy(partonomy)
        frames = _check_pairs(images, masks, tree)
        network = load_generator(generator, device)
        encoder, errors = load_encoder(generator, device)
        squares = [f.picture(i, network.resolution) for f, i in zip(frames, images, strict=True)]
        found = _invert_all(network, encoder, squares, inversion)
        most = _MASK_SIDES * max(network.resolution, _LABEL_RESOLUTION)
        side = min(max(frame.side for frame in frames), most)
        square_masks = np.stack(
            [f.mask(m, side, IGNORE) for f, m in zip(frames, masks, strict=True)]
        )
        ensemble = fit_ensemble(
            lambda n: _features(network, found.w[n : n + 1]),
            square_masks,
            tree.num_classes,
            settings,
            progress,
        )
        card = VersionCard(
            name=version or f"{tree.name}-fitted",
            partonomy=tree,
            generator=_reference(generator),
            generator_id=network.id,
            label_resolution=max(network.resolution, _LABEL_RESOLUTION),
            inversion=asdict(inversion or InversionSettings()),
            training={"pictures": len(frames), "mean_error": float(found.errors.mean())},
        )
        data = TrainingSet(found.w.cpu(), torch.from_numpy(square_masks))
        return cls(card, network, (encoder, errors), ensemble, data)

    def save(self, folder: Path) -> None:
        """Write this version whole; raises DganError when the folder exists."""
        write_version(folder, self.card, self.ensemble, self._data)

    @property
    def version(self) -> str:
        return self.card.name

    @property
    def partonomy(self) -> Partonomy:
        return self.card.partonomy

    @property
    def truncation(self) -> float:
        """The psi that samples are drawn with, from the generator's card."""
        return self.generator.card.truncation

    def latent(self, seed: int) -> SeedLatent:
        """The latent of a sampled picture as tasks carry it."""
        return SeedLatent(self.generator.id, seed, self.truncation)

    @torch.inference_mode()
    def segment_seed(self, seed: int, truncation: float | None = None) -> Segmentation:
        """Sample a picture and segment it, at the generator's resolution.

        seed: in [0, 2^32). truncation: None = the card's, on all rows.
        """
        psi = self.truncation if truncation is None else truncation
        w = self.generator.mapping(self.generator.latent_from_seed(seed), truncation=psi)
        out = self.generator.synthesis(w)
        size = (self.generator.resolution, self.generator.resolution)
        predicted = self.ensemble.predict(out.features, size)
        uncertainty = predicted.uncertainty.float().cpu().numpy()
        return Segmentation(
            image=to_pictures(out.images)[0],
            labels=predicted.vote.to(torch.uint8).cpu().numpy(),
            uncertainty=uncertainty,
            score=self._score(uncertainty, r=1.0),
        )

    def segment_image(self, image: Picture) -> Segmentation:
        """Invert and segment a picture [H, W, 3] uint8 of any size; labels at that size.

        Raises DganError when the generator has no encoder.
        """
        return self.segment_images([image])[0]

    def segment_images(self, images: Sequence[Picture]) -> list[Segmentation]:
        """As `segment_image`, inverting in batches."""
        if self._encoder is None:
            raise DganError(
                f"generator {self.generator.id} has no encoder, so pictures from outside cannot "
                "be inverted; train one with its generator (dgan-backend generator train)."
            )
        for index, image in enumerate(images):
            _check_picture(image, f"picture {index}")
        frames = [Frame(*image.shape[:2]) for image in images]
        resolution = self.generator.resolution
        squares = [f.picture(i, resolution) for f, i in zip(frames, images, strict=True)]
        found = _invert_all(self.generator, self._encoder[0], squares, self.inversion)
        errors = self._encoder[1]
        parts = []
        for n, (frame, image) in enumerate(zip(frames, images, strict=True)):
            r = 1.0
            if errors is not None:
                r = reconstruction_factor(float(found.errors[n]), errors.median, errors.limit)
            parts.append(self._segment_latent(found.w[n : n + 1], frame, image, r))
        return parts

    @torch.inference_mode()
    def _segment_latent(self, w: Tensor, frame: Frame, image: Picture, r: float) -> Segmentation:
        grid = (self.card.label_resolution, self.card.label_resolution)
        predicted = self.ensemble.predict(_features(self.generator, w), grid)
        uncertainty = frame.map(predicted.uncertainty)
        return Segmentation(
            image=image,
            labels=frame.labels(predicted.probabilities),
            uncertainty=uncertainty,
            score=self._score(uncertainty, r),
        )

    def _score(self, uncertainty: npt.NDArray[np.float32], r: float) -> float:
        members, classes = self.ensemble.members, self.ensemble.num_classes
        return score(image_uncertainty(uncertainty), members, classes, r)


def _version_folder(name: str | Path) -> Path:
    shipped = shipped_versions()
    for known in (str(name), f"{name}-shipped"):
        if known in shipped:
            return shipped[known]
    if Path(name).is_dir():
        return Path(name)
    known_names = ", ".join(shipped) or "none"
    raise DganError(
        f"There is no version {str(name)!r}: shipped are {known_names}; or give a folder."
    )


def _reference(generator: str | Path) -> str:
    """A shipped name as it is, a folder as its absolute path."""
    if str(generator) in shipped_generators():
        return str(generator)
    return str(generator_folder(generator).resolve())


def _encoder_of(generator: str, device: str) -> tuple[Encoder, InDomainErrors | None] | None:
    return load_encoder(generator, device) if has_encoder(generator) else None


def _features(generator: Generator, w: Tensor) -> Sequence[Tensor]:
    with torch.no_grad():
        return generator.synthesis(w).features


def _invert_all(
    generator: Generator,
    encoder: Encoder,
    squares: list[Picture],
    settings: InversionSettings | None,
) -> Inversion:
    images = to_tensor(np.stack(squares)).to(generator.device)
    parts = [invert(generator, encoder, batch, settings) for batch in images.split(_BATCH)]
    columns = zip(*((p.w, p.images, p.errors) for p in parts), strict=True)
    return Inversion(*(torch.cat(column) for column in columns))


def _check_picture(image: Picture, name: str) -> None:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        shape = getattr(image, "shape", type(image).__name__)
        raise DganError(f"{name} must be [H, W, 3] RGB, not {shape}.")
    if image.dtype != np.uint8 or 0 in image.shape:
        raise DganError(f"{name} must be uint8 and not empty, not {image.dtype} {image.shape}.")


def _check_pairs(
    images: Sequence[Picture] | Picture,
    masks: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
    partonomy: Partonomy,
) -> list[Frame]:
    if len(images) != len(masks) or len(images) == 0:
        raise DganError(f"{len(images)} pictures and {len(masks)} masks: give one mask a picture.")
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        _check_picture(image, f"picture {n}")
        if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8:
            kind = getattr(mask, "dtype", type(mask).__name__)
            raise DganError(f"mask {n} must be an array of uint8, not {kind}.")
        if mask.shape != image.shape[:2]:
            raise DganError(
                f"mask {n} is {mask.shape}, its picture {image.shape[:2]} (height, width); "
                "masks must have their picture's size."
            )
        labels = np.unique(mask)
        outside = labels[(labels >= partonomy.num_classes) & (labels != IGNORE)]
        if outside.size:
            raise DganError(
                f"mask {n} must hold classes 0 to {partonomy.num_classes - 1} of "
                f"{partonomy.name!r} (255 = ignore), but holds {outside.tolist()}."
            )
    return [Frame(*image.shape[:2]) for image in images]
