"""Samples as draws: independent, or with fixed proportions of classes (strata), which makes most scores steadier."""

from __future__ import annotations

import numpy as np


def deal(count: int, blocks: int, strata: np.ndarray | None = None) -> np.ndarray:
    """The block, 0 to blocks - 1, of each item, int64 (count,): dealt at random, a function of the arguments alone.

    strata: int64 (count,), classes whose proportions are fixed; every block then has its share of each.
    """
    order = np.random.default_rng(0).permutation(count)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    member = np.empty(count, np.int64)
    member[order] = np.arange(count) % blocks
    return member


def error_of_mean(values: np.ndarray, strata: np.ndarray | None = None, neighbours: int = 1) -> float:
    """Standard error of the mean of values (n,); with fixed proportions of classes, from the spread within classes.

    neighbours: so many values beside each other are one draw (the frames of a clip); strata are those of the draws.
    Where every class occurs once, there is no spread within classes, and that of all values is taken.
    """
    values = values.reshape(-1, neighbours).mean(1)
    if strata is None or len(np.unique(strata)) == len(values):
        return float(np.sqrt(np.square(values - values.mean()).sum() / max(len(values) - 1, 1) / len(values)))
    _, member, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    centred = values - (np.bincount(member, values) / sizes)[member]
    return float(np.sqrt(np.square(centred).sum() / max(len(values) - len(sizes), 1) / len(values)))
