"""PolygonLabels rings: outlines of label maps, and the pixels inside a ring.

A pixel is inside a ring when its centre is (non-zero winding, as a canvas fills). Outlines run
along pixel edges, so an outline with tolerance 0 holds exactly the pixels it was made of.

What one ring cannot express is a hole. Two things make up for it:
- order: rings are sorted by area, so what lies in the hole of another part is painted after it,
  and a part inside its parent after the parent, whose ring covers it;
- cuts: a hole that no later ring paints (background, or pixels of an ancestor) is opened by
  cutting the part in two along a row through the hole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dgan_backend.partonomy import Partonomy

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

_LEAST_IOU = 0.97  # of a simplified ring with what it stands for


@dataclass(frozen=True)
class Ring:
    """One outline.

    index:  class
    points: [P, 2] float64, x and y in pixels from the upper left corner of the picture
    box:    rows and columns of the picture that it lies in
    own:    [h, w] bool in that box, the pixels of the class itself (not its parts') inside
    area:   pixels inside
    """

    index: int
    points: Points
    box: tuple[slice, slice]
    own: Mask
    area: int


def rings(
    labels: npt.NDArray[np.uint8],
    partonomy: Partonomy,
    tolerance: float = 0.75,
    min_area: int = 0,
) -> list[Ring]:
    """The outlines of a label map [H, W] uint8, each before those that lie on it.

    tolerance: pixels that a simplified outline may stray (0 = exact); an outline that would lose
    more than 3 % of its overlap keeps more points.
    min_area: smaller islands and holes are left out, but a class never vanishes with its largest.
    """
    found = [
        ring
        for index in partonomy.class_order()
        for ring in _rings_of_class(labels, partonomy, index, tolerance, min_area)
    ]
    return sorted(found, key=lambda ring: -ring.area)  # stable: parents stay before their parts


MOST_CROSSINGS = 20_000_000  # of edges and rows of pixels; drawn polygons have thousands
_BLOCK = 500_000  # crossings that are worked on at a time, or those of one edge


def rasterize(points: Points, height: int, width: int) -> Mask:
    """[P, 2] float64 x and y in pixels -> [H, W] bool: pixels whose centre is inside. Raises
    ValueError when the edges cross too many rows."""
    points = points.clip(-1e9, 1e9)  # far outside; differences of larger ones are not numbers
    start, end = points, np.roll(points, -1, axis=0)
    sign = np.sign(end[:, 1] - start[:, 1]).astype(np.int64)
    top = np.minimum(start[:, 1], end[:, 1])
    bottom = np.maximum(start[:, 1], end[:, 1])
    first = np.clip(np.ceil(top - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(bottom - 0.5), 0, height).astype(np.int64)
    count = last - first  # rows whose centre line the edge crosses
    if int(count.sum()) > MOST_CROSSINGS:
        raise ValueError(f"its {len(points)} points cross the picture too often")
    winding = np.zeros((height, width + 1), dtype=np.int32)
    crossings = np.cumsum(count)
    bounds = np.searchsorted(crossings, np.arange(_BLOCK, crossings[-1], _BLOCK))
    for edges in np.split(np.arange(len(points)), bounds):
        here = count[edges]
        edge = np.repeat(edges, here)
        row = np.arange(here.sum()) - np.repeat(np.cumsum(here) - here, here) + first[edge]
        slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
        x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(winding, (row, column), sign[edge])
    np.cumsum(winding, axis=1, dtype=np.int32, out=winding)
    inside: Mask = winding[:, :width] != 0
    return inside


def _rings_of_class(
    labels: npt.NDArray[np.uint8],
    partonomy: Partonomy,
    index: int,
    tolerance: float,
    min_area: int,
) -> Iterator[Ring]:
    own = labels == index
    if not own.any():
        return
    covered = own | partonomy.descends[:, index][labels]
    # No later ring paints these, should they lie in a hole:
    above = (labels == 0) | partonomy.descends[index][labels]
    pieces = [piece for piece in _components(covered) if (own[piece.box] & piece.mask).any()]
    largest = max(int(piece.mask.sum()) for piece in pieces)
    for piece in pieces:
        if piece.mask.sum() >= min(min_area, largest):
            yield from _rings_of_piece(piece, own, above, index, tolerance, min_area)


@dataclass(frozen=True)
class _Piece:
    """A crop of a mask: `mask` [h, w] bool stands at `box` of the picture."""

    box: tuple[slice, slice]
    mask: Mask


def _components(mask: Mask, offset: tuple[int, int] = (0, 0)) -> list[_Piece]:
    """The 4-connected pieces of a mask that stands at `offset` (row, column) of the picture."""
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    pieces = []
    for number in range(1, count):
        left, top, width, height = (int(value) for value in stats[number][:4])
        crop = numbers[top : top + height, left : left + width] == number
        row, column = top + offset[0], left + offset[1]
        pieces.append(_Piece((slice(row, row + height), slice(column, column + width)), crop))
    return pieces


def _rings_of_piece(
    piece: _Piece, own: Mask, above: Mask, index: int, tolerance: float, min_area: int
) -> Iterator[Ring]:
    todo = [piece]
    while todo:
        piece = todo.pop()
        own_here = own[piece.box] & piece.mask
        if not own_here.any():
            continue
        outline = _outline(piece.mask)
        filled = rasterize(outline, *piece.mask.shape)
        hole = filled & ~piece.mask & above[piece.box]
        if hole.sum() > min_area or (hole.any() and not min_area):
            todo.extend(_cut(piece, hole))
            continue
        points = _simplified(outline, filled, tolerance)
        corner = np.array([piece.box[1].start, piece.box[0].start], dtype=np.float64)
        yield Ring(index, points + corner, piece.box, own_here, int(filled.sum()))


def _cut(piece: _Piece, hole: Mask) -> list[_Piece]:
    """The piece cut along a row through the middle of the hole, which opens it."""
    rows = np.flatnonzero(hole.any(axis=1))
    cut = int(rows[0] + rows[-1] + 1) // 2
    row, column = piece.box[0].start, piece.box[1].start
    upper = _components(piece.mask[:cut], (row, column))
    return upper + _components(piece.mask[cut:], (row + cut, column))


def _outline(mask: Mask) -> Points:
    """The outer edge of one 4-connected piece [h, w] bool: [P, 2] float64, x and y in pixels."""
    height, width = mask.shape
    # On a grid of half pixels, each pixel is a closed square of 3 x 3 points that shares its
    # rim with its neighbours; the border of the squares' union is the edge of the pixels.
    grid = np.zeros((2 * height + 3, 2 * width + 3), dtype=np.uint8)
    grid[2:-2:2, 2:-2:2] = mask
    squares = cv2.dilate(grid, np.ones((3, 3), dtype=np.uint8))
    contours, _ = cv2.findContours(squares, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points: Points = (contours[0][:, 0, :].astype(np.float64) - 1) / 2
    return points


def _simplified(outline: Points, filled: Mask, tolerance: float) -> Points:
    while tolerance >= 0.25:
        points = cv2.approxPolyDP(outline.astype(np.float32), tolerance, closed=True)[:, 0, :]
        simple: Points = points.astype(np.float64)
        if len(simple) >= 3:
            inside = rasterize(simple, *filled.shape)
            if (inside & filled).sum() >= _LEAST_IOU * (inside | filled).sum():
                return simple
        tolerance /= 2
    return outline
