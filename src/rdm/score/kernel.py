"""Kernel distance (KID, Bińkowski et al., 2018): unbiased MMD² with the kernel (x·y / d + 1)³."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rdm.errors import UsageError
from rdm.score.sampling import error_of_mean

ENTRIES = 50_000_000  # of the kernel matrix that are held at a time
PROJECTED = 2000  # samples from which the standard error is taken if the value is of subsets


@dataclass(frozen=True)
class KernelDistance:
    """value: unbiased, so it may be below 0. standard_error: from the sampling of the samples, and of the subsets.

    spread: with subsets, the standard deviation over them, as evaluators print it; it is no error of the value.
    """

    value: float
    standard_error: float
    spread: float | None


def kernel_distance(
    reference: np.ndarray,
    samples: np.ndarray,
    subsets: int = 0,
    subset_size: int = 1000,
    seed: int = 2020,
    strata: np.ndarray | None = None,
) -> KernelDistance:
    """KID of features (n, d) against features (m, d), in float64.

    subsets: 0 uses every pair, the estimate of least variance; else the mean over so many random subsets of
        `subset_size` items, drawn as torch-fidelity draws them with `seed`.
    strata: int64 (n,), the samples' classes if their proportions are fixed; for the standard error alone.
    Raises UsageError for sets smaller than a subset, or for two different dimensions.
    """
    x, y = np.asarray(samples, np.float64), np.asarray(reference, np.float64)
    if x.shape[1] != y.shape[1]:
        raise UsageError(f"Features of {y.shape[1]} and of {x.shape[1]} dimensions cannot be compared.")
    smallest = subset_size if subsets else 2
    if min(len(x), len(y)) < smallest:
        raise UsageError(f"The kernel distance needs {smallest} items on each side; there are {len(y)} and {len(x)}.")
    # first-order projection of the U-statistic on one sample; with subsets, of some samples, to save time
    some = np.arange(len(x)) if not subsets else np.random.default_rng(0).permutation(len(x))[:PROJECTED]
    own, cross = _kernel_means(x[some], x, among=True), _kernel_means(x[some], y)
    spread_of_one = error_of_mean(own - cross, None if strata is None else strata[some]) * np.sqrt(len(some))
    error = 2 * spread_of_one / np.sqrt(len(x))
    if subsets:
        values = _on_subsets(x, y, subsets, subset_size, np.random.RandomState(seed))
        spread = np.std(values)
        return KernelDistance(float(np.mean(values)), float(np.hypot(error, spread / np.sqrt(subsets))), float(spread))
    value = own.mean() + _kernel_means(y, y, among=True).mean() - 2 * cross.mean()
    return KernelDistance(float(value), float(error), None)


def _on_subsets(x: np.ndarray, y: np.ndarray, subsets: int, size: int, rng: np.random.RandomState) -> list[float]:
    values = []
    for _ in range(subsets):
        a = x[rng.choice(len(x), size, replace=False)]
        b = y[rng.choice(len(y), size, replace=False)]
        within = _kernel_means(a, a, among=True).mean() + _kernel_means(b, b, among=True).mean()
        values.append(float(within - 2 * _kernel_means(a, b).mean()))
    return values


def _kernel_means(x: np.ndarray, y: np.ndarray, among: bool = False) -> np.ndarray:
    """For each row of x, the mean kernel with the rows of y; among: x are rows of y; no pair of one with itself."""
    means: np.ndarray = np.empty(len(x))
    rows = max(1, ENTRIES // len(y))
    for start in range(0, len(x), rows):
        kernel = x[start : start + rows] @ y.T
        kernel *= 1 / x.shape[1]
        kernel += 1
        means[start : start + rows] = np.einsum("ij,ij,ij->i", kernel, kernel, kernel)
    if among:
        means -= (np.square(x).sum(1) / x.shape[1] + 1) ** 3
    means /= len(y) - among
    return means
