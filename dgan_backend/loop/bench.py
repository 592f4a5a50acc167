"""What jobs work with: settings, board, versions, and clients of Label Studio."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from dgan_backend.labelstudio.sites import Sites
from dgan_backend.loop.board import Board
from dgan_backend.loop.twins import Twins
from dgan_backend.predictor import Predictor
from dgan_backend.registry import Registry
from dgan_backend.settings import Settings
from dgan_backend.vault import Vault


@dataclass(frozen=True)
class Bench:
    settings: Settings
    board: Board
    registry: Registry
    predictor: Predictor
    sites: Sites
    twins: Twins

    @property
    def vault(self) -> Vault:
        return Vault(self.settings.models)

    @classmethod
    def open(cls, settings: Settings, client: redis.Redis) -> Bench:
        registry = Registry.of(settings)
        return cls(
            settings,
            Board(client),
            registry,
            Predictor(settings, registry),
            Sites(settings),
            Twins.of_settings(settings),
        )
