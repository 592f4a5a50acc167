"""What all families of generators have in common: their numbers, their outputs, their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from dgan_backend.errors import DganError

Self = TypeVar("Self", bound="Architecture")


@dataclass(frozen=True)
class Architecture:
    """The numbers that every family has.

    resolution: px of the square pictures, a power of two from 8. c_dim: classes of a conditional
    generator, 0 = unconditional. channel_base, channel_max: how wide the layers are.
    """

    resolution: int
    img_channels: int = 3
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_features: int | None = None
    mapping_lr_multiplier: float = 0.01
    channel_base: int = 32768
    channel_max: int = 512

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise DganError(f"resolution {self.resolution} is not a power of two from 8 upward.")

    @property
    def num_ws(self) -> int:
        """Rows of w+."""
        raise NotImplementedError

    @property
    def mapping_widths(self) -> list[int]:
        """Widths of the mapping network: z, the hidden layers, w."""
        hidden = self.mapping_features or self.w_dim
        return [self.z_dim, *[hidden] * (self.mapping_layers - 1), self.w_dim]

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}

    @classmethod
    def from_json(cls: type[Self], value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote; raises DganError that names an unknown or missing key."""
        unknown = sorted(set(value) - {field.name for field in fields(cls)})
        if unknown:
            raise DganError(f"unknown architecture numbers: {', '.join(unknown)}.")
        if "resolution" not in value:
            raise DganError("the architecture needs a resolution.")
        numbers: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if v != []
        }
        return cls(**numbers)


@dataclass(frozen=True)
class SynthesisOutput:
    """What a latent becomes.

    images:   [N, C, H, W] float32, nominally in [-1, 1], not clamped
    features: the family's feature maps, coarse to fine, [N, C_l, H_l, W_l], float32 or what was
              asked for; each covers exactly the picture, pixel centres at (column + 0.5) / W_l
    """

    images: Tensor
    features: list[Tensor]
    feature_names: list[str]


class Synthesis(nn.Module):
    """w+ [N, num_ws, w_dim] -> picture and feature maps."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.config = config

    @property
    def feature_names(self) -> list[str]:
        raise NotImplementedError

    @property
    def feature_channels(self) -> list[int]:
        raise NotImplementedError

    def forward(
        self,
        w: Tensor,
        use_noise: bool = True,
        features: bool = True,
        dtype: torch.dtype | None = None,
    ) -> SynthesisOutput:
        """features: keep the maps; without them a picture takes less memory.

        dtype: of the maps and of what is convolved, None = of w. Styles, norms and what
        adds up to the picture are float32 whatever it is.
        """
        raise NotImplementedError

    def check(self, w: Tensor) -> None:
        wanted = [self.config.num_ws, self.config.w_dim]
        if w.ndim != 3 or list(w.shape[1:]) != wanted:
            raise ValueError(f"w must be [N, {wanted[0]}, {wanted[1]}], not {list(w.shape)}.")


class Network(nn.Module):
    """A family's mapping and synthesis; the state dict has the names of published checkpoints.

    mapping: (z [N, z_dim], c [N, c_dim] or None, truncation, truncation_cutoff) -> w+.
    redundant: endings of tensors that follow from the config, so that no file needs them.
    optional: endings of tensors that published files may lack.
    exact: endings of tensors that are too sensitive to be stored in float16.
    channels_last: whether convolutions are faster where the channels of a pixel lie together.
    """

    redundant: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    exact: ClassVar[tuple[str, ...]] = ()
    channels_last: ClassVar[bool] = False

    config: Architecture
    synthesis: Synthesis
    mapping: Callable[..., Tensor]

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load weights by name; the redundant and optional ones may be left out.

        Raises DganError that names missing, unknown or misshapen tensors.
        """
        own = self.state_dict()
        needless = self.redundant + self.optional
        missing = sorted(k for k in own if k not in tensors and not k.endswith(needless))
        unknown = sorted(set(tensors) - set(own))
        shapes = sorted(k for k in tensors if k in own and tensors[k].shape != own[k].shape)
        for problem, names in (("misses", missing), ("has unknown", unknown)):
            if names:
                raise DganError(f"the generator file {problem} tensors: {_few(names)}.")
        if shapes:
            k = shapes[0]
            found, wanted = list(tensors[k].shape), list(own[k].shape)
            raise DganError(f"tensor {k} is {found}, but the card says {wanted} ({len(shapes)}x).")
        self.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)


def check_latents(config: Architecture, z: Tensor, c: Tensor | None) -> None:
    """Raises ValueError unless z is [N, z_dim] and c, where there are classes, [N, c_dim]."""
    if z.ndim != 2 or z.shape[1] != config.z_dim:
        raise ValueError(f"z must be [N, {config.z_dim}], not {list(z.shape)}.")
    wanted = [z.shape[0], config.c_dim]
    if config.c_dim and (c is None or list(c.shape) != wanted):
        found = None if c is None else list(c.shape)
        raise ValueError(f"this generator is conditional: c must be {wanted}, not {found}.")


def normalize_second_moment(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def truncated(w: Tensor, average: Tensor, truncation: float, cutoff: int | None) -> Tensor:
    """Move the first `cutoff` rows (all when None) of w+ towards an average (StyleGAN, eq. 1).

    average: [w_dim], or [num_ws, w_dim] where each row has its own.
    """
    if truncation == 1.0:
        return w
    near = average + truncation * (w - average)
    return near if cutoff is None else torch.cat([near[:, :cutoff], w[:, cutoff:]], dim=1)


def _few(names: Sequence[str], count: int = 4) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
