"""The section `performance` of a parameter file: how fast networks compute, and how exactly."""

from __future__ import annotations

from typing import Literal

from rdm.params.section import Section

# float32: without TF32. tf32: float32 whose products an NVIDIA GPU rounds to 10 bits; elsewhere the same as float32.
# bfloat16: autocast: products, convolutions and what passes from block to block; weights, their average, gradients,
# Adam, normalisation, loss, guidance and the sampler's state stay float32
Precision = Literal["float32", "tf32", "bfloat16"]


class Performance(Section):
    """How networks compute, by stage. Scores and the training of an autoencoder are float32 whatever stands here."""

    train: Precision = "float32"
    sample: Precision = "float32"
    autoencoder: Precision = "float32"  # where it encodes and decodes
    compile: bool = False  # blocks, encoders and decoders (torch.compile); the first batch takes a minute longer
    channels_last: bool = False  # the memory layout of U-Nets and autoencoders that tensor cores prefer
