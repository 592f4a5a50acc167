"""Fitting the ensemble: all members at once, each on pixels of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.errors import DganError
from dgan_backend.interpreter.ensemble import Ensemble
from dgan_backend.interpreter.features import gather
from dgan_backend.interpreter.reader import ProjectedMaps, group_channels
from dgan_backend.interpreter.sampling import Draw, PixelPool

_BN_EPS = 1e-5
_FEATURE_BYTES = 640 * 2**20  # gathered features of all members, float16
_BASIS_PICTURES = 8  # that principal directions are found on
_BASIS_PIXELS = 2048  # of each of them
_FEW_FEATURES = 1024
_MOST, _LEAST = 6e4, 0.01  # float16 holds no more; so others may lie far off


@dataclass(frozen=True)
class FitSettings:
    """members: M. pixels: drawn for each member (fewer when features are many, see memory); 0 =
    all labeled ones, each once, as they are shared out among classes.

    steps x batch pixels are seen by each member at Adam's rate, which falls as a half cosine.
    hidden: widths of the two hidden layers; None = as `widths` has it. prior: strength of the
    log-prior correction in [0, 1]; 1 gives the most right pixels, 0 the most of small parts, and
    0.5 the best mean IoU on toonhead. directions: so many principal ones of the maps of each size
    are read; 0 = all features as they are.
    """

    members: int = 10
    pixels: int = 16384
    steps: int = 1200
    batch: int = 256
    rate: float = 1e-3
    hidden: tuple[int, int] | None = None
    prior: float = 0.5
    directions: int = 64
    seed: int = 0


def paper_widths(classes: int) -> tuple[int, int]:
    """Of the two hidden layers (datasetGAN_release)."""
    return (128, 32) if classes < 32 else (256, 128)


def widths(features: int, classes: int) -> tuple[int, int]:
    """As `paper_widths`; but 32, 32 for the few features of a small generator, where wider layers
    cost more than the picture and are no better."""
    return (32, 32) if features < _FEW_FEATURES and classes < 32 else paper_widths(classes)


@dataclass(frozen=True)
class Beginning:
    """An ensemble that a fit goes on with, and the masks [N, H, W] that it was fitted on."""

    ensemble: Ensemble
    masks: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Scale:
    """Of features: mean and deviation [D], the latter never near 0 beside the mean."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, values: Tensor, least: float = 1e-3) -> _Scale:
        """Of values [P, D]. least: of the deviation, beside the mean's size; a channel that varies
        by less is left small, as that is mostly rounding."""
        mean = values.mean(dim=0)
        return cls(mean, values.std(dim=0, unbiased=False) + least * (1 + mean.abs()))

    def apply(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.deviation

    def after(self, other: _Scale) -> _Scale:
        """One that does what `other` does, then this."""
        return _Scale(other.mean + self.mean * other.deviation, self.deviation * other.deviation)


@dataclass
class _Samples:
    """What the members learn from: features [M, P, D] float16, on a scale on which they neither
    overflow nor lose their digits; labels [M, P] int64."""

    features: Tensor
    labels: Tensor
    scale: _Scale


def fit_ensemble(
    maps_of: Callable[[int], Sequence[Tensor]],
    masks: npt.NDArray[np.uint8],
    num_classes: int,
    settings: FitSettings | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    begin: Beginning | None = None,
    weights: Sequence[float] | None = None,
) -> Ensemble:
    """Fit M members on N labeled pictures.

    maps_of: index -> that picture's feature maps, [1, C_l, H_l, W_l] each; asked once a picture,
    and once more for those that directions are found on.
    masks: [N, H, W] uint8 in [0, num_classes), 255 = ignore; any size, classes may be absent.
    progress: wraps the step numbers, such as `tqdm`. begin: an ensemble to go on with, whose
    members and widths stay. weights: of each picture, see `PixelPool`.
    Raises DganError when no pixel is labeled or a label is outside the partonomy.
    """
    settings = settings or FitSettings()
    if begin is not None:
        settings = replace(settings, members=begin.ensemble.members)
    pool = PixelPool(masks, num_classes, weights)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        bases = _bases(maps_of, len(masks), settings) if begin is None else begin.ensemble.bases
        samples = _gather_samples(maps_of, pool, masks.shape, settings, bases)
        scale = _Scale.of(samples.features[0].float())  # of the first member
        inputs = scale.after(samples.scale)
        network: _TrainedMembers | _ContinuedMembers
        if begin is None:
            read = sum(basis.shape[1] for basis in bases) or samples.features.shape[2]
            settings = replace(settings, hidden=settings.hidden or widths(read, num_classes))
            device = samples.features.device
            network = _TrainedMembers(samples.features.shape[2], num_classes, settings, device)
        else:
            network = _ContinuedMembers(begin, inputs, settings.prior)
        _train(network, samples, scale, settings, progress)
        drawn = torch.bincount(samples.labels.flatten().cpu(), minlength=num_classes).double()
        layers = network.folded(inputs, _log_prior(pool, drawn, settings.prior))
        _check_finite("The interpreter's weights", *layers.tensors().values())
        return replace(layers, bases=bases)


def _check_finite(what: str, *found: Tensor) -> None:
    if not all(bool(values.isfinite().all()) for values in found):
        raise DganError(
            f"{what} are not finite, so nothing can be fitted; look at the generator's pictures "
            "with `dgan-backend sample`."
        )


def _bases(
    maps_of: Callable[[int], Sequence[Tensor]], count: int, settings: FitSettings
) -> tuple[Tensor, ...]:
    """Principal directions of the maps of each size, or none: [R_g, C_g] each.

    Of standardised features, the strongest first.
    """
    if not settings.directions:
        return ()
    random = torch.Generator().manual_seed(settings.seed)
    rows: list[list[Tensor]] = []  # of each picture, by size of map
    for n in np.unique(np.linspace(0, count - 1, _BASIS_PICTURES).astype(int)).tolist():
        maps = maps_of(n)
        found = gather(maps, torch.rand(_BASIS_PIXELS, 2, generator=random))
        _check_finite("The generator's maps", found)
        rows.append(list(found.split(group_channels(maps), dim=1)))
        del maps, found  # before those of the next picture are made
    bases = []
    for parts in zip(*rows, strict=True):
        group = torch.cat(parts)
        scale = _Scale.of(group)
        scaled = scale.apply(group)
        _, vectors = torch.linalg.eigh(scaled.T @ scaled)
        bases.append(vectors[:, -settings.directions :].T.flip(0) / scale.deviation)
    return tuple(basis.clone() for basis in bases)


def _gather_samples(
    maps_of: Callable[[int], Sequence[Tensor]],
    pool: PixelPool,
    shape: tuple[int, ...],
    settings: FitSettings,
    bases: tuple[Tensor, ...],
) -> _Samples:
    _, height, width = shape
    random = np.random.RandomState(settings.seed)
    features: Tensor | None = None
    scale: _Scale | None = None
    draws: list[Draw] = []
    for n in range(shape[0]):
        maps = maps_of(n)
        if features is None:
            d = sum(map(len, bases)) or sum(f.shape[1] for f in maps)
            most = _FEATURE_BYTES // (2 * d * settings.members)
            count = min(settings.pixels, max(most, 256))
            drawn = pool.draw if settings.pixels else pool.draw_all
            draws = [drawn(count, random) for _ in range(settings.members)]
            size = (settings.members, len(draws[0].label), d)
            features = torch.empty(size, dtype=torch.float16, device=maps[0].device)
        read = _reading(maps, (height, width), bases)
        for m, draw in enumerate(draws):
            (mine,) = np.nonzero(draw.picture == n)
            if mine.size:
                values = read(torch.from_numpy(draw.index[mine]))
                scale = scale or _Scale.of(values, _LEAST)  # of some pixels, maybe of one
                stored = scale.apply(values).clamp(-_MOST, _MOST)
                features[m, torch.from_numpy(mine)] = stored.half()
        del maps, read  # before those of the next picture are made
    if features is None or scale is None:
        raise ValueError("there is no picture to fit on.")
    labels = torch.from_numpy(np.stack([draw.label for draw in draws]))
    return _Samples(features, labels.to(features.device), scale)


def _reading(
    maps: Sequence[Tensor], size: tuple[int, int], bases: tuple[Tensor, ...]
) -> Callable[[Tensor], Tensor]:
    """Flat pixel indices [P] of a mask of `size` -> what is read of them, [P, R]."""
    if bases:
        return ProjectedMaps(bases, maps, size).at

    def read(index: Tensor) -> Tensor:
        x, y = (index % size[1] + 0.5) / size[1], (index // size[1] + 0.5) / size[0]
        return gather(maps, torch.stack([x, y], dim=1).float())

    return read


def _log_prior(pool: PixelPool, drawn: Tensor, strength: float) -> Tensor:
    """What to add to logits learned on balanced draws: log true share - log drawn share, [K].

    The prior-shift correction of Saerens et al. (2002, eq. 4). 0 for classes never seen.
    """
    correction = torch.zeros(len(drawn))
    seen = torch.from_numpy(pool.classes)
    share = drawn[seen] / drawn.sum()
    correction[seen] = (torch.from_numpy(pool.prior).log() - share.log()).float() * strength
    return correction


class _TrainedMembers(torch.nn.Module):
    """Linear - ReLU - BN - Linear - ReLU - BN - Linear of M members (datasetGAN_release)."""

    def __init__(self, d: int, classes: int, settings: FitSettings, device: torch.device) -> None:
        super().__init__()
        first, second = settings.hidden or widths(d, classes)
        m = settings.members
        sizes = [(first, d), (second, first), (classes, second)]
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(torch.randn(m, o, i, device=device) * 0.02) for o, i in sizes
        )
        self.biases = torch.nn.ParameterList(
            torch.nn.Parameter(torch.zeros(m, o, device=device)) for o, _ in sizes
        )
        self.norms = torch.nn.ModuleList(
            torch.nn.BatchNorm1d(m * width, eps=_BN_EPS, device=device) for width in (first, second)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scaled features [M, B, D] -> logits [M, B, K]."""
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b[:, None], x, w.transpose(1, 2))
            if layer < 2:
                x = self._normalize(x.relu(), layer)
        return x

    def _normalize(self, x: Tensor, layer: int) -> Tensor:
        m, batch, width = x.shape
        flat = x.transpose(0, 1).reshape(batch, m * width)
        return self.norms[layer](flat).reshape(batch, m, width).transpose(0, 1)

    @torch.no_grad()
    def folded(self, inputs: _Scale, log_prior: Tensor) -> Ensemble:
        """Plain layers: input scaling into the first, each batch norm into the layer after it."""
        w1 = self.weights[0] / inputs.deviation
        b1 = self.biases[0] - w1 @ inputs.mean
        w2, b2 = self._fold(1)
        w3, b3 = self._fold(2)
        return Ensemble(w1, b1, w2, b2, w3, b3 + log_prior.to(b3.device))

    def _fold(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer after `BN(x) = x * scale + shift` equals one with w * scale and b + w shift."""
        norm = cast(torch.nn.BatchNorm1d, self.norms[layer - 1])
        w, b = self.weights[layer], self.biases[layer]
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight * torch.rsqrt(variance + _BN_EPS)
        shift = norm.bias - mean * scale
        m = w.shape[0]
        return w * scale.reshape(m, 1, -1), b + (w @ shift.reshape(m, -1, 1))[:, :, 0]


class _ContinuedMembers(torch.nn.Module):
    """The layers of a fitted ensemble as they are, batch norms folded in; the input scaling and
    the log prior are taken out while they are trained."""

    def __init__(self, begin: Beginning, inputs: _Scale, prior: float) -> None:
        super().__init__()
        e = begin.ensemble
        pool = PixelPool(begin.masks, e.num_classes)
        drawn = torch.zeros(e.num_classes, dtype=torch.double)
        drawn[torch.from_numpy(pool.classes)] = 1.0  # an equal share each
        b3 = e.b3 - _log_prior(pool, drawn, prior).to(e.b3.device)
        first = (e.w1 * inputs.deviation, e.b1 + e.w1 @ inputs.mean)
        layers = [first, (e.w2, e.b2), (e.w3, b3)]
        self.weights = torch.nn.ParameterList(torch.nn.Parameter(w.clone()) for w, _ in layers)
        self.biases = torch.nn.ParameterList(torch.nn.Parameter(b.clone()) for _, b in layers)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled features [M, B, D] -> logits [M, B, K]."""
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b[:, None], x, w.transpose(1, 2))
            if layer < 2:
                x = x.relu()
        return x

    @torch.no_grad()
    def folded(self, inputs: _Scale, log_prior: Tensor) -> Ensemble:
        w1 = self.weights[0] / inputs.deviation
        b1 = self.biases[0] - w1 @ inputs.mean
        b3 = self.biases[2] + log_prior.to(inputs.mean.device)
        w2, w3, b2 = self.weights[1], self.weights[2], self.biases[1]
        return Ensemble(*(t.detach() for t in (w1, b1, w2, b2, w3, b3)))


def _train(
    network: torch.nn.Module,
    samples: _Samples,
    scale: _Scale,
    settings: FitSettings,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    m, count = samples.labels.shape
    member = torch.arange(m, device=samples.labels.device)[:, None]
    network.train()
    for _ in progress(range(settings.steps)):
        chosen = torch.randint(count, (m, settings.batch)).to(member.device)
        x = scale.apply(samples.features[member, chosen].float())
        logits = network(x)
        loss = F.cross_entropy(logits.flatten(0, 1), samples.labels[member, chosen].flatten())
        optimizer.zero_grad(set_to_none=True)
        (loss * m).backward()
        optimizer.step()
        schedule.step()
    network.eval()
