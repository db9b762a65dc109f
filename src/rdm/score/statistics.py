"""First and second moments of features: gathered batch by batch in float64, merged across processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.linalg.blas import dsyr, dsyrk

from rdm.errors import UsageError
from rdm.provenance.files import whole_file

Mean = Literal["float64", "float32"]
ROWS = 4096


@dataclass(frozen=True)
class Moments:
    """A Gaussian's parameters.

    mean: float64 (d,). covariance: float64 (d, d).
    root: float64 (d, n) with root @ root.T = covariance, where fewer items than dimensions are known; it is exact
        where the covariance has lost half of the digits.
    count: items behind it; None if a file does not say.
    """

    mean: np.ndarray
    covariance: np.ndarray
    root: np.ndarray | None = None
    count: int | None = None

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.mean)


class FeatureStatistics:
    """Count, sum and sum of outer products of features, in float64 whatever the features' type.

    Up to d items are kept as they are: they take less room than d x d sums, and their Fréchet distance is exact.
    The sums are not centred: of features whose mean is 10^k times their spread, 2 k of 16 digits are lost.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.count = 0
        self._kept: list[np.ndarray] = []
        self._sum = np.zeros(dimension)
        self._outer: np.ndarray | None = None  # lower triangle; None while the items are kept
        self._sum_float32 = np.zeros((1, dimension), np.float32)

    @classmethod
    def of(cls, features: np.ndarray) -> FeatureStatistics:
        """The statistics of features (n, d)."""
        statistics = cls(features.shape[1])
        for start in range(0, len(features), ROWS):  # so that the float64 copies stay small
            statistics.add(features[start : start + ROWS])
        return statistics

    def add(self, features: np.ndarray) -> None:
        """Add features (n, d). Raises UsageError for another d, and for values that are not finite."""
        if features.ndim != 2 or features.shape[1] != self.dimension:
            raise UsageError(f"Features of shape {features.shape} cannot be added to statistics of {self.dimension}.")
        items = np.array(features, np.float64)  # a copy: it may be kept
        total = items.sum(0)
        if not np.isfinite(total).all():
            raise UsageError("The features are not all finite; look at the images, and at the extractor's weights.")
        # row after row, as np.mean over float32 features does: whatever the batches, the same bits
        rows = np.vstack([self._sum_float32, features.astype(np.float32, copy=False)])
        self._sum_float32 = np.add.reduce(rows, axis=0, keepdims=True)
        self._add(items, total)

    def _add(self, rows: np.ndarray, total: np.ndarray) -> None:
        self.count += len(rows)
        self._sum = self._sum + total
        if self._outer is not None:
            self._outer = dsyrk(1.0, rows.T, beta=1.0, c=self._outer, lower=1, overwrite_c=1)
            return
        self._kept.append(rows)
        if self.count > self.dimension:
            self._sum_up()

    @property
    def _rows(self) -> np.ndarray:
        """The kept items, float64 (n, d)."""
        return np.concatenate([np.empty((0, self.dimension)), *self._kept])

    def _sum_up(self) -> None:
        """Give up the items for their sums."""
        rows, self._kept = self._rows, []
        self._outer = dsyrk(1.0, rows.T, lower=1)

    def merge(self, other: FeatureStatistics) -> None:
        """Add the items of another FeatureStatistics."""
        if other.dimension != self.dimension:
            raise UsageError(f"Statistics of {other.dimension} and of {self.dimension} dimensions cannot be merged.")
        self._sum_float32 = self._sum_float32 + other._sum_float32
        if other._outer is None:
            self._add(other._rows, other._sum)
            return
        if self._outer is None:
            self._sum_up()
        self.count += other.count
        self._sum = self._sum + other._sum
        self._outer = self._outer + other._outer

    def less(self, part: FeatureStatistics) -> FeatureStatistics:
        """These items without those of `part`, which must be among them; for more than d items."""
        rest = FeatureStatistics(self.dimension)
        rest.count = self.count - part.count
        if self._outer is None:
            raise ValueError("the items are kept one by one; merge those that should stay")
        if part._outer is None:
            rest._outer = dsyrk(-1.0, part._rows.T, beta=1.0, c=self._outer, lower=1)
        else:
            rest._outer = self._outer - part._outer
        rest._sum = self._sum - part._sum
        rest._sum_float32 = self._sum_float32 - part._sum_float32
        return rest

    @property
    def keeps_items(self) -> bool:
        """Whether the items themselves are kept."""
        return self._outer is None

    def moments(self, ddof: int = 1, mean: Mean = "float64") -> Moments:
        """Mean and covariance.

        ddof: the covariance's divisor is count - ddof: 1 in most evaluators, 0 in StyleGAN's.
        mean: float32 gives what np.mean of float32 features gives, with its rounding error, as in ADM's evaluator.
        Raises UsageError for fewer than two items.
        """
        if self.count < 2:
            raise UsageError(f"Statistics need two items or more; there are {self.count}.")
        divisor = self.count - ddof
        centre, root = self._sum / self.count, None
        if self._outer is None:
            root = (self._rows - centre).T / np.sqrt(divisor)
            covariance = root @ root.T
        else:
            covariance = dsyr(-self.count / divisor, centre, a=self._outer / divisor, lower=1, overwrite_a=1)
            _mirror(covariance)
        if mean == "float32":
            centre = (self._sum_float32[0] / np.float32(self.count)).astype(np.float64)
        return Moments(centre, covariance, root, self.count)

    def save(self, path: Path) -> None:
        """Write an npz, whole or not at all."""
        outer = np.empty((0, 0)) if self._outer is None else self._outer
        arrays = {"count": self.count, "rows": self._rows, "sum": self._sum, "outer": outer}
        with whole_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, sum_float32=self._sum_float32, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> FeatureStatistics:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as state:
            statistics = cls(len(state["sum"]))
            statistics.count = int(state["count"])
            statistics._kept, statistics._sum = [state["rows"]], state["sum"]
            statistics._sum_float32 = state["sum_float32"]
            statistics._outer = np.asfortranarray(state["outer"]) if state["outer"].size else None
        return statistics


def _mirror(square: np.ndarray, block: int = 256) -> None:
    """Copy the lower triangle onto the upper, in place; by blocks, so that both sides stay in the cache."""
    for start in range(0, len(square), block):
        stop = start + block
        square[start:stop, stop:] = square[stop:, start:stop].T
        diagonal = np.tril(square[start:stop, start:stop])
        square[start:stop, start:stop] = diagonal + np.tril(diagonal, -1).T


def merged(parts: Iterable[FeatureStatistics]) -> FeatureStatistics:
    """One FeatureStatistics of all items of the parts."""
    first, *others = parts
    total = FeatureStatistics(first.dimension)
    for part in (first, *others):
        total.merge(part)
    return total
