"""The inputs of the golden values: the same bits on every machine, for integers alone go into them."""

from __future__ import annotations

import numpy as np

SIZES = (32, 64, 256, 512)
STRIDE = 7  # between the pixels of a resized image that are stored
CASES = ("narrow", "wide")
SEEDS = {"narrow": 30, "wide": 42}  # of 60, where no point lies nearer to a radius than 100 float32 roundings
DIMENSION, LATENT = 2048, 24
OFFSET, NOISE, UNIT = 35_000, 2_000, 21_700


def image(size: int) -> np.ndarray:
    """A noisy image, uint8 (size, size, 3)."""
    return np.random.RandomState(size).randint(0, 256, (size, size, 3), np.uint8)


def features(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Reference (2000, 2048) and samples (3000, 2048), float32, like pooled ReLUs: not negative, squared norm ~1000.

    Both lie near a manifold of few dimensions. "narrow" samples vary less than the reference, and "wide" ones more.
    """
    random = np.random.RandomState(SEEDS[case])
    weights = random.randint(-40, 41, (LATENT, DIMENSION)).astype(np.float64)
    offset = random.randint(-OFFSET, OFFSET + 1, DIMENSION)

    def draw(count: int, spread: int) -> np.ndarray:
        latent = random.randint(-spread, spread + 1, (count, LATENT)).astype(np.float64)
        noise = random.randint(-NOISE, NOISE + 1, (count, DIMENSION))
        # integers below 2**53: no order of adding changes them
        exact = np.maximum(latent @ weights + offset + noise, 0)
        return (exact / UNIT).astype(np.float32)

    return draw(2000, 100), draw(3000, {"narrow": 95, "wide": 106}[case])
