"""UNet++ for medical and biological images: train once, deploy at the depth you can afford."""

__version__ = "0.1.0"
