"""Neural-RDM, reproduced: learnable gates on every residual unit of a diffusion network, from data to table."""

__version__ = "0.1.0"
