"""The mapping network that StyleGAN2 and StyleGAN3 share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgan_backend.generators.network import (
    Architecture,
    check_latents,
    normalize_second_moment,
    truncated,
)
from dgan_backend.generators.operators import FullyConnected


class MappingNetwork(nn.Module):
    """z [N, z_dim] (and c [N, c_dim] when conditional) -> w+ [N, num_ws, w_dim]."""

    w_avg: Tensor

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.config = config
        self.num_layers = config.mapping_layers
        sizes = config.mapping_widths
        if config.c_dim:
            self.embed = FullyConnected(config.c_dim, config.w_dim)
            sizes[0] += config.w_dim
        for i in range(config.mapping_layers):
            layer = FullyConnected(sizes[i], sizes[i + 1], True, config.mapping_lr_multiplier)
            self.add_module(f"fc{i}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """truncation_cutoff: rows of w+ that are truncated; None = all."""
        w = self.style(z, c)[:, None].repeat(1, self.config.num_ws, 1)
        return truncated(w, self.w_avg, truncation, truncation_cutoff)

    def style(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """One w a sample, [N, w_dim], before it is repeated for each layer and truncated."""
        check_latents(self.config, z, c)
        x = normalize_second_moment(z.float())
        if c is not None and self.config.c_dim:
            x = torch.cat([x, normalize_second_moment(self.embed(c.float()))], dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x
