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
        """[K, R, R] on the square -> [H, W] uint8: resized bilinearly, then the likeliest."""
        rows = max(1, _TILE_VALUES // (len(probabilities) * self.width))
        parts = []
        for top in range(0, self.height, rows):
            bottom = min(top + rows, self.height)
            part = self._resample(probabilities, top, bottom)
            parts.append(part.argmax(dim=0).to(torch.uint8).cpu().numpy())
        return np.concatenate(parts)

    def map(self, values: Tensor) -> npt.NDArray[np.float32]:
        """[R, R] on the square -> [H, W] float32, resized bilinearly."""
        return self._resample(values[None].float(), 0, self.height)[0].cpu().numpy()

    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        bottom = self.side - self.height - self.top
        return (self.top, bottom), (self.left, self.side - self.width - self.left)

    def _resample(self, values: Tensor, top: int, bottom: int) -> Tensor:
        """Rows top..bottom of the picture from [K, R, R] on the square."""
        rows = torch.arange(top, bottom) + self.top + 0.5
        columns = torch.arange(self.width) + self.left + 0.5
        y = (rows / self.side * 2 - 1)[:, None].expand(-1, self.width)
        x = (columns / self.side * 2 - 1)[None].expand(bottom - top, -1)
        grid = torch.stack([x, y], dim=-1)[None].to(values.device)
        return torch.nn.functional.grid_sample(
            values[None], grid, padding_mode="border", align_corners=False
        )[0]
