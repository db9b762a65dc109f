"""The Fréchet distance against an exact value, closed forms and peers."""

import numpy as np
import pytest
from cleanfid.fid import frechet_distance as clean_fid
from pytorch_fid.fid_score import calculate_frechet_distance as pytorch_fid
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

from rdm.errors import UsageError
from rdm.score import FeatureStatistics, Moments, frechet_distance
from rdm.score.frechet import bias_corrected, in_blocks, standard_error
from rdm.score.sampling import deal
from tests.score.reference_formulas import frechet, relu_features


def torch_fidelity(mean_a, covariance_a, mean_b, covariance_b):
    first, second = {"mu": mean_a, "sigma": covariance_a}, {"mu": mean_b, "sigma": covariance_b}
    return fid_statistics_to_metric(first, second, False)[KEY_METRIC_FID]


def distance(a, b):
    return frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))


def dead(features):
    return features * (np.arange(features.shape[1]) % 7 > 0)


def twice(features):
    return np.hstack([features, features[:, :1]])


def graded(features):
    return features * 10.0 ** -np.linspace(0, 4, features.shape[1])


CASES = {
    "more items than dimensions": (relu_features(0, 900, 120), relu_features(1, 800, 120, 0.2)),
    "fewer on both sides": (relu_features(0, 100, 300), relu_features(1, 80, 300, 0.2)),
    "fewer on one side": (relu_features(0, 100, 120), relu_features(1, 800, 120, 0.2)),
    "fewer on the other": (relu_features(0, 800, 120), relu_features(1, 100, 120, 0.2)),
    "dead in both": (dead(relu_features(0, 900, 120)), dead(relu_features(1, 800, 120, 0.2))),
    "dead in one": (dead(relu_features(0, 900, 120)), relu_features(1, 800, 120, 0.2)),
    "dead in the other": (relu_features(0, 900, 120), dead(relu_features(1, 800, 120, 0.2))),
    "a column twice": (twice(relu_features(0, 900, 120)), twice(relu_features(1, 800, 120, 0.2))),
    "spectrum over 8 decades": (graded(relu_features(0, 900, 120)), graded(relu_features(1, 800, 120, 0.2))),
}


@pytest.mark.parametrize(("a", "b"), CASES.values(), ids=CASES)
def test_equals_the_exact_value(a, b):
    assert distance(a, b) == pytest.approx(frechet(a, b), rel=1e-9)
    assert distance(b, a) == pytest.approx(frechet(a, b), rel=1e-9)


@pytest.mark.parametrize("a", [case[0] for case in CASES.values()], ids=CASES)
def test_of_a_set_from_itself_is_nothing(a):
    assert abs(distance(a, a)) < 1e-9 * np.square(a).sum(1).mean()


@pytest.mark.parametrize("peer", [pytorch_fid, clean_fid, torch_fidelity])
def test_equals_peers(peer):
    """With their float64 mean to 1e-9; with the float32 mean of three of them, still to 1e-9 if we take it, too."""
    a, b = CASES["more items than dimensions"]
    for mean in ("float64", "float32"):
        first, second = (FeatureStatistics.of(x).moments(mean=mean) for x in (a, b))
        means = (x.mean(0, dtype=mean) for x in (a, b))
        sides = [part for m, x in zip(means, (a, b), strict=True) for part in (m, np.cov(x, rowvar=False))]
        assert frechet_distance(first, second) == pytest.approx(
            float(peer(*sides)), rel=1e-9 if mean == "float64" else 1e-6
        )


@pytest.mark.parametrize("peer", [pytorch_fid, clean_fid, torch_fidelity])
def test_peers_err_where_items_are_few(peer):
    """Their matrix roots of a singular product differ from the exact value by up to 2e-4; ours does not."""
    a, b = CASES["fewer on both sides"]
    sides = [part for x in (a, b) for part in (x.astype(np.float64).mean(0), np.cov(x, rowvar=False))]
    assert float(peer(*sides)) == pytest.approx(frechet(a, b), rel=2e-4)
    assert distance(a, b) == pytest.approx(frechet(a, b), rel=1e-12)


def test_closed_form_of_diagonal_gaussians():
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=(2, 30)), rng.uniform(0.1, 3, (2, 30))
    sides = [Moments(m, np.diag(d**2)) for m, d in zip(means, deviations, strict=True)]
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(*sides) == pytest.approx(expected, rel=1e-12)


def test_ignores_a_common_order_of_features():
    a, b = CASES["more items than dimensions"]
    order = np.random.default_rng(0).permutation(120)
    assert distance(a[:, order], b[:, order]) == pytest.approx(distance(a, b), rel=1e-11)
    assert distance(a[:, order], b) > 1.5 * distance(a, b)  # the layout trap of sFID


def test_divisor():
    """ddof = 0 (StyleGAN) multiplies the covariance term by (n - 1) / n."""
    a, b = relu_features(0, 500, 60), relu_features(1, 500, 60, 0.2)
    ones, zeros = ([FeatureStatistics.of(x).moments(ddof) for x in (a, b)] for ddof in (1, 0))
    shift = np.square(a.astype(np.float64).mean(0) - b.astype(np.float64).mean(0)).sum()
    expected = shift + (frechet_distance(*ones) - shift) * 499 / 500
    assert frechet_distance(*zeros) == pytest.approx(expected, rel=1e-11)
    assert frechet_distance(*zeros) == pytest.approx(frechet(a, b, ddof=0), rel=1e-11)


def test_other_dimensions_are_refused():
    with pytest.raises(UsageError, match="of 60 and of 30 dimensions cannot be compared"):
        distance(relu_features(0, 100, 60), relu_features(0, 100, 30))


@pytest.mark.parametrize("count", [100, 400])
def test_standard_error_is_the_spread_over_draws(count):
    """Of draws of the same generator; a little too large for few items."""
    reference = FeatureStatistics.of(relu_features(0, 20000, 50)).moments()
    draws = [relu_features(seed, count, 50, 0.5) for seed in range(1, 61)]
    values = [frechet_distance(FeatureStatistics.of(draw).moments(), reference) for draw in draws]
    errors = [standard_error(draw, FeatureStatistics.of(draw).moments(), reference) for draw in draws]
    assert 0.85 < np.mean(errors) / np.std(values, ddof=1) < 1.6


def test_standard_error_is_that_of_the_influence_of_each_item():
    """The delta method's second derivation: the infinitesimal jackknife, by finite differences in the weights."""
    items = relu_features(3, 60, 6).astype(np.float64)
    reference = FeatureStatistics.of(relu_features(0, 500, 6)).moments()

    def weighted(weights):
        mean = weights @ items
        centred = items - mean
        return frechet_distance(Moments(mean, centred.T @ (centred * weights[:, None])), reference)

    count, step = len(items), 1e-6
    even = np.full(count, 1 / count)
    towards = [(1 - step) * even + step * np.eye(count)[i] for i in range(count)]
    influence = [(weighted(weights) - weighted(even)) / step for weights in towards]
    own = FeatureStatistics.of(items).moments(ddof=0)
    expected = np.std(influence, ddof=1) / np.sqrt(count)
    assert standard_error(items, own, reference) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("count", [100, 400])
def test_bias_correction_removes_most_of_the_bias(count):
    """At the same distribution the true distance is nearly nothing, the plain one far from it."""
    reference = FeatureStatistics.of(relu_features(0, 20000, 50)).moments()
    draws = [relu_features(seed, count, 50) for seed in range(1, 13)]
    plain = np.mean([frechet_distance(FeatureStatistics.of(draw).moments(), reference) for draw in draws])
    corrected = np.mean([bias_corrected(in_blocks(draw, 20), reference) for draw in draws])
    assert plain > 1
    assert abs(corrected) < 0.15 * plain


def test_bias_correction_is_the_textbook_jackknife():
    items, reference = relu_features(1, 70, 20), FeatureStatistics.of(relu_features(0, 500, 20)).moments()
    blocks = in_blocks(items, 7)
    assert sum(block.count for block in blocks) == 70
    order = np.random.default_rng(0).permutation(70)
    whole = frechet_distance(FeatureStatistics.of(items).moments(), reference)
    without = [np.delete(items, order[start::7], axis=0) for start in range(7)]
    values = [frechet_distance(FeatureStatistics.of(rest).moments(), reference) for rest in without]
    assert bias_corrected(blocks, reference) == pytest.approx(7 * whole - 6 * np.mean(values), rel=1e-8)


def balanced(seed, count=1000, dimension=20):
    """A mixture of ten classes in equal numbers, in cyclic order."""
    centres = np.random.default_rng(7).normal(size=(10, dimension)) * 2
    labels = np.arange(count) % 10
    return centres[labels] + np.random.default_rng(seed).normal(size=(count, dimension)), labels


def test_fixed_class_proportions_make_errors_smaller():
    """As though the labels were random, the error would be too large, and the correction too."""
    reference = FeatureStatistics.of(balanced(0, 200_000)[0]).moments()
    draws = [balanced(seed) for seed in range(1, 31)]
    moments = [FeatureStatistics.of(draw).moments() for draw, _ in draws]
    values = [frechet_distance(own, reference) for own in moments]
    known = [bias_corrected(in_blocks(draw, 10, labels), reference) for draw, labels in draws]
    unknown = [bias_corrected(in_blocks(draw, 10), reference) for draw, _ in draws]
    assert abs(np.mean(known)) < 0.15 * np.mean(values) < abs(np.mean(unknown))
    without = [standard_error(draw, own, reference) for (draw, _), own in zip(draws, moments, strict=True)]
    within = [standard_error(draw, own, reference, labels) for (draw, labels), own in zip(draws, moments, strict=True)]
    assert np.std(values, ddof=1) < np.mean(within) < np.mean(without)


def test_blocks_hold_their_share_of_each_class():
    _, labels = balanced(0, 300)
    member = deal(300, 10, labels)
    for block in range(10):
        assert (np.bincount(labels[member == block], minlength=10) == 3).all()
    assert (np.bincount(deal(300, 7)) > 41).all()


def test_statistics_out_of_range_are_refused():
    with pytest.raises(UsageError, match="not finite"):
        frechet_distance(Moments(np.full(3, 1e200), np.eye(3)), Moments(np.zeros(3), np.eye(3)))
