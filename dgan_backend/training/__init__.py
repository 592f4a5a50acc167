"""Training a StyleGAN2 together with its inversion encoder on a folder of pictures."""
