"""What the interpreter reads of a latent, and the latents of pictures from outside."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgan_backend.generators import Generator
from dgan_backend.interpreter.picture_maps import picture_maps
from dgan_backend.inversion.encoder import Encoder
from dgan_backend.inversion.invert import Inversion, InversionSettings, invert
from dgan_backend.pictures import Picture, to_tensor

_BATCH = 8


def feature_maps(
    generator: Generator, w: Tensor, maps: str, picture: Tensor | None = None
) -> list[Tensor]:
    """What the interpreter reads: [N, C_l, H_l, W_l] each.

    w: [N, num_ws, w_dim]. maps: 'generator', or 'generator+picture', which adds the picture's own
    maps. picture: [N, 3, S, S] in [-1, 1] that they are read from; None = the one that w makes.
    """
    return images_and_maps(generator, w, maps, picture)[1]


def images_and_maps(
    generator: Generator,
    w: Tensor,
    maps: str,
    picture: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The pictures of w [N, 3, S, S], and with them what `feature_maps` returns.

    dtype: of the generator's maps; None = w's.
    """
    with torch.no_grad():
        out = generator.synthesis(w, dtype=dtype)
        found = list(out.features)
        if maps != "generator":
            found.append(picture_maps(out.images if picture is None else picture))
    return out.images, found


def invert_all(
    generator: Generator,
    encoder: Encoder,
    squares: list[Picture],
    settings: InversionSettings | None,
) -> Inversion:
    images = to_tensor(np.stack(squares)).to(generator.device)
    batches = images.split(min(_BATCH, generator.at_once))
    parts = [invert(generator, encoder, batch, settings) for batch in batches]
    columns = zip(*((p.w, p.images, p.errors) for p in parts), strict=True)
    return Inversion(*(torch.cat(column) for column in columns))
