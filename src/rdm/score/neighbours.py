"""Precision and recall (Kynkäänniemi et al., 2019): how much of one set lies in the other's manifold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rdm.errors import UsageError

ROWS = 1000  # rows of the distance matrix that are held at a time


@dataclass(frozen=True)
class PrecisionRecall:
    """precision: the share of samples inside the reference's manifold; recall: of references inside the samples'."""

    precision: float
    recall: float


def precision_recall(
    reference: np.ndarray, samples: np.ndarray, k: int = 3, half: bool = False, device: str | torch.device = "cpu"
) -> PrecisionRecall:
    """Precision and recall of features (n, d) against features (m, d).

    A point is inside a set's manifold if it is no farther from one of its points than that point's k-th neighbour.
    half: squared distances in float16, as ADM's evaluator has them: its values are some thousandths higher.
    Raises UsageError for k points or fewer in a set, or for two different dimensions.
    """
    for features, name in ((reference, "reference"), (samples, "samples")):
        if len(features) <= k:
            raise UsageError(f"Precision and recall need more than k = {k} items; the {name} hold {len(features)}.")
    if reference.shape[1] != samples.shape[1]:
        raise UsageError(f"Features of {reference.shape[1]} and of {samples.shape[1]} dimensions cannot be compared.")
    real, fake = (_Points(torch.from_numpy(np.asarray(f, np.float32)).to(device), half) for f in (reference, samples))
    real_radii, fake_radii = real.radii(k), fake.radii(k)
    recall, covered = 0, torch.zeros(len(samples), dtype=torch.bool, device=device)
    for start in range(0, len(reference), ROWS):
        distances = real.distances(slice(start, start + ROWS), fake)
        recall += int((distances <= fake_radii).any(1).sum())
        covered |= (distances <= real_radii[start : start + ROWS, None]).any(0)
    return PrecisionRecall(int(covered.sum()) / len(samples), recall / len(reference))


def _half(values: Tensor) -> Tensor:
    """To the nearest float16, kept in float32, so that CPU and GPU give the same."""
    return values.half().float()


class _Points:
    """Features and their squared norms."""

    def __init__(self, features: Tensor, half: bool) -> None:
        self.half = half
        self.features = features
        self.norms = features.square().sum(1)
        if half:
            self.rounded = _half(features)
            self.rounded_norms = _half(_half(self.rounded.square()).sum(1))

    def distances(self, rows: slice, others: _Points) -> Tensor:
        """Squared distances of these rows to all others; with `half` each step is rounded, unless that overflows."""
        if self.half:
            products = _half(self.rounded[rows] @ others.rounded.T)
            differences = _half(self.rounded_norms[rows, None] - _half(2 * products))
            distances = _half(differences + others.rounded_norms)
            if distances.isfinite().all():
                return distances.clamp_min_(0)
        products = self.features[rows] @ others.features.T
        return (self.norms[rows, None] - 2 * products + others.norms).clamp_min_(0)

    def radii(self, k: int) -> Tensor:
        """Each point's squared distance to its k-th neighbour; the nearest of the k + 1 is the point itself."""
        starts = range(0, len(self.features), ROWS)
        blocks = (self.distances(slice(start, start + ROWS), self) for start in starts)
        return torch.cat([block.topk(k + 1, largest=False).values[:, k] for block in blocks])
