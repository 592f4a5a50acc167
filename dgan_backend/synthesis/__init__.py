"""Sampled pictures as tasks: which ones, with what labels, where they go, and how they leave."""
