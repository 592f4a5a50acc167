"""Generator, inversion, interpreter and student together: picture or seed -> segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgan_backend.errors import DganError
from dgan_backend.fitting import FitPlan, FittedParts, Progress, fit_parts
from dgan_backend.generators import Generator, load_generator
from dgan_backend.interpreter import Ensemble
from dgan_backend.interpreter.ensemble import PixelPrediction, together
from dgan_backend.interpreter.picture_maps import PICTURE_CHANNELS
from dgan_backend.interpreter.refine import EXACT, Refinement, refinement_for
from dgan_backend.interpreter.uncertainty import expected_iou, reconstruction_factor, score
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.framing import Frame
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import InDomainErrors, has_encoder, load_encoder
from dgan_backend.partonomy import Partonomy
from dgan_backend.pictures import (
    Picture,
    check_picture,
    middle_square,
    resize,
    to_pictures,
    to_tensor,
)
from dgan_backend.precision import FLOAT32, numbers_for
from dgan_backend.reading import feature_maps, images_and_maps, invert_all
from dgan_backend.records import SeedLatent, Segmentation
from dgan_backend.student.native import Backbone, load_backbone
from dgan_backend.student.student import Student
from dgan_backend.versions import (
    TrainingSet,
    VersionCard,
    read_version,
    shipped_versions,
    write_version,
)

__all__ = ["Segmenter", "shipped_versions"]


_LONGEST = 3  # times the short side; what is longer is labeled a little coarser
_BATCH = 8  # samples at once at most, and of so many pixels together:
_BATCH_PIXELS = 2**17
_STUDENT_MULTIPLE = 32  # px; the U-Net halves its pictures five times


class Segmenter:
    """One version at work. Made by `load` or `fit`.

    exact: whether the interpreter reads every pixel, or those that matter (`Refinement`).
    numbers: what samples are computed in; pictures from outside always take float32.
    second_opinion: whether the student also labels samples, see `together`.
    """

    def __init__(
        self,
        card: VersionCard,
        generator: Generator,
        encoder: tuple[Encoder, InDomainErrors | None] | None,
        ensemble: Ensemble,
        student: Student | None,
        backbone: Backbone,
        data: TrainingSet,
    ) -> None:
        self.card = card
        self.generator = generator
        self.ensemble = ensemble
        self.student = student
        self.backbone = backbone
        self.inversion = InversionSettings.from_json(card.inversion)
        self.encoder = encoder
        self.data = data
        self.exact = False
        self.second_opinion = False
        self.numbers = FLOAT32
        wanted = sum(generator.synthesis.feature_channels)
        if card.maps != "generator":
            wanted += PICTURE_CHANNELS
        if ensemble.num_features != wanted:
            raise DganError(
                f"version {card.name} reads {ensemble.num_features} features, but generator "
                f"{generator.id} has {wanted}; fit it again on this generator."
            )

    @classmethod
    def fit(
        cls,
        generator: str | Path,
        images: Sequence[Picture] | Picture,
        masks: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
        partonomy: str | Path | Partonomy,
        *,
        version: str = "",
        plan: FitPlan | None = None,
        device: str = "cpu",
        progress: Progress = lambda name, steps: steps,
    ) -> Segmenter:
        """Fit a version on labeled pictures; arguments and errors as `fitting.fit_parts` has them.

        images: N pictures [H, W, 3] uint8 RGB; masks: N masks [H, W] uint8 of the same sizes,
        class indices of the partonomy, 255 = ignore. One picture is enough to start.
        """
        parts = fit_parts(
            generator,
            images,
            masks,
            partonomy,
            version=version,
            plan=plan,
            device=device,
            progress=progress,
        )
        return cls.of(parts)

    @classmethod
    def of(cls, parts: FittedParts) -> Segmenter:
        """What `fit_parts` or `fit_set` made, at work."""
        return cls(
            parts.card,
            parts.generator,
            parts.encoder,
            parts.ensemble,
            parts.student,
            parts.backbone,
            parts.data,
        )

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu") -> Segmenter:
        """Load a version folder, or a shipped version by its name or its partonomy's.

        Raises DganError that names what is missing or does not fit together.
        """
        folder = _version_folder(name)
        card, ensemble, student, data = read_version(folder, device)
        generator = load_generator(card.generator, device)
        if generator.id != card.generator_id:
            raise DganError(
                f"version {card.name} was fitted on generator {card.generator_id}, but "
                f"{card.generator!r} is now {generator.id}; fit it again."
            )
        encoder = _encoder_of(card.generator, device)
        backbone = load_backbone(card.generator, device) if card.backbone_id else Backbone()
        if card.backbone_id != backbone.id:
            raise DganError(
                f"version {card.name} needs the backbone {card.backbone_id} of {card.generator!r}, "
                f"which has {backbone.id or 'none'}; fit it again."
            )
        return cls(card, generator, encoder, ensemble, student, backbone, data)

    def save(self, folder: Path) -> None:
        """Write this version whole; raises DganError when the folder exists."""
        write_version(folder, self.card, self.ensemble, self.student, self.data)

    def with_student(self, student: Student, version: str, told: dict[str, Any]) -> Segmenter:
        """A version that differs in what labels pictures from outside. told: of its training.

        Raises DganError when the student has other classes.
        """
        if student.num_classes != self.partonomy.num_classes:
            raise DganError(
                f"the student has {student.num_classes} classes, version {self.version} "
                f"{self.partonomy.num_classes}; name the version that labeled its samples."
            )
        training = {**self.card.training, "student": told}
        card = replace(self.card, name=version, outside="student", training=training)
        return Segmenter(
            card, self.generator, self.encoder, self.ensemble, student, self.backbone, self.data
        )

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

    def compute_in(self, precision: str) -> None:
        """Make samples in float32, half or auto, as PRECISION has it and the device offers."""
        self.numbers = numbers_for(precision, str(self.generator.device))

    def ask_student(self) -> None:
        """Have samples labeled by interpreter and student together: slower, and more often right.

        Raises DganError when this version has no student.
        """
        if self.student is None:
            raise DganError(
                f"version {self.version} has no student to give a second opinion; fit it on more "
                "labels, or on a generator with a backbone (`dgan-backend generator backbone`)."
            )
        self.second_opinion = True

    def segment_seed(self, seed: int, truncation: float | None = None) -> Segmentation:
        """Sample a picture and segment it, at the generator's resolution.

        seed: in [0, 2^32). truncation: None = the card's.
        """
        return next(self.segment_seeds([seed], truncation))

    def segment_seeds(
        self, seeds: Sequence[int], truncation: float | None = None, side: int | None = None
    ) -> Iterator[Segmentation]:
        """As `segment_seed`, one after the other; small pictures are made in batches.

        side: px of the labels, which the interpreter reads off the maps as finely as that, and of
        the pictures, which are resized; None = the generator's.
        """
        side = side or self.generator.resolution
        size = samples_at_once(max(side, self.generator.resolution))
        for start in range(0, len(seeds), size):
            yield from self._sample(seeds[start : start + size], truncation, side)

    @torch.inference_mode()
    def _sample(
        self, seeds: Sequence[int], truncation: float | None, side: int
    ) -> list[Segmentation]:
        psi = self.truncation if truncation is None else truncation
        z = torch.cat([self.generator.latent_from_seed(seed) for seed in seeds])
        w = self.generator.mapping(z, truncation=psi)
        images, maps = images_and_maps(self.generator, w, self.card.maps, dtype=self.numbers.maps)
        ensemble = self.ensemble.as_type(self.numbers.products)
        found = ensemble.predict_all(maps, (side, side), self._refinement(side))
        pictures = list(to_pictures(images))
        if self.second_opinion:
            found = [
                together(p, self._second(image)) for p, image in zip(found, pictures, strict=True)
            ]
        return [
            Segmentation(
                image=picture if len(picture) == side else resize(picture, side, side),
                labels=predicted.vote.to(torch.uint8).cpu().numpy(),
                uncertainty=predicted.uncertainty.float().cpu().numpy(),
                score=score(_expected(predicted)),
                bound=predicted.bound,
            )
            for picture, predicted in zip(pictures, found, strict=True)
        ]

    def _second(self, picture: Picture) -> PixelPrediction:
        """What the student says of a sample, on its own grid."""
        assert self.student is not None  # see `ask_student`
        grid = self.card.label_resolution
        tensor = to_tensor(np.stack([resize(picture, grid, grid)]))
        return self.student.predict(tensor.to(self.generator.device))

    def _refinement(self, side: int) -> Refinement:
        return EXACT if self.exact else refinement_for(side)

    def segment_image(self, image: Picture) -> Segmentation:
        """Segment a picture [H, W, 3] uint8 of any size; labels at that size.

        The version's card says by what: its student, or the interpreter on the inverted picture.
        Raises DganError when it takes an inversion and the generator has no encoder.
        """
        return self.segment_images([image])[0]

    def segment_images(self, images: Sequence[Picture]) -> list[Segmentation]:
        """As `segment_image`, inverting in batches."""
        for index, image in enumerate(images):
            check_picture(image, f"picture {index}")
        if not images:
            return []
        pairs = [(Frame(*image.shape[:2]), image) for image in images]
        side = self.card.label_resolution
        grid = to_tensor(np.stack([f.picture(i, side) for f, i in pairs])).to(self.generator.device)
        labeled = (
            self._by_student(pairs, grid)
            if self._is_students()
            else self._by_interpreter(pairs, grid)
        )
        return [
            self._framed(predicted, frame, image, r)
            for (predicted, r), (frame, image) in zip(labeled, pairs, strict=True)
        ]

    def _is_students(self) -> bool:
        return self.card.outside == "student"

    def _by_student(
        self, pairs: list[tuple[Frame, Picture]], grid: Tensor
    ) -> list[tuple[PixelPrediction, float]]:
        """What it says of pictures [N, 3, S, S] in [-1, 1], and how familiar each is.

        A picture that is not square is looked at twice, since its frame makes small what is in
        it: the middle also says how familiar it is, and `_closer` labels it.
        """
        assert self.student is not None  # the version would not have been read
        factors = self.backbone.factors(grid)
        if self.backbone.familiarity is not None:
            for n, (frame, image) in enumerate(pairs):
                if frame.height != frame.width:
                    middle = np.stack([middle_square(image, self.backbone.side)])
                    (r,) = self.backbone.factors(to_tensor(middle).to(grid.device))
                    factors[n] = max(factors[n], r)
        said = [self.student.predict(picture) for picture in grid.split(1)]
        for n, (frame, image) in enumerate(pairs):
            side = self._closer_side(frame)
            if side > self.card.label_resolution:
                said[n] = max(said[n], self._closer(frame, image, side), key=_expected)
        return list(zip(said, factors, strict=True))

    def _closer_side(self, frame: Frame) -> int:
        """Side of the square, px, in which the short side of a picture fills the label grid."""
        stretch = min(frame.side / min(frame.height, frame.width), _LONGEST)
        return round(self.card.label_resolution * stretch / _STUDENT_MULTIPLE) * _STUDENT_MULTIPLE

    def _closer(self, frame: Frame, image: Picture, side: int) -> PixelPrediction:
        """What the student says of a picture that is framed that large."""
        assert self.student is not None
        larger = to_tensor(np.stack([frame.picture(image, side)])).to(self.generator.device)
        return self.student.predict(larger)

    def _by_interpreter(
        self, pairs: list[tuple[Frame, Picture]], grid: Tensor
    ) -> list[tuple[PixelPrediction, float]]:
        """What it says of the inverted pictures, and how well each was reconstructed."""
        if self.encoder is None:
            raise DganError(
                f"generator {self.generator.id} has no encoder, so pictures from outside cannot "
                "be inverted; give it one by `dgan-backend generator encoder train`."
            )
        squares = [f.picture(i, self.generator.resolution) for f, i in pairs]
        encoder, errors = self.encoder
        found = invert_all(self.generator, encoder, squares, self.inversion)
        parts = []
        for w, error, picture in zip(found.w.split(1), found.errors, grid.split(1), strict=True):
            r = 1.0
            if errors is not None:
                r = reconstruction_factor(float(error), errors.median, errors.limit)
            parts.append((self.read_latent(w, picture), r))
        return parts

    @torch.inference_mode()
    def read_latent(self, w: Tensor, picture: Tensor) -> PixelPrediction:
        """What the interpreter says of a picture [1, 3, S, S] in [-1, 1] whose latent is w."""
        maps = feature_maps(self.generator, w, self.card.maps, picture)
        height, width = picture.shape[2:]
        return self.ensemble.predict(maps, (height, width), self._refinement(min(height, width)))

    @staticmethod
    def _framed(predicted: PixelPrediction, frame: Frame, image: Picture, r: float) -> Segmentation:
        return Segmentation(
            image=image,
            labels=frame.labels(predicted.probabilities),
            uncertainty=frame.map(predicted.uncertainty),
            score=score(_expected(predicted), r),
            bound=predicted.bound,
        )


def _expected(predicted: PixelPrediction) -> float:
    return expected_iou(predicted.probabilities)


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


def samples_at_once(resolution: int) -> int:
    """Pictures of so many px that are sampled and labeled together."""
    return max(1, min(_BATCH, _BATCH_PIXELS // resolution**2))


def _encoder_of(generator: str, device: str) -> tuple[Encoder, InDomainErrors | None] | None:
    return load_encoder(generator, device) if has_encoder(generator) else None
