"""dgan-backend: a Label Studio ML backend after DatasetGAN (Zhang et al., CVPR 2021)."""

__version__ = "0.1.0"
