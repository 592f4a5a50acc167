"""Changes of shape, light and colour that leave the parts what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

_MULTIPLE = 32


@dataclass(frozen=True)
class AugmentSettings:
    """How far pictures may be changed.

    rotation: degrees to either side. scale: largest factor up or down. aspect: the same for width
    over height (as its square root). shift: share of the side.
    mirror: half of the pictures. swap: the class that each class becomes in a mirrored picture,
    where left and right differ; () = itself. crop: side of the square cut out at random, as a
    share of the picture's (in multiples of 32 px); it costs less and learns as much. color: 0
    leaves colours alone, 1 turns half of the pictures to any hue and changes gain, gamma,
    saturation and light.
    """

    rotation: float = 20.0
    scale: float = 1.25
    aspect: float = 1.1
    shift: float = 0.1
    mirror: bool = True
    swap: tuple[int, ...] = ()
    crop: float = 0.75
    color: float = 1.0

    def for_classes(self, mirrored: tuple[int, ...] | None) -> AugmentSettings:
        """With these classes in mirrored pictures, or none mirrored when it is None."""
        mirror = self.mirror and mirrored is not None
        trade = mirror and mirrored != tuple(range(len(mirrored or ())))
        return replace(self, mirror=mirror, swap=(mirrored or ()) if trade else ())

    def at_any_angle(self) -> AugmentSettings:
        """For pictures that have no up."""
        return replace(self, rotation=180.0)


def crop_side(side: int, share: float) -> int:
    """Side of a crop in px: a multiple of 32, as the network halves five times."""
    return min(side, max(_MULTIPLE, round(side * share / _MULTIPLE) * _MULTIPLE))


def warp(count: int, settings: AugmentSettings, window: float, random: torch.Generator) -> Tensor:
    """Affine maps [N, 2, 3] float32 for `moved`: where each output pixel is looked up.

    window: side of the crop over the picture's, in (0, 1].
    """
    angle = _even(count, settings.rotation, random) * math.pi / 180
    scale = torch.exp(_even(count, math.log(settings.scale), random))
    aspect = torch.exp(_even(count, math.log(settings.aspect), random))
    flip = torch.ones(count)
    if settings.mirror:
        flip = torch.where(torch.rand(count, generator=random) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    x = [cos * aspect * flip, -sin * aspect, _even(count, 2 * settings.shift, random)]
    y = [sin / aspect * flip, cos / aspect, _even(count, 2 * settings.shift, random)]
    affine = torch.stack([torch.stack(x, dim=1), torch.stack(y, dim=1)], dim=1)
    corner = (torch.rand(count, 2, 1, generator=random) * 2 - 1) * (1 - window)
    shift = affine[:, :, 2:] + affine[:, :, :2] @ corner
    return torch.cat([affine[:, :, :2] * window, shift], dim=2)


def moved(values: Tensor, affine: Tensor, side: int) -> Tensor:
    """Pictures or maps [N, C, H, W] -> [N, C, side, side], bilinear, edges repeated outwards."""
    grid = F.affine_grid(affine, [len(values), 1, side, side], align_corners=False)
    return F.grid_sample(values, grid, padding_mode="border", align_corners=False)


def moved_masks(masks: Tensor, affine: Tensor, side: int) -> Tensor:
    """Masks [N, H, W] moved by nearest neighbour; returns int64 [N, side, side]."""
    values = masks[:, None].float()
    grid = F.affine_grid(affine, [len(masks), 1, side, side], align_corners=False)
    found = F.grid_sample(values, grid, "nearest", padding_mode="border", align_corners=False)
    return found[:, 0].long()


def swapped(masks: Tensor, affine: Tensor, swap: Sequence[int]) -> Tensor:
    """Masks [N, H, W] int64 with the classes of mirrored pictures swapped; others stay."""
    if not swap:
        return masks
    table = torch.arange(256, device=masks.device)
    table[: len(swap)] = torch.tensor(swap, device=masks.device)
    mirrored = torch.linalg.det(affine[:, :, :2].cpu()).to(masks.device) < 0
    return torch.where(mirrored[:, None, None], table[masks], masks)


def recolored(images: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Pictures [N, 3, H, W] float32 in [-1, 1] in other colours and light; the same range.

    One draw a picture: gamma, a turn about the grey axis (any hue for half, a little for the
    others), saturation, a gain a channel, an offset, and a linear gradient of light.
    """
    n, _, height, width = images.shape

    def even(*shape: int) -> Tensor:
        drawn = (torch.rand(n, *shape, generator=random) * 2 - 1) * strength
        return drawn.to(images.device)

    x = ((images + 1) / 2).clamp(0, 1) ** torch.exp(even(1, 1, 1) * 0.35)
    turns = _hue_turns(strength, n, random).to(images.device)
    x = torch.einsum("nij,njhw->nihw", turns, x)
    x = x * (1 + even(3, 1, 1) * 0.25) + even(1, 1, 1) * 0.1
    light = _gradients(n, height, width, random).to(images.device)
    x = x * (1 + light * (even(1, 1).abs() * 0.35))[:, None]
    return x.clamp(0, 1) * 2 - 1


def _hue_turns(strength: float, count: int, random: torch.Generator) -> Tensor:
    """Colour matrices [N, 3, 3]: rotations about (1, 1, 1) times a saturation."""
    spread = torch.where(torch.rand(count, generator=random) < 0.5, math.pi, math.pi / 10)
    angle = _even(count, strength, random) * spread
    saturation = torch.exp(_even(count, strength, random) * 0.5)
    grey = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    across = (torch.cos(angle) * saturation)[:, None, None] * (torch.eye(3) - grey)
    return grey + across + (torch.sin(angle) * saturation)[:, None, None] * cross


def _gradients(count: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """[N, H, W]: planes in any direction, in about [-1.4, 1.4]."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    angle = (torch.rand(count, generator=random) * 2 * math.pi)[:, None, None]
    return torch.cos(angle) * x + torch.sin(angle) * y


def _even(count: int, spread: float, random: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=random) * 2 - 1) * spread
