"""Generators: mapping `z -> w`, synthesis `w -> picture + feature maps`."""

from dgan_backend.generators.native import Generator
from dgan_backend.generators.references import load_generator, shipped_generators

__all__ = ["Generator", "load_generator", "shipped_generators"]
