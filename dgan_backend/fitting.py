"""Labeled pictures -> what a segmenter is made of: interpreter, and student where it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dgan_backend import metrics
from dgan_backend.errors import DganError
from dgan_backend.generators import Generator, load_generator
from dgan_backend.generators.native import GeneratorCard
from dgan_backend.generators.references import generator_folder, shipped_generators
from dgan_backend.interpreter import Ensemble, FitSettings, fit_ensemble
from dgan_backend.interpreter.fit import Beginning
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.framing import Frame
from dgan_backend.inversion.invert import InversionSettings
from dgan_backend.inversion.native import InDomainErrors, has_encoder, load_encoder
from dgan_backend.merging import IGNORE
from dgan_backend.partonomy import Partonomy, load_partonomy
from dgan_backend.pictures import Picture, check_picture, resize, to_pictures, to_tensor
from dgan_backend.reading import feature_maps, invert_all
from dgan_backend.student.native import Backbone, load_backbone
from dgan_backend.student.student import Student, StudentSettings, fit_student
from dgan_backend.versions import Source, TrainingSet, VersionCard

OUTSIDE = ("auto", "student", "interpreter")
Steps = Callable[[Iterable[int]], Iterable[int]]
Progress = Callable[[str, Iterable[int]], Iterable[int]]

LABEL_RESOLUTION = 128  # at least; parts of few pixels vanish on a coarser grid
CORRECTION_WEIGHT = 2  # times that a correction is seen for each time that a base picture is
_LARGEST_GRID = 256  # px; a student that looks at more takes too long without a GPU
_MASK_SIDES = 4  # masks are learned from at up to so many times the label resolution
_FEWEST_TO_CHOOSE = 8  # labels; below them too few can be held back to compare anything
NOT_INVERTED = Source(
    factor=0.0, reason="The generator has no encoder: only the student learns from it."
)
_TAUGHT_SEED = 3_000_000_000  # samples that are labeled for the interpreter begin here
_QUARREL = 0.2  # of the largest disagreement; pixels above teach nothing
_HELD_BACK = 4  # every so many-th label is held back when student and interpreter are compared


@dataclass(frozen=True)
class FitPlan:
    """How a segmenter is fitted.

    outside: what labels pictures from outside: 'student' (U-Nets that begin with the generator's
    backbone, or at random where it has none), 'interpreter' (the paper's, on the inverted
    picture), or 'auto': the one that labels held-back labels better, and the student while there
    are too few to hold any back, or where nothing can be inverted. maps: what the interpreter
    reads: 'generator' (as the paper), or 'generator+picture'. taught: samples that the student
    labels for the interpreter, which otherwise sees inverted pictures alone and never a sample.
    """

    outside: str = "auto"
    maps: str = "generator"
    taught: int = 48
    interpreter: FitSettings = field(default_factory=FitSettings)
    inversion: InversionSettings = field(default_factory=InversionSettings)
    student: StudentSettings = field(default_factory=StudentSettings)

    def for_classes(self, tree: Partonomy) -> FitPlan:
        """Left and right swapped in mirrored pictures, or none mirrored where that cannot be."""
        unet = self.student.unet
        unet = replace(unet, augment=unet.augment.for_classes(tree.mirrored))
        return replace(self, student=replace(self.student, unet=unet))

    def for_pictures(self, card: GeneratorCard) -> FitPlan:
        """At any angle where the generator's pictures have no up."""
        return replace(self, student=self.student.for_pictures(card.turns))


@dataclass(frozen=True)
class FittedParts:
    """What a `Segmenter` is made of."""

    card: VersionCard
    generator: Generator
    encoder: tuple[Encoder, InDomainErrors | None] | None
    ensemble: Ensemble
    student: Student | None
    backbone: Backbone
    data: TrainingSet

    @property
    def lacks(self) -> str:
        """What its student does without, in plain words; "" where that is nothing."""
        return self.backbone.lacks if self.student is not None else ""


def fit_parts(
    generator: str | Path,
    images: Sequence[Picture] | Picture,
    masks: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
    partonomy: str | Path | Partonomy,
    *,
    version: str = "",
    plan: FitPlan | None = None,
    device: str = "cpu",
    progress: Progress = lambda name, steps: steps,
) -> FittedParts:
    """Fit interpreter and student on labeled pictures.

    images: N pictures [H, W, 3] uint8 RGB; masks: N masks [H, W] uint8 of the same sizes,
    class indices of the partonomy, 255 = ignore. One picture is enough to start. progress:
    given the name of a part and its step numbers, wraps them, such as `tqdm`.
    Raises DganError that names the picture or mask at fault, when nothing is labeled, and when
    the interpreter is to label outside pictures of a generator without an encoder.
    """
    tree = partonomy if isinstance(partonomy, Partonomy) else load_partonomy(partonomy)
    plan = plan or FitPlan()
    if plan.outside not in OUTSIDE:
        raise DganError(f"outside must be one of {', '.join(OUTSIDE)}, not {plan.outside!r}.")
    frames = _check_pairs(images, masks, tree)
    network = load_generator(generator, device)
    encoder = _encoder(generator, plan.outside, device)
    side = label_side(network.resolution)
    finest = min(max(frame.side for frame in frames), _MASK_SIDES * side)
    pairs = list(zip(frames, images, masks, strict=True))
    w, source, told = torch.zeros(len(pairs), network.num_ws, network.w_dim), NOT_INVERTED, {}
    if encoder is not None:
        small = [f.picture(i, network.resolution) for f, i, _ in pairs]
        found = invert_all(network, encoder[0], small, plan.inversion)
        w, source = found.w.cpu(), Source()
        told = {"mean_error": float(found.errors.mean())}
    data = TrainingSet(
        w,
        torch.from_numpy(np.stack([f.mask(m, finest, IGNORE) for f, _, m in pairs])),
        on_grid([f.picture(i, side) for f, i, _ in pairs]),
        (source,) * len(pairs),
    )
    parts = fit_set(
        generator, data, tree, version=version, plan=plan, device=device, progress=progress
    )
    return replace(parts, card=replace(parts.card, training={**parts.card.training, **told}))


def fit_set(
    generator: str | Path,
    data: TrainingSet,
    tree: Partonomy,
    *,
    version: str = "",
    plan: FitPlan | None = None,
    device: str = "cpu",
    progress: Progress = lambda name, steps: steps,
) -> FittedParts:
    """As `fit_parts`, on pictures whose latents are known; corrections weigh more than a base."""
    network = load_generator(generator, device)
    plan = (plan or FitPlan()).for_classes(tree).for_pictures(network.card)
    encoder = _encoder(generator, plan.outside, device)
    backbone = Backbone()
    if plan.outside != "interpreter":
        plan.student.check()
        backbone = load_backbone(generator, device)
    if plan.outside == "auto" and encoder is None:
        plan = replace(plan, outside="student")
    outside, held_back = _choose(network, Labels(data, tree.num_classes), backbone, plan, progress)
    labels = Labels(data.repeated(CORRECTION_WEIGHT), tree.num_classes)
    student, taught = None, None
    if outside == "student":
        many = plan.student.for_labels(len(data))
        student = labels.fit_student(backbone, many, network.device, partial(progress, "student"))
        taught = taught_samples(network, student, labels.data, plan.taught)
    steps = partial(progress, "interpreter")
    ensemble = fit_interpreter(network, labels, plan, steps, taught)
    card = VersionCard(
        name=version or f"{tree.name}-fitted",
        partonomy=tree,
        generator=_reference(generator),
        generator_id=network.id,
        label_resolution=data.side,
        inversion=asdict(plan.inversion),
        outside=outside,
        maps=plan.maps,
        backbone_id=backbone.id if student is not None else "",
        training={"pictures": len(data), "held_back_miou": held_back},
    )
    return FittedParts(card, network, encoder, ensemble, student, backbone, data)


def label_side(resolution: int) -> int:
    """Side of the label grid, px, for a generator of so many."""
    return max(LABEL_RESOLUTION, min(resolution, _LARGEST_GRID))


def on_grid(pictures: Sequence[Picture]) -> Tensor:
    """N pictures [S, S, 3] uint8 -> [N, 3, S, S] uint8."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Labels:
    """Labeled pictures as they are learned from."""

    data: TrainingSet
    num_classes: int

    def __len__(self) -> int:
        return len(self.data)

    def pick(self, chosen: Sequence[int]) -> Labels:
        return Labels(self.data.pick(chosen), self.num_classes)

    def fit_student(
        self, backbone: Backbone, settings: StudentSettings, device: torch.device, progress: Steps
    ) -> Student:
        return fit_student(
            self.tensor().to(device),
            self.data.grid_masks().to(device),
            self.num_classes,
            settings,
            config=backbone.config,
            trunk=backbone.tensors or None,
            progress=progress,
        )

    def tensor(self) -> Tensor:
        """The pictures, [N, 3, S, S] float32 in [-1, 1]."""
        return to_tensor(self.data.pictures.permute(0, 2, 3, 1).numpy())

    def inverted(self) -> Labels:
        """Those whose latents re-create them."""
        chosen = [n for n, source in enumerate(self.data.sources) if source.factor > 0]
        return self if len(chosen) == len(self) else self.pick(chosen)


def _choose(
    network: Generator,
    labels: Labels,
    backbone: Backbone,
    plan: FitPlan,
    progress: Progress,
) -> tuple[str, dict[str, float]]:
    """What labels pictures from outside, and the mIoU of both on held-back labels, if compared."""
    grid_masks = labels.data.grid_masks()
    every = np.flatnonzero((grid_masks != IGNORE).flatten(1).any(dim=1).numpy())
    if plan.outside != "auto" or len(every) < _FEWEST_TO_CHOOSE:
        return ("student" if plan.outside == "auto" else plan.outside), {}
    held = every[::_HELD_BACK]
    part = labels.pick(np.setdiff1d(every, held).tolist())
    if not part.inverted():
        return "student", {}
    quick, compare = _quick(plan), partial(progress, "comparing")
    ensemble = fit_interpreter(network, part, quick, compare)
    many = quick.student.for_labels(len(part))
    student = part.fit_student(backbone, many, network.device, compare)
    test = labels.pick(held.tolist())
    size = (test.data.side, test.data.side)
    pictures = test.tensor().to(network.device).split(1)
    by_interpreter = [
        ensemble.predict(feature_maps(network, w, plan.maps, picture), size)
        for w, picture in zip(test.data.w.to(network.device).split(1), pictures, strict=True)
    ]
    by_student = [student.predict(picture) for picture in pictures]
    reached = {
        name: _held_back_miou(grid_masks[held], [p.probabilities.argmax(dim=0) for p in found])
        for name, found in (("interpreter", by_interpreter), ("student", by_student))
    }
    return max(reached, key=lambda name: reached[name]), reached


def _quick(plan: FitPlan) -> FitPlan:
    """Half the work, which is enough to compare."""
    interpreter = replace(
        plan.interpreter,
        members=min(4, plan.interpreter.members),
        steps=max(1, plan.interpreter.steps // 2),
    )
    return replace(plan, interpreter=interpreter, student=plan.student.alone())


def _held_back_miou(truth: Tensor, found: list[Tensor]) -> float:
    labeled = (truth != IGNORE).numpy()
    labels = torch.stack(found).cpu().numpy()
    true = truth.numpy()
    classes = int(max(true[labeled].max(initial=0), labels.max(initial=0))) + 1
    counts = metrics.confusion(true[labeled], labels[labeled], classes)
    return metrics.mean_iou(counts) if counts.any() else 0.0


@torch.inference_mode()
def taught_samples(
    network: Generator, student: Student, data: TrainingSet, count: int
) -> tuple[Tensor, npt.NDArray[np.uint8]]:
    """w [N, 1, num_ws, w_dim] of samples and their labels by the student, as fine as the masks.

    The student looks at them on the label grid; pixels that its members quarrel about are
    ignored.
    """
    side, finest = data.side, data.masks.shape[-1]
    latents, found = [], []
    for seed in range(_TAUGHT_SEED, _TAUGHT_SEED + count):
        z = network.latent_from_seed(seed)
        w = network.mapping(z, truncation=network.card.truncation)
        picture = to_pictures(network.synthesis(w).images)[0]
        grid = to_tensor(np.stack([resize(picture, side, side)])).to(network.device)
        said = student.predict(grid)
        mask = said.probabilities.argmax(dim=0).to(torch.uint8)
        mask[said.uncertainty > _QUARREL * said.bound] = IGNORE
        small = Image.fromarray(mask.cpu().numpy())
        found.append(np.asarray(small.resize((finest, finest), Image.Resampling.NEAREST)))
        latents.append(w)
    empty = np.empty((0, finest, finest), np.uint8)
    return torch.stack(latents) if latents else torch.empty(0), np.stack(found) if found else empty


def fit_interpreter(
    network: Generator,
    labels: Labels,
    plan: FitPlan,
    progress: Steps,
    taught: tuple[Tensor, npt.NDArray[np.uint8]] | None = None,
    begin: Beginning | None = None,
) -> Ensemble:
    """On the inverted pictures, the more of each the better it was inverted, and on samples that a
    student labeled.

    begin: an ensemble to go on with. Raises DganError when there is neither.
    """
    labels = labels.inverted()
    if not len(labels) and (taught is None or not len(taught[1])):
        raise DganError(
            "None of the labeled pictures can be re-created by the generator, so the interpreter "
            "has nothing to learn from; label pictures of its domain, or give it an encoder."
        )
    weights = [source.factor for source in labels.data.sources]
    pictures, latents = labels.tensor().to(network.device), labels.data.w.to(network.device)
    masks, count = labels.data.masks.numpy(), len(labels)
    if taught is not None:
        masks = np.concatenate([masks, taught[1]])
        weights += [1.0] * len(taught[1])

    def maps_of(n: int) -> list[Tensor]:
        if n < count:
            return feature_maps(network, latents[n : n + 1], plan.maps, pictures[n : n + 1])
        assert taught is not None  # there are no more masks otherwise
        return feature_maps(network, taught[0][n - count], plan.maps)

    return fit_ensemble(
        maps_of,
        masks,
        labels.num_classes,
        plan.interpreter,
        progress,
        begin,
        None if set(weights) == {1.0} else weights,
    )


def _encoder(
    generator: str | Path, outside: str, device: str
) -> tuple[Encoder, InDomainErrors | None] | None:
    """None where there is none; raises DganError when the interpreter cannot do without."""
    if outside != "interpreter" and not has_encoder(generator):
        return None
    return load_encoder(generator, device)


def _reference(generator: str | Path) -> str:
    """A shipped name as it is, a folder as its absolute path."""
    if str(generator) in shipped_generators():
        return str(generator)
    return str(generator_folder(generator).resolve())


def _check_pairs(
    images: Sequence[Picture] | Picture,
    masks: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
    partonomy: Partonomy,
) -> list[Frame]:
    if len(images) != len(masks) or len(images) == 0:
        raise DganError(f"{len(images)} pictures and {len(masks)} masks: give one mask a picture.")
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        check_picture(image, f"picture {n}")
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
