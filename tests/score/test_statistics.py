"""Streamed and merged moments against numpy's of the whole."""

import numpy as np
import pytest

from rdm.errors import UsageError
from rdm.score import FeatureStatistics
from rdm.score.statistics import merged
from tests.score.reference_formulas import relu_features

D = 40


def in_batches(features, *sizes):
    statistics = FeatureStatistics(features.shape[1])
    for batch in np.split(features, np.cumsum(sizes)):
        statistics.add(batch)
    return statistics


@pytest.mark.parametrize("count", [2, 39, 40, 41, 500])
@pytest.mark.parametrize("ddof", [0, 1])
def test_batches_give_the_moments_of_the_whole(count, ddof):
    """Below, at and above the number of dimensions, where the items give way to their sums."""
    features = relu_features(0, count, D)
    moments = in_batches(features, 1, count // 3).moments(ddof)
    np.testing.assert_allclose(moments.mean, features.astype(np.float64).mean(0), rtol=1e-13, atol=1e-14)
    expected = np.cov(features.astype(np.float64), rowvar=False, ddof=ddof)
    np.testing.assert_allclose(moments.covariance, expected, rtol=1e-12, atol=1e-13)
    assert moments.count == count
    assert (moments.root is None) == (count > D)
    if moments.root is not None:
        np.testing.assert_allclose(moments.root @ moments.root.T, expected, rtol=1e-12, atol=1e-13)


def test_float32_mean_is_numpys_bit_for_bit():
    """What ADM's evaluator and torch-fidelity take, with its rounding error, in whatever batches it is gathered."""
    features = relu_features(1, 3000, D) + 10
    whole = features.mean(0)
    assert whole.dtype == np.float32
    for sizes in ((), (1, 64, 999), (64,) * 40):
        mean = in_batches(features, *sizes).moments(mean="float32").mean
        assert np.array_equal(mean, whole.astype(np.float64))
    assert np.abs(mean - features.astype(np.float64).mean(0)).max() > 1e-7


@pytest.mark.parametrize("counts", [(10, 20), (10, 300), (300, 10), (300, 500), (5, 5, 5, 5, 300, 2)])
def test_merged_parts_are_the_whole(counts):
    features = relu_features(2, sum(counts), D)
    parts = [FeatureStatistics.of(part) for part in np.split(features, np.cumsum(counts)[:-1])]
    together, whole = merged(parts).moments(), FeatureStatistics.of(features).moments()
    np.testing.assert_allclose(together.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(together.covariance, whole.covariance, rtol=1e-11, atol=1e-13)
    assert together.count == whole.count
    assert [part.count for part in parts] == list(counts)  # the parts are as they were


@pytest.mark.parametrize("taken", [10, 100])
def test_less_is_what_was_not_taken(taken):
    features = relu_features(3, 300, D)
    rest = FeatureStatistics.of(features).less(FeatureStatistics.of(features[:taken])).moments()
    expected = FeatureStatistics.of(features[taken:]).moments()
    np.testing.assert_allclose(rest.covariance, expected.covariance, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(rest.mean, expected.mean, rtol=1e-12)
    assert rest.count == 300 - taken


@pytest.mark.parametrize("count", [30, 300])
def test_saved_statistics_go_on_where_they_were(tmp_path, count):
    features = relu_features(4, count + 100, D)
    FeatureStatistics.of(features[:count]).save(tmp_path / "half.npz")
    loaded = FeatureStatistics.load(tmp_path / "half.npz")
    loaded.add(features[count:])
    whole = in_batches(features, count)
    for mean in ("float64", "float32"):
        assert np.array_equal(loaded.moments(mean=mean).mean, whole.moments(mean=mean).mean)
    assert np.array_equal(loaded.moments().covariance, whole.moments().covariance)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 7)), r"shape \(3, 7\) cannot be added to statistics of 40"),
        (np.zeros(40), r"shape \(40,\)"),
        (np.full((3, 40), np.nan), "not all finite"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(features, message):
    statistics = FeatureStatistics.of(relu_features(5, 3, D))
    with pytest.raises(UsageError, match=message):
        statistics.add(features)
    assert statistics.count == 3


def test_other_dimensions_and_single_items_are_refused():
    with pytest.raises(UsageError, match="of 7 and of 40 dimensions"):
        FeatureStatistics(40).merge(FeatureStatistics(7))
    with pytest.raises(UsageError, match="two items or more; there are 1"):
        FeatureStatistics.of(np.ones((1, 4))).moments()


def test_a_buffer_may_be_used_again():
    buffer, statistics = np.empty((5, 20)), FeatureStatistics(20)
    whole = relu_features(6, 15, 20).astype(np.float64)
    for start in range(0, 15, 5):
        buffer[:] = whole[start : start + 5]
        statistics.add(buffer)
    assert np.array_equal(statistics.moments().mean, FeatureStatistics.of(whole).moments().mean)
