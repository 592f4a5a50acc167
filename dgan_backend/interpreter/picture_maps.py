"""What a picture itself says of each pixel, as maps beside the generator's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOWS = (5, 15, 31)  # px of the local means, for a grid of 128 px
PICTURE_CHANNELS = 3 + 3 * len(WINDOWS) + 2


def picture_maps(image: Tensor) -> Tensor:
    """Colour, local mean colours and position of each pixel.

    image: [N, 3, S, S] float32 in [-1, 1]. Returns [N, 14, S, S]: red, green, blue, their means
    in squares of 5, 15 and 31 px, x and y in [-1, 1].
    """
    means = [
        F.avg_pool2d(F.pad(image, [w // 2] * 4, mode="replicate"), w, stride=1) for w in WINDOWS
    ]
    height, width = image.shape[2:]
    rows = torch.linspace(-1, 1, height, device=image.device)
    columns = torch.linspace(-1, 1, width, device=image.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([x, y]).expand(len(image), -1, -1, -1)
    return torch.cat([image, *means, places], dim=1)
