"""The style interpreter: an ensemble of pixel classifiers over a generator's feature maps."""

from dgan_backend.interpreter.ensemble import Ensemble, PixelPrediction
from dgan_backend.interpreter.fit import FitSettings, fit_ensemble

__all__ = ["Ensemble", "FitSettings", "PixelPrediction", "fit_ensemble"]
