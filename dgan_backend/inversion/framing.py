"""Pictures of any size <-> the generator's square, by a reversible rule.

A picture is put in the middle of the smallest square that holds it, its edge pixels repeated
outwards, and the square is resized; masks are framed with `ignore` outside. Results on the
square are cut back and resized to the picture's own size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dgan_backend.pictures import Picture, resize

_TILE_VALUES = 16 * 2**20  # classes x pixels that are held at once (64 MB)


@dataclass(frozen=True)
class Frame:
    """Where a picture of `height` x `width` lies in its square."""

    height: int
    width: int

    @property
    def side(self) -> int:
        return max(self.height, self.width)

    @property
    def top(self) -> int:
        return (self.side - self.height) // 2

    @property
    def left(self) -> int:
        return (self.side - self.width) // 2

    def picture(self, picture: Picture, resolution: int) -> Picture:
        """[H, W, 3] uint8 -> [R, R, 3] uint8.

        The long axis is resized before the short one is padded, so that a long strip never
        becomes a huge square; resizing one axis commutes with padding the other.
        """
        rows, columns = self._margins()
        if self.width >= self.height:
            strip, columns = resize(picture, self.height, resolution), (0, 0)
        else:
            strip, rows = resize(picture, resolution, self.width), (0, 0)
        square = np.pad(strip, (rows, columns, (0, 0)), mode="edge")
        return resize(square, resolution, resolution)

    def mask(self, mask: npt.NDArray[np.uint8], side: int, ignore: int) -> npt.NDArray[np.uint8]:
        """[H, W] uint8 -> [side, side] uint8 by nearest neighbour, `ignore` outside."""
        square = np.pad(mask, self._margins(), constant_values=ignore)
        if side == self.side:
            return square
        return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.NEAREST))

    def labels(self, probabilities: Tensor) -> npt.NDArray[np.uint8]:
        """[K, R, R] on the square -> [H, W] uint8: resized bilinearly, then the likeliest.

        A mean of neighbours that agree on the likeliest class has that class, too, so only
        pixels between neighbours that do not are resized.
        """
        likeliest = probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()
        resolution = len(likeliest)
        y = self._above(np.arange(self.top, self.top + self.height), resolution)
        x = self._above(np.arange(self.left, self.left + self.width), resolution)
        padded = np.pad(likeliest, 1, mode="edge")  # cell [i, j] lies between i, j and i + 1, j + 1
        corner = padded[:-1, :-1]
        mixed = (
            (corner != padded[1:, :-1]) | (corner != padded[:-1, 1:]) | (corner != padded[1:, 1:])
        )
        labels = corner[y][:, x]
        rows, columns = np.nonzero(mixed[y][:, x])
        several = max(1, _TILE_VALUES // len(probabilities))
        for begin in range(0, len(rows), several):
            part = slice(begin, begin + several)
            at = self._places(rows[part], columns[part])[None]
            found = self._resample(probabilities, at)[:, 0].argmax(dim=0)
            labels[rows[part], columns[part]] = found.to(torch.uint8).cpu().numpy()
        return labels

    def map(self, values: Tensor) -> npt.NDArray[np.float32]:
        """[R, R] on the square -> [H, W] float32, resized bilinearly."""
        at = self._places(np.arange(self.height)[:, None], np.arange(self.width)[None])
        return self._resample(values[None].float(), at)[0].cpu().numpy()

    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        bottom = self.side - self.height - self.top
        return (self.top, bottom), (self.left, self.side - self.width - self.left)

    def _above(self, along: npt.NDArray[np.intp], resolution: int) -> npt.NDArray[np.intp]:
        """Of pixels of the square: the cell between two values of [resolution] that each is in.

        Cell 0 lies before the first value, cell i between the values i - 1 and i.
        """
        at = (along + 0.5) / self.side * resolution - 0.5
        return np.floor(at).astype(np.intp) + 1

    def _places(self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Tensor:
        """Pixels of the picture, two arrays that broadcast, on the square: [..., 2] in [-1, 1]."""
        y = torch.from_numpy(rows + self.top + 0.5).float() / self.side * 2 - 1
        x = torch.from_numpy(columns + self.left + 0.5).float() / self.side * 2 - 1
        return torch.stack(torch.broadcast_tensors(x, y), dim=-1)

    @staticmethod
    def _resample(values: Tensor, places: Tensor) -> Tensor:
        """[K, R, R] on the square at places [H, W, 2]: [K, H, W]."""
        return torch.nn.functional.grid_sample(
            values[None], places[None].to(values.device), padding_mode="border", align_corners=False
        )[0]
