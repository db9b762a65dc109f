"""Everything random is a function of a key, such as (seed, "noise", step): no generator carries a history."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import torch


def seed_of(*key: int | str) -> int:
    """A 63-bit seed from a key; different keys give independent streams."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A torch generator on the CPU, so that the same numbers are drawn whatever the device."""
    return torch.Generator().manual_seed(seed_of(*key))


def proportional(labels: np.ndarray, count: int) -> np.ndarray:
    """So many indices into labels (n,), in order, with the labels' own proportions; all, if there are no more."""
    if count >= len(labels):
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.arange(count) * len(labels) // count])


def batch_items(seed: int, step: int, batch: int, count: int) -> torch.Tensor:
    """The items of a training step: epochs of shuffled items, cut into batches; int64 of shape (batch,).

    A pure function of (seed, step): position p = step * batch + j lies in epoch p // count.
    """
    positions = torch.arange(step * batch, (step + 1) * batch)
    epochs = positions // count
    items = torch.empty(batch, dtype=torch.int64)
    for epoch in epochs.unique().tolist():
        items[epochs == epoch] = _epoch_order(seed, epoch, count)[positions[epochs == epoch] % count]
    return items


@functools.lru_cache(maxsize=2)  # a batch touches one epoch or two; a million items are not shuffled at each step
def _epoch_order(seed: int, epoch: int, count: int) -> torch.Tensor:
    return torch.randperm(count, generator=generator(seed, "epoch", epoch))
