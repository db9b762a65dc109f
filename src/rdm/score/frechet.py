"""Fréchet distance of two Gaussians, |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), with its error bar; no matrix root.

Heusel et al. (2017), eq. 6; Dowson and Landau (1982). The trace of (S1 S2)^½ is the sum of the square roots of the
eigenvalues of S1 S2, and, for any factors S1 = R1 R1ᵀ and S2 = R2 R2ᵀ, the sum of the singular values of R1ᵀ R2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg
from scipy.linalg.lapack import dpotrf, dpstrf, dsygst

from rdm.errors import UsageError
from rdm.score.sampling import deal, error_of_mean
from rdm.score.statistics import FeatureStatistics, Moments, merged


def frechet_distance(a: FeatureStatistics | Moments, b: FeatureStatistics | Moments) -> float:
    """The distance between the Gaussians of two feature sets; FeatureStatistics are taken with ddof = 1.

    Covariances of full rank go through LAPACK's symmetric generalized eigenproblem; singular ones (fewer items than
    dimensions, dead or equal features) through roots, which keeps 13 digits where a matrix root keeps four.
    Raises UsageError for two different dimensions.
    """
    first, second = (s.moments() if isinstance(s, FeatureStatistics) else s for s in (a, b))
    if first.dimension != second.dimension:
        raise UsageError(
            f"Statistics of {first.dimension} and of {second.dimension} dimensions cannot be compared; "
            "take the same layer of the same extractor on both sides."
        )
    shift = first.mean - second.mean
    spread = np.trace(first.covariance) + np.trace(second.covariance)
    distance = float(shift @ shift + spread - 2 * _trace_of_root(first, second))
    if not np.isfinite(distance):
        raise UsageError("The Fréchet distance is not finite; look at the statistics, their numbers are out of range.")
    return distance


def _trace_of_root(a: Moments, b: Moments) -> float:
    """tr (S1 S2)^½."""
    if a.root is None and b.root is None:
        lower = _cholesky(a.covariance)
        if lower is not None and _cholesky(b.covariance) is not None:
            product, _ = dsygst(b.covariance, lower, itype=2, lower=1)  # Lᵀ S2 L, similar to S1 S2
            squares = linalg.eigvalsh(product, lower=True, check_finite=False)
            return float(np.sqrt(np.maximum(squares, 0)).sum())
    return float(linalg.svdvals(root_of(a).T @ root_of(b), check_finite=False).sum())


def _cholesky(covariance: np.ndarray) -> np.ndarray | None:
    """Its lower factor; None if singular to working precision: eigenvalues of 0 would come out as noise."""
    lower, failed = dpotrf(covariance, lower=1)
    pivots = np.square(np.diagonal(lower))
    if failed or pivots.min() < len(pivots) * np.finfo(np.float64).eps * pivots.max():
        return None
    factor: np.ndarray = lower
    return factor


def root_of(moments: Moments) -> np.ndarray:
    """A root R (d, r) of the covariance, R Rᵀ = S: the items themselves, or a Cholesky factor with pivoting."""
    if moments.root is not None:
        return moments.root
    factor, pivots, rank, _ = dpstrf(moments.covariance, lower=1)
    root = np.zeros((moments.dimension, rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root


def standard_error(
    features: np.ndarray, own: Moments, reference: Moments, strata: np.ndarray | None = None, neighbours: int = 1
) -> float:
    """Standard error of the distance from the sampling of `features` (n, d), for a fixed reference; delta method.

    Item x moves the distance by φ(x) = 2 (m - m_r)·(x - m) + (x - m)ᵀ (1 - T) (x - m), where T is the optimal
    transport map from N(m, S) to N(m_r, S_r); the error is sd(φ) / √n. It is too large, by half or so, for fewer
    than 2 d items, and where the two Gaussians are nearly equal.
    strata: int64, the classes if their proportions are fixed: φ then varies within classes only.
    neighbours: so many items beside each other are one draw; see `error_of_mean`.
    """
    root = root_of(reference)
    values, vectors = linalg.eigh(root.T @ own.covariance @ root, check_finite=False)
    live = values > values.max(initial=0) * 1e-12
    # T = Y Yᵀ with Y = R V w^(-1/4), where Rᵀ S R = V w Vᵀ
    transport = root @ (vectors[:, live] * values[live] ** -0.25)
    influence = np.empty(len(features))
    for start in range(0, len(features), 4096):
        centred = features[start : start + 4096].astype(np.float64) - own.mean
        change = 2 * centred @ (own.mean - reference.mean)
        change += np.square(centred).sum(1) - np.square(centred @ transport).sum(1)
        influence[start : start + 4096] = change
    return error_of_mean(influence, strata, neighbours)


def bias_corrected(blocks: Sequence[FeatureStatistics], reference: Moments, ddof: int = 1) -> float:
    """The distance without its bias of order 1/n: a jackknife that leaves out one block of items at a time.

    For 2 d items or more: of fewer the distance is not smooth enough, and the result would mislead.
    """
    whole, without = merged(blocks), []
    for number, block in enumerate(blocks):
        others = (other for position, other in enumerate(blocks) if position != number)
        rest = merged(others) if whole.keeps_items else whole.less(block)
        without.append(frechet_distance(rest.moments(ddof), reference))
    distance = frechet_distance(whole.moments(ddof), reference)
    return len(blocks) * distance - (len(blocks) - 1) * float(np.mean(without))


def in_blocks(
    features: np.ndarray, blocks: int, strata: np.ndarray | None = None, neighbours: int = 1
) -> list[FeatureStatistics]:
    """The statistics of disjoint random blocks of features (n, d); see `deal`. Neighbours stay together."""
    member = deal(len(features) // neighbours, blocks, strata).repeat(neighbours)
    return [FeatureStatistics.of(features[member == block]) for block in range(blocks)]
