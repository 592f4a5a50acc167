"""Inversion: picture -> w+, by an encoder in one pass and a few optimisation steps."""
