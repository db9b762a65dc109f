"""Kernel distance (KID, Bińkowski et al., 2018): unbiased MMD² with the kernel (x·y / d + 1)³."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rdm.errors import UsageError

ROWS = 2000  # rows of the kernel matrix that are held at a time


@dataclass(frozen=True)
class KernelDistance:
    """value: unbiased, so it may be below 0. standard_error: from the sampling of the samples.

    spread: with subsets, the standard deviation over them, as evaluators print it; it is no error of the value.
    """

    value: float
    standard_error: float
    spread: float | None


def kernel_distance(
    reference: np.ndarray, samples: np.ndarray, subsets: int = 0, subset_size: int = 1000, seed: int = 2020
) -> KernelDistance:
    """KID of features (n, d) against features (m, d), in float64.

    subsets: 0 uses every pair, the estimate of least variance; else the mean over so many random subsets of
        `subset_size` items, drawn as torch-fidelity draws them with `seed`.
    Raises UsageError for sets smaller than a subset, or for two different dimensions.
    """
    x, y = np.asarray(samples, np.float64), np.asarray(reference, np.float64)
    if x.shape[1] != y.shape[1]:
        raise UsageError(f"Features of {y.shape[1]} and of {x.shape[1]} dimensions cannot be compared.")
    smallest = subset_size if subsets else 2
    if min(len(x), len(y)) < smallest:
        raise UsageError(f"The kernel distance needs {smallest} items on each side; there are {len(y)} and {len(x)}.")
    own, cross = _kernel_means(x, x, exclude_self=True), _kernel_means(x, y)
    if subsets:
        values = list(_on_subsets(x, y, subsets, subset_size, np.random.RandomState(seed)))
        value, spread = float(np.mean(values)), float(np.std(values))
    else:
        value, spread = float(own.mean() + _kernel_means(y, y, exclude_self=True).mean() - 2 * cross.mean()), None
    # first-order projection of the U-statistic on one sample
    error = 2 * np.std(own - cross, ddof=1) / np.sqrt(len(x))
    return KernelDistance(value, float(error), spread)


def _on_subsets(x: np.ndarray, y: np.ndarray, subsets: int, size: int, rng: np.random.RandomState) -> list[float]:
    values = []
    for _ in range(subsets):
        a = x[rng.choice(len(x), size, replace=False)]
        b = y[rng.choice(len(y), size, replace=False)]
        within = _kernel_means(a, a, exclude_self=True).mean() + _kernel_means(b, b, exclude_self=True).mean()
        values.append(float(within - 2 * _kernel_means(a, b).mean()))
    return values


def _kernel_means(x: np.ndarray, y: np.ndarray, exclude_self: bool = False) -> np.ndarray:
    """For each row of x, the mean kernel with the rows of y; exclude_self: y is x, pairs are of two rows."""
    means: np.ndarray = np.empty(len(x))
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS]
        means[start : start + ROWS] = ((rows @ y.T / x.shape[1] + 1) ** 3).sum(1)
    if exclude_self:
        means -= (np.square(x).sum(1) / x.shape[1] + 1) ** 3
    means /= len(y) - exclude_self
    return means
