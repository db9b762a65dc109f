"""The Inception Score against the definition and torch-fidelity."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from rdm.errors import UsageError
from rdm.score import inception_score
from tests.score.reference_formulas import inception


@pytest.fixture(scope="module")
def logits():
    """Of 5,000 items, some sure of their class, some not; float32 (5000, 100)."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5000, 100))
    noise[np.arange(5000), rng.integers(0, 100, 5000)] += rng.uniform(0, 8, 5000)
    return noise.astype(np.float32)


def test_one_split_is_the_definition(logits):
    assert inception_score(logits, splits=1).value == pytest.approx(inception(logits), rel=1e-12)


@pytest.mark.parametrize("seed", [None, 2020, 7])
@pytest.mark.parametrize("splits", [1, 3, 10])
def test_equals_torch_fidelity(logits, seed, splits):
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits, seed is not None, seed)
    ours = inception_score(logits, splits=splits, shuffle_seed=seed)
    assert ours.value == pytest.approx(theirs[KEY_METRIC_ISC_MEAN], rel=1e-12)
    assert ours.spread == pytest.approx(theirs[KEY_METRIC_ISC_STD], rel=1e-9, abs=1e-12)


def test_adms_splits_are_by_size(logits):
    """10 parts of 500 are 10 splits; a shorter last part counts like the others (guided-diffusion's evaluator)."""
    assert inception_score(logits, split_size=500) == inception_score(logits, splits=10)
    value = inception_score(logits[:1200], split_size=500).value
    parts = (logits[:500], logits[500:1000], logits[1000:1200])
    assert value == pytest.approx(np.mean([inception(part) for part in parts]), rel=1e-12)


def test_items_sorted_by_class_score_low_unless_shuffled(logits):
    in_order = logits[np.argsort(logits.argmax(1), kind="stable")]
    assert inception_score(in_order, splits=10).value < 0.75 * inception_score(logits, splits=10).value
    shuffled = inception_score(in_order, splits=10, shuffle_seed=0).value
    assert shuffled == pytest.approx(inception_score(logits, splits=10).value, rel=0.02)


def test_sure_items_are_finite():
    """Logits 1,000 apart: 0 log 0 is 0. Each of ten classes as often as another: the score is 10."""
    assert inception_score(1000 * np.tile(np.eye(10), (50, 1)), splits=1).value == pytest.approx(10, rel=1e-12)
    assert inception_score(np.zeros((100, 10)), splits=2).value == pytest.approx(1, rel=1e-12)


def test_standard_error_is_the_spread_over_draws():
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(200):
        draw = rng.normal(size=(400, 10)) * rng.uniform(0, 4, (400, 1))
        scores.append(inception_score(draw, splits=2))
    observed = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.standard_error for score in scores]) == pytest.approx(observed, rel=0.2)


def test_bias_correction_gives_the_score_of_many_items(logits):
    few = np.mean([inception_score(part, splits=1).bias_corrected for part in np.split(logits, 25)])
    plain = np.mean([inception_score(part, splits=1).value for part in np.split(logits, 25)])
    truth = inception_score(logits, splits=1).bias_corrected
    assert abs(few - truth) < 0.2 * abs(plain - truth)


@pytest.mark.parametrize("options", [{}, {"splits": 2, "split_size": 5}])
def test_one_rule_of_splitting(logits, options):
    with pytest.raises(UsageError, match="either splits or split_size"):
        inception_score(logits, **options)


def test_more_splits_than_items_are_refused():
    with pytest.raises(UsageError, match="3 items cannot be split into 10 parts"):
        inception_score(np.zeros((3, 5)), splits=10)


def test_fixed_class_proportions_make_the_error_smaller():
    rng = np.random.default_rng(3)
    labels = np.arange(600) % 10
    sure = np.linspace(0, 6, 10)[labels]  # some classes are sure, some are not

    def draw():
        noise = rng.normal(size=(600, 10))
        noise[np.arange(600), labels] += sure
        return noise

    scores = [inception_score(draw(), splits=1, strata=labels) for _ in range(100)]
    observed = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.standard_error for score in scores]) == pytest.approx(observed, rel=0.25)
    assert inception_score(draw(), splits=1).standard_error > 1.5 * observed


def test_one_item_of_each_class_has_an_error():
    """There is no spread within classes to take it from."""
    logits = np.random.default_rng(4).normal(size=(10, 10))
    once = inception_score(logits, splits=1, strata=np.arange(10))
    assert once.standard_error == inception_score(logits, splits=1).standard_error > 0
