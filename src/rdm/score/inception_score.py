"""Inception Score (Salimans et al., 2016): exp of the mean KL divergence of p(y|x) from p(y), from logits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import logsumexp

from rdm.errors import UsageError
from rdm.score.sampling import deal, error_of_mean

BLOCKS = 20


@dataclass(frozen=True)
class InceptionScore:
    """value: mean over the splits. spread: their standard deviation (n), as evaluators print it.

    standard_error: of `value`, from the sampling of the items (delta method).
    bias_corrected: what infinitely many items would give: a block jackknife of the score of all items together.
    """

    value: float
    spread: float
    standard_error: float
    bias_corrected: float


def inception_score(
    logits: np.ndarray,
    splits: int | None = None,
    split_size: int | None = None,
    shuffle_seed: int | None = None,
    strata: np.ndarray | None = None,
) -> InceptionScore:
    """Score of logits (n, classes); computed in float64 by log-softmax, finite for any logits.

    splits: so many parts of nearly equal size (torch-fidelity, StyleGAN); or, if it is None,
    split_size: parts of so many items, a shorter last one counting fully (ADM's evaluator: 5000).
    shuffle_seed: None takes the items in their order (ADM, StyleGAN); torch-fidelity shuffles with seed 2020. Items
        sorted by class must be shuffled: a part with few classes scores low.
    strata: int64 (n,), the classes if their proportions are fixed; for the error and the bias correction alone.
    Raises UsageError for fewer items than splits, or if not exactly one of splits and split_size is given.
    """
    count = len(logits)
    log_p = logits.astype(np.float64)
    log_p -= logsumexp(log_p, axis=1, keepdims=True)
    if shuffle_seed is not None:
        order = np.random.RandomState(shuffle_seed).permutation(count)
        log_p, strata = log_p[order], None if strata is None else strata[order]
    if split_size is not None and splits is None:
        bounds = [*range(0, count, split_size), count]
    elif splits is not None and split_size is None:
        bounds = [i * count // splits for i in range(splits + 1)]
    else:
        raise UsageError("Inception Score: give either splits or split_size.")
    if min(np.diff(bounds)) < 1:
        raise UsageError(f"Inception Score: {count} items cannot be split into {splits} parts; score more of them.")
    p = np.exp(log_p)
    negative_entropy = np.einsum("ij,ij->i", p, log_p)
    parts = list(pairwise(bounds))
    scores, variances = [], []
    for start, end in parts:
        divergence = negative_entropy[start:end] - p[start:end] @ _log(p[start:end].mean(0))
        scores.append(np.exp(divergence.mean()))
        # an item moves its part's score by score * (divergence - mean), by the chain rule; the marginal drops out
        part = None if strata is None else strata[start:end]
        variances.append((scores[-1] * error_of_mean(divergence, part)) ** 2)
    return InceptionScore(
        value=float(np.mean(scores)),
        spread=float(np.std(scores)),
        standard_error=float(np.sqrt(np.sum(variances)) / len(parts)),
        bias_corrected=_bias_corrected(p, negative_entropy, strata),
    )


def _bias_corrected(p: np.ndarray, negative_entropy: np.ndarray, strata: np.ndarray | None) -> float:
    count = len(p)
    blocks = min(BLOCKS, count)
    member = deal(count, blocks, strata)
    sums = np.stack([p[member == block].sum(0) for block in range(blocks)])
    entropies = np.array([negative_entropy[member == block].sum() for block in range(blocks)])
    sizes = np.bincount(member, minlength=blocks)
    whole = _score(sums.sum(0), entropies.sum(), count)
    without = [
        _score(sums.sum(0) - s, entropies.sum() - e, count - n) for s, e, n in zip(sums, entropies, sizes, strict=True)
    ]
    return blocks * whole - (blocks - 1) * float(np.mean(without))


def _score(p_sum: np.ndarray, negative_entropy: float, count: int) -> float:
    marginal = p_sum / count
    return float(np.exp(negative_entropy / count - marginal @ _log(marginal)))


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Logarithm; finite at 0, where it is multiplied by 0."""
    values: np.ndarray = np.log(np.maximum(probabilities, 1e-300))
    return values
