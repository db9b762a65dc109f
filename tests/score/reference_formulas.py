"""Scores by textbook formulas, slow and exact: what the fast ones are compared with."""

import numpy as np


def frechet(a, b, ddof=1):
    """Through QR and singular values of the centred data: the condition number is never squared."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    roots = [np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - ddof), mode="r") for x in (a, b)]
    spread = sum(np.square(root).sum() for root in roots)
    nuclear = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + spread - 2 * nuclear


def inception(logits):
    """exp of the mean divergence of each p(y|x) from p(y), for one split."""
    logits = logits.astype(np.longdouble)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    terms = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(p.mean(0))), 0)
    return float(np.exp(terms.sum(1).mean()))


def relu_features(seed, count, dimension, shift=0.3):
    """Non-negative features with a spectrum that decays, as a network's: float32 (count, dimension)."""
    rng = np.random.default_rng(seed)
    mixing = (
        np.random.default_rng(99).normal(size=(dimension, dimension)) * np.arange(1, dimension + 1)[:, None] ** -0.5
    )
    return np.maximum(rng.normal(size=(count, dimension)) @ mixing + shift, 0).astype(np.float32)
