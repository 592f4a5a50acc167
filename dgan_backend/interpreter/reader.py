"""The interpreter's first layer at chosen pixels, without ever holding their features.

A linear layer commutes with bilinear upsampling (align_corners=False), so each map is multiplied at
its own resolution or at the pixels that are wanted, whichever are fewer. Coarse maps become tables
of products, which are mixed for a pixel from its four neighbours; of the finest maps pixels are
picked and multiplied. But for rounding, it equals upsampling, concatenating and multiplying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

_TABLE_VALUES = 24 * 2**20  # of one table (96 MB)
_TILE_VALUES = 10 * 2**20  # outputs of pixels whose surroundings are multiplied together
_CHUNK_VALUES = 2**20  # outputs that are handed out at once (4 MB)
_MIX_COST = 12  # products that take as long as mixing one value from four neighbours


@dataclass(frozen=True)
class FirstLayer:
    """weight [O, R], bias [O]; bases: one [R_g, C_g] for all maps of one size, or none.

    With bases, maps are projected on them before the weight, which reads the sum of all R_g.
    """

    weight: Tensor
    bias: Tensor
    bases: tuple[Tensor, ...] = ()

    @property
    def num_features(self) -> int:
        """D: channels of all maps together."""
        return sum(basis.shape[1] for basis in self.bases) or self.weight.shape[1]


class PixelReader:
    """N pictures whose pixels are read on a grid of `size` (H, W).

    features: maps [N, C_l, H_l, W_l]. A pixel's index is (n * H + y) * W + x. share: of all pixels
    that will be read, about; what is worth preparing depends on it.
    Raises ValueError when the maps are not those that the layer reads.
    """

    def __init__(
        self,
        layer: FirstLayer,
        features: Sequence[Tensor],
        size: tuple[int, int],
        share: float = 1.0,
    ) -> None:
        found = sum(f.shape[1] for f in features)
        if found != layer.num_features:
            raise ValueError(
                f"maps have {found} channels, the interpreter reads {layer.num_features}."
            )
        pictures, device = len(features[0]), features[0].device
        self._outputs = len(layer.weight)
        self._near: list[_Level] = []
        tables: list[_Table] = []
        for level in _levels(layer, features):
            h, w = level.size
            few = 16 * h * w <= size[0] * size[1]
            if few and pictures * h * w * self._outputs <= _TABLE_VALUES:
                places = _Places.of_pixels(level.size, size, device)
                tables.append(_Table(level.size, places, level.products().float()))
            else:
                self._near.append(level.projected(size))
        tables = _merged(tables, pictures, size, share)
        if tables:
            tables[0].values.add_(layer.bias)
        self._bias, self._dtype = layer.bias, layer.weight.dtype
        self._tables = [replace(t, values=t.values.to(self._dtype)) for t in tables]
        self._places = [_Places.of_pixels(level.size, size, device) for level in self._near]

    @property
    def tile(self) -> int:
        """Pixels whose surroundings are multiplied together."""
        return max(1, max(_CHUNK_VALUES, _TILE_VALUES) // self._outputs)

    def read(self, index: Tensor) -> Iterator[Tensor]:
        """Outputs of the layer, [P', O] at a time, at pixels [P] int64, which ascend."""
        chunk = max(1, _CHUNK_VALUES // self._outputs)
        for pixels in index.split(self.tile):
            near = [
                _NearLevel(level, places, places.of(pixels))
                for level, places in zip(self._near, self._places, strict=True)
            ]
            for start in range(0, len(pixels), chunk):
                yield self._chunk(pixels, slice(start, start + chunk), near)

    def _chunk(self, pixels: Tensor, part: slice, near: list[_NearLevel]) -> Tensor:
        mixed = [_mixed(t.values, *t.places.of(pixels[part])) for t in self._tables]
        total = mixed[0] if mixed else self._bias.repeat(len(pixels[part]), 1)
        for more in mixed[1:]:
            total += more
        factors = [pair for level in near for pair in level.factors(part)]
        return _added(total, factors, self._dtype)


class ProjectedMaps:
    """Maps of one picture on bases, as `FirstLayer` has them, read on a grid of `size` (H, W)."""

    def __init__(
        self, bases: Sequence[Tensor], features: Sequence[Tensor], size: tuple[int, int]
    ) -> None:
        self._tables = []
        for group, basis in zip(_groups(features), bases, strict=True):
            entry = list(basis.T.split([f.shape[1] for f in group]))
            shape = (group[0].shape[2], group[0].shape[3])
            values = _Level(shape, [_rows(f) for f in group], entry, None).products()
            places = _Places.of_pixels(shape, size, values.device)
            self._tables.append(_Table(shape, places, values))

    def at(self, index: Tensor) -> Tensor:
        """At pixels [P] int64, y * W + x: [P, sum R_g]."""
        index = index.to(self._tables[0].values.device)
        return torch.cat([_mixed(t.values, *t.places.of(index)) for t in self._tables], dim=1)


@dataclass(frozen=True)
class _Level:
    """All maps of one size, and what they are multiplied with.

    maps: [N * h * w, C_i] each, `entry` [C_i, Q] to each of them; their sum is then multiplied
    with `leave` [Q, O], where there is one.
    """

    size: tuple[int, int]
    maps: list[Tensor]
    entry: list[Tensor]
    leave: Tensor | None

    def products(self) -> Tensor:
        return self.of(self.maps)

    def of(self, values: list[Tensor]) -> Tensor:
        """Values [P, C_i] of the maps -> [P, O]."""
        total = values[0] @ self.entry[0]
        for value, entry in zip(values[1:], self.entry[1:], strict=True):
            total.addmm_(value, entry)
        return total if self.leave is None else total @ self.leave

    @property
    def cost(self) -> int:
        """Products a pixel takes for each output."""
        return sum(value.shape[1] for value in self.maps)

    def projected(self, size: tuple[int, int]) -> _Level:
        """As maps that are read where they are: projected on their basis, if they have to be mixed
        and have one."""
        if self.size == size:
            return self
        if self.leave is None:
            return _Level(self.size, [m.contiguous() for m in self.maps], self.entry, None)
        first = _Level(self.size, self.maps, self.entry, None).products()
        return _Level(self.size, [first], [self.leave], None)


def _levels(layer: FirstLayer, features: Sequence[Tensor]) -> list[_Level]:
    groups = _groups(features)
    weights = _weights(layer, group_channels(features))
    levels = []
    for group, (entry, leave) in zip(groups, weights, strict=True):
        maps = [_rows(f).to(layer.weight.dtype) for f in group]
        parts = list(entry.split([f.shape[1] for f in group]))
        size = (group[0].shape[2], group[0].shape[3])
        levels.append(_Level(size, maps, parts, leave))
    return levels


def group_channels(features: Sequence[Tensor]) -> list[int]:
    """Channels of each group of neighbouring maps of one size, which share a basis."""
    return [sum(f.shape[1] for f in group) for group in _groups(features)]


def _groups(features: Sequence[Tensor]) -> list[list[Tensor]]:
    groups: list[list[Tensor]] = []
    for f in features:
        if groups and groups[-1][0].shape[2:] == f.shape[2:]:
            groups[-1].append(f)
        else:
            groups.append([f])
    return groups


def _rows(f: Tensor) -> Tensor:
    """[N, C, h, w] -> [N * h * w, C], a view where it can be."""
    return f.permute(0, 2, 3, 1).reshape(-1, f.shape[1])


def _weights(layer: FirstLayer, channels: list[int]) -> list[tuple[Tensor, Tensor | None]]:
    """Of each group of maps, [C_g, O], or [C_g, R_g] and then [R_g, O]."""
    if not layer.bases:
        return [(part.T.contiguous(), None) for part in layer.weight.split(channels, dim=1)]
    if [basis.shape[1] for basis in layer.bases] != channels:
        raise ValueError("maps have other sizes than those that the interpreter was fitted on.")
    parts = layer.weight.split([len(basis) for basis in layer.bases], dim=1)
    return [_in_turn(basis, part) for basis, part in zip(layer.bases, parts, strict=True)]


def _in_turn(basis: Tensor, part: Tensor) -> tuple[Tensor, Tensor | None]:
    """A basis [R, C] and the weight after it [O, R], multiplied out where that is less work."""
    (r, c), o = basis.shape, len(part)
    if c * o <= r * (c + o):
        return basis.T @ part.T, None
    return basis.T.contiguous(), part.T.contiguous()


@dataclass(frozen=True)
class _Places:
    """Where the pixels of a grid lie among the rows and columns of a map: bilinear neighbours.

    rows, columns: (first neighbour [H] int64, share of the second [H] float32). The second follows
    the first, unless its share is 0.
    """

    shape: tuple[int, int]
    rows: tuple[Tensor, Tensor]
    columns: tuple[Tensor, Tensor]

    @classmethod
    def of_pixels(
        cls, shape: tuple[int, int], size: tuple[int, int], device: torch.device
    ) -> _Places:
        """The map's values are those of the middles of its pixels."""
        rows, columns = (
            _between((torch.arange(n, device=device) + 0.5) * (h / n) - 0.5, h)
            for h, n in zip(shape, size, strict=True)
        )
        return cls(shape, rows, columns)

    @classmethod
    def of_nodes(
        cls, shape: tuple[int, int], size: tuple[int, int], device: torch.device
    ) -> _Places:
        """The map's values are those of k / (shape - 1) of the picture, from edge to edge."""
        rows, columns = (
            _between((torch.arange(n, device=device) + 0.5) * ((h - 1) / n), h)
            for h, n in zip(shape, size, strict=True)
        )
        return cls(shape, rows, columns)

    @classmethod
    def of_map_at_nodes(
        cls, shape: tuple[int, int], nodes: tuple[int, int], device: torch.device
    ) -> _Places:
        """The nodes k / (nodes - 1) of the picture among a map's pixels."""
        rows, columns = (
            _between(torch.arange(n, device=device) * (h / (n - 1)) - 0.5, h)
            for h, n in zip(shape, nodes, strict=True)
        )
        return cls(shape, rows, columns)

    def of(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [P] -> neighbours [P, 4] int64 among all rows of the maps, shares [P, 4]."""
        height, width = len(self.rows[0]), len(self.columns[0])
        row, x = pixels // width, pixels % width
        n, y = row // height, row % height
        h, w = self.shape
        top, down = self.rows[0][y], self.rows[1][y]
        left, right = self.columns[0][x], self.columns[1][x]
        first = (n * h + top) * w + left
        next_row, next_column = (down > 0) * w, (right > 0).long()
        below = first + next_row
        index = torch.stack([first, first + next_column, below, below + next_column], dim=1)
        up, near = 1 - down, 1 - right
        return index, torch.stack([up * near, up * right, down * near, down * right], dim=1)


def _between(at: Tensor, count: int) -> tuple[Tensor, Tensor]:
    at = at.double().clamp(0, count - 1)
    low = at.floor()
    return low.long(), (at - low).float()


@dataclass(frozen=True)
class _Table:
    """Products [N * h * w, O] of maps of `shape`, and where pixels find theirs."""

    shape: tuple[int, int]
    places: _Places
    values: Tensor


def _merged(
    tables: list[_Table], pictures: int, size: tuple[int, int], share: float
) -> list[_Table]:
    """Fewer tables of the same sum, where making them costs less than it spares.

    A map is linear between the middles of its pixels, (i + 1/2) / h. Where h divides r, all of
    those are among the nodes k / 2r, k = 0 ... 2r, so that the values there say it all.
    """
    wanted = share * pictures * size[0] * size[1]
    best, chosen = 0.0, None
    for largest in tables:
        fits = [t for t in tables if _divides(t.shape, largest.shape)]
        count = pictures * (2 * largest.shape[0] + 1) * (2 * largest.shape[1] + 1)
        spared = wanted * (len(fits) - 1) - count * len(fits)
        if spared > best and count * largest.values.shape[1] <= _TABLE_VALUES:
            best, chosen = spared, (largest.shape, fits)
    if chosen is None:
        return tables
    (h, w), fits = chosen
    nodes = (2 * h + 1, 2 * w + 1)
    device = fits[0].values.device
    index = torch.arange(pictures * nodes[0] * nodes[1], device=device)
    total = torch.zeros(len(index), fits[0].values.shape[1]).to(fits[0].values)
    for t in fits:
        total += _mixed(t.values, *_Places.of_map_at_nodes(t.shape, nodes, device).of(index))
    merged = _Table(nodes, _Places.of_nodes(nodes, size, device), total)
    return [merged, *(t for t in tables if all(t is not fit for fit in fits))]


def _divides(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return other[0] % one[0] == 0 and other[1] % one[1] == 0


class _NearLevel:
    """A level as a tile of pixels reads it: multiplied before it is mixed, or after."""

    def __init__(self, level: _Level, places: _Places, found: tuple[Tensor, Tensor]) -> None:
        self._level = level
        index, self._shares = found
        self._is_grid = level.size == (len(places.rows[0]), len(places.columns[0]))
        first, last = int(index[0, 0]), int(index[-1, 3]) + 1
        if self._is_grid:
            self._index = index[:, 0]
            return
        width = level.size[1]
        first, last = first // width * width, -(-last // width) * width
        self._index = index - first
        self._maps = [m[first:last] for m in level.maps]
        pixels = len(index)
        before = (last - first) * level.cost + _MIX_COST * pixels
        self._products = level.of(self._maps) if before < pixels * level.cost else None

    def factors(self, part: slice) -> list[tuple[Tensor, Tensor | None]]:
        """Values [P', C] of a part of the tile, and what they are multiplied with, [C, O], if they
        were not yet: their sum is what this level adds to the outputs."""
        index = self._index[part]
        if self._is_grid:
            values = [_picked(m, index) for m in self._level.maps]
        elif self._products is not None:
            return [(_mixed(self._products, index, self._shares[part]), None)]
        else:
            values = [_mixed(m, index, self._shares[part]) for m in self._maps]
        if self._level.leave is None:
            return list(zip(values, self._level.entry, strict=True))
        inner = _Level(self._level.size, values, self._level.entry, None).products()
        return [(inner, self._level.leave)]


def _added(
    total: Tensor, factors: list[tuple[Tensor, Tensor | None]], dtype: torch.dtype
) -> Tensor:
    """Outputs [P, O] with all products added. Of 16 bits these are one, rounded once."""
    if dtype != torch.float32:
        for values, weight in factors:
            if weight is None:
                total += values
        pairs = [(values, weight) for values, weight in factors if weight is not None]
        if pairs:
            rows, weights = zip(*pairs, strict=True)
            total.addmm_(torch.cat(rows, dim=1), torch.cat(weights))
        return total
    for values, weight in factors:
        if weight is None:
            total += values
        else:
            total.addmm_(values, weight)
    return total


def _picked(values: Tensor, index: Tensor) -> Tensor:
    """Rows of [N, C], also where it is a transposed view."""
    if values.stride(1) == 1:
        return values.index_select(0, index)
    return values.T.index_select(1, index).T


def _mixed(values: Tensor, index: Tensor, shares: Tensor) -> Tensor:
    """Values [N, C] at neighbours [P, 4] with shares [P, 4] -> [P, C]."""
    return F.embedding_bag(index, values, mode="sum", per_sample_weights=shares.to(values.dtype))
