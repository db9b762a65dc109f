"""What a source of images gives to the `data` stage, and the pixels' way to a common size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image


@dataclass
class Split:
    """One split of a data set: images of (H, W, C) or clips of (T, H, W, C), uint8, and their labels, int64 (N,).

    `pixels` yields one item at a time, so that a set larger than memory can be stored.
    """

    pixels: Iterator[np.ndarray]
    labels: np.ndarray


@dataclass
class Source:
    """A data set before it is stored. classes: none for an unconditional set, whose labels are all 0."""

    train: Split
    test: Split
    channels: int
    classes: list[str]
    origin: str
    licence: str
    skipped: dict[str, str] = field(default_factory=dict)  # file -> why it was left out


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """A greyscale (H, W) uint8 image, resized bilinearly to (size, size, 1) uint8."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))[:, :, None]


def pad(image: np.ndarray, size: int) -> np.ndarray:
    """A greyscale (H, W) uint8 image, centred on black (size, size, 1) uint8."""
    top, left = (size - image.shape[0]) // 2, (size - image.shape[1]) // 2
    padded = np.zeros((size, size, 1), np.uint8)
    padded[top : top + image.shape[0], left : left + image.shape[1], 0] = image
    return padded


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
    """ADM's crop of a photograph to (size, size, 3) uint8 (guided-diffusion 22e0df8, also DiT's).

    Halve by box averaging while the short side is at least twice `size`, resize it to `size` bicubically, crop.
    """
    image = image.convert("RGB")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image)[top : top + size, left : left + size]
