"""M three-layer pixel classifiers, held and run as one batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dgan_backend.interpreter.reader import FirstLayer, PixelReader
from dgan_backend.interpreter.refine import EXACT, Grid, Refinement, doubtful_cells
from dgan_backend.interpreter.threads import shares, side_by_side
from dgan_backend.interpreter.uncertainty import entropy, largest, of_logits

_REFINED = 0.25  # of all pixels that are read, about, from coarse to fine
_LAYERS = ("w1", "b1", "w2", "b2", "w3", "b3")


@dataclass(frozen=True)
class PixelPrediction:
    """What the ensemble says of one picture, on the label grid.

    probabilities [K, H, W] float32: mean softmax of the members
    vote          [H, W] int64: majority of the members' labels
    uncertainty   [H, W] float32: Jensen-Shannon divergence in nats
    members       how many were compared
    read          share of the pixels that were read; the others are interpolated
    total         whether the uncertainty is the entropy of the mean, as `together` has it
    """

    probabilities: Tensor
    vote: Tensor
    uncertainty: Tensor
    members: int
    read: float = 1.0
    total: bool = False

    @property
    def bound(self) -> float:
        """The largest uncertainty possible, in nats."""
        classes = len(self.probabilities)
        return largest(classes if self.total else self.members, classes)


def together(one: PixelPrediction, other: PixelPrediction) -> PixelPrediction:
    """What two ensembles that learned by different ways say as one: the mean of both, its largest
    class, and its entropy, which also counts what each of them is unsure of by itself.

    Both have the same classes; the other's grid may be another one, and is resized to the first's.
    """
    theirs = other.probabilities
    if theirs.shape != one.probabilities.shape:
        size = one.probabilities.shape[1:]
        theirs = F.interpolate(theirs[None], size, mode="bilinear", align_corners=False)[0]
    mean = (one.probabilities.float() + theirs.to(one.probabilities.device).float()) / 2
    return PixelPrediction(
        probabilities=mean,
        vote=mean.argmax(dim=0),
        uncertainty=entropy(mean, dim=0),
        members=one.members + other.members,
        read=one.read,
        total=True,
    )


@dataclass(frozen=True)
class Ensemble:
    """Weights of M members, batch norms and input scaling folded in.

    w1 [M, H1, R], b1 [M, H1], w2 [M, H2, H1], b2 [M, H2], w3 [M, K, H2], b3 [M, K], float32.
    bases: directions [R_g, C_g] that maps of each size are read in, the sum of all R_g = R; or
    none, and all D features are read, R = D.
    """

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    w3: Tensor
    b3: Tensor
    bases: tuple[Tensor, ...] = ()

    @property
    def members(self) -> int:
        return self.w1.shape[0]

    @property
    def num_classes(self) -> int:
        return self.w3.shape[1]

    @property
    def num_features(self) -> int:
        return self._first_layer.num_features

    @property
    def _first_layer(self) -> FirstLayer:
        return FirstLayer(self.w1.flatten(0, 1), self.b1.flatten(), self.bases)

    def tensors(self) -> dict[str, Tensor]:
        bases = {f"basis{number}": basis for number, basis in enumerate(self.bases)}
        return {**{name: getattr(self, name) for name in _LAYERS}, **bases}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], device: str = "cpu") -> Ensemble:
        """Raises KeyError that names a missing tensor."""
        count = sum(name.startswith("basis") for name in tensors)
        bases = tuple(tensors[f"basis{number}"].float().to(device) for number in range(count))
        w1, b1, w2, b2, w3, b3 = (tensors[name].float().to(device) for name in _LAYERS)
        return cls(w1, b1, w2, b2, w3, b3, bases)

    def as_type(self, dtype: torch.dtype) -> Ensemble:
        """The same, whose first two layers compute in it: the third, small as it is, decides, and
        what is rounded there makes classes equal."""
        first = {name: getattr(self, name).to(dtype) for name in _LAYERS[:4]}
        return replace(self, **first, bases=tuple(basis.to(dtype) for basis in self.bases))

    def logits(self, pixels: Tensor) -> Tensor:
        """Pixel features [P, D] -> logits of each member [M, K, P]."""
        layer = self._first_layer
        if self.bases:
            parts = pixels.split([basis.shape[1] for basis in self.bases], dim=1)
            pixels = torch.cat([p @ b.T for p, b in zip(parts, self.bases, strict=True)], dim=1)
        return self._tail(pixels @ layer.weight.T + layer.bias)

    def predict(
        self, features: Sequence[Tensor], size: tuple[int, int], how: Refinement = EXACT
    ) -> PixelPrediction:
        """Label one picture on a grid of `size` (H, W), from its maps [1, C_l, H_l, W_l]."""
        return self.predict_all(features, size, how)[0]

    def predict_all(
        self, features: Sequence[Tensor], size: tuple[int, int], how: Refinement = EXACT
    ) -> list[PixelPrediction]:
        """Label N pictures on a grid of `size` (H, W), from their maps [N, C_l, H_l, W_l].

        how: every pixel is read, or as `Refinement` has it. Memory stays flat: pixels are read in
        chunks, the first layer runs at native resolution.
        """
        grid = Grid(len(features[0]), size, min(how.stride, *size))
        wanted = _REFINED if grid.stride > 1 else 1.0
        reader = PixelReader(self._first_layer, features, size, wanted)
        found = self._read(reader, grid.index())
        shape = grid.shape
        probabilities = found[0].reshape(-1, *shape).transpose(0, 1)
        vote, uncertainty = (part.reshape(shape) for part in found[1:])
        read = torch.ones(len(vote), dtype=torch.float64)
        if grid.stride > 1:
            bound = largest(self.members, self.num_classes)
            cells = doubtful_cells(vote, probabilities, uncertainty, bound, how)
            fine = grid.between(cells)
            read = fine.flatten(1).double().mean(dim=1) + shape[1] * shape[2] / fine[0].numel()
            probabilities = grid.interpolated(probabilities)
            vote, uncertainty = grid.nearest(vote), grid.interpolated(uncertainty)
            index = fine.flatten().nonzero()[:, 0]
            if len(index):
                self._write(index, (probabilities, vote, uncertainty), self._read(reader, index))
        return [
            PixelPrediction(p, v, u, self.members, r)
            for p, v, u, r in zip(probabilities, vote, uncertainty, read.tolist(), strict=True)
        ]

    def _read(self, reader: PixelReader, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean probabilities [K, P], vote [P] and uncertainty [P] of pixels."""
        k, count, device = self.num_classes, len(index), self.b1.device
        probabilities = torch.empty(k, count, device=device)
        vote = torch.empty(count, dtype=torch.long, device=device)
        uncertainty = torch.empty(count, device=device)
        index = index.to(device)
        parts = shares(index, reader.tile)
        starts = itertools.accumulate((len(part) for part in parts), initial=0)

        def read(place: tuple[int, Tensor]) -> None:
            start, pixels = place
            for first in reader.read(pixels):
                end = start + len(first)
                found = of_logits(self._tail(first))
                probabilities[:, start:end], vote[start:end], uncertainty[start:end] = found
                start = end

        side_by_side(read, list(zip(starts, parts, strict=False)), index.device)
        return probabilities, vote, uncertainty

    @staticmethod
    def _write(
        index: Tensor, all_pixels: tuple[Tensor, Tensor, Tensor], found: tuple[Tensor, ...]
    ) -> None:
        """Put what was found at pixels [P] into [N, K, H, W], [N, H, W] and [N, H, W]."""
        probabilities, vote, uncertainty = all_pixels
        n, k, height, width = probabilities.shape
        vote.view(-1)[index] = found[1]
        uncertainty.view(-1)[index] = found[2]
        area = height * width
        picture = index // area
        for number, values in enumerate(probabilities.view(n, k, area)):
            mine = picture == number if n > 1 else slice(None)
            values.index_copy_(1, index[mine] % area, found[0][:, mine])

    def _tail(self, first: Tensor) -> Tensor:
        """First layer's outputs [P, M * H1] of pixels -> logits [M, K, P]."""
        hidden = _relu_(first).reshape(len(first), self.members, -1).transpose(0, 1)
        if hidden.dtype != torch.float32:
            hidden = hidden.contiguous()  # products of 16 bits are 5 times as slow otherwise
        second = torch.baddbmm(self.b2[:, :, None], self.w2, hidden.transpose(1, 2))
        return torch.baddbmm(self.b3[:, :, None], self.w3, _relu_(second).to(self.w3.dtype))


def _relu_(x: Tensor) -> Tensor:
    """In place. Halves are negative where integers of the same bits are, which are faster here."""
    if x.dtype == torch.float32:
        return x.relu_()
    x.view(torch.int16).clamp_min_(0)
    return x
