"""Precision, recall and KID against torch-fidelity, brute force and TensorFlow's float16."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from rdm.errors import UsageError
from rdm.score import kernel_distance, neighbours, precision_recall
from tests.score.reference_formulas import relu_features

REFERENCE, SAMPLES = relu_features(0, 700, 60), relu_features(1, 900, 60, 0.45) * np.float32(0.9)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_equal_torch_fidelity(k):
    options = {"prc_neighborhood": k, "prc_batch_size": 100, "save_cpu_ram": True, "verbose": False}
    theirs = prc_features_to_metric(torch.from_numpy(SAMPLES), torch.from_numpy(REFERENCE), **options)
    ours = precision_recall(REFERENCE, SAMPLES, k)
    assert round(ours.precision * 900) == round(theirs[KEY_METRIC_PRECISION] * 900)  # theirs are float32
    assert round(ours.recall * 700) == round(theirs[KEY_METRIC_RECALL] * 700)
    assert 0.1 < ours.recall < ours.precision < 1


def test_precision_and_recall_by_brute_force():
    a, b = REFERENCE[:40].astype(np.float64), SAMPLES[:50].astype(np.float64)
    far = {name: np.sort(((x[:, None] - x) ** 2).sum(2), axis=1)[:, 3] for name, x in (("a", a), ("b", b))}
    across = ((a[:, None] - b) ** 2).sum(2)
    found = precision_recall(a, b, 3)
    assert found.precision == (across <= far["a"][:, None]).any(0).mean()
    assert found.recall == (across <= far["b"]).any(1).mean()


def test_rows_at_a_time_change_nothing(monkeypatch):
    for half in (False, True):
        whole = precision_recall(REFERENCE, SAMPLES, 3, half)
        monkeypatch.setattr(neighbours, "ROWS", 64)
        assert precision_recall(REFERENCE, SAMPLES, 3, half) == whole


def test_float16_gives_way_where_it_overflows():
    """Squared distances above 65,504, as in ADM's evaluator."""
    single = precision_recall(REFERENCE * 100, SAMPLES * 100)
    assert precision_recall(REFERENCE * 100, SAMPLES * 100, half=True) == single
    assert single == precision_recall(REFERENCE, SAMPLES)


def test_a_set_is_inside_itself():
    assert precision_recall(REFERENCE, REFERENCE, 3) == neighbours.PrecisionRecall(1.0, 1.0)


@pytest.mark.parametrize(
    ("reference", "samples", "message"),
    [
        (REFERENCE[:3], SAMPLES, "more than k = 3 items; the reference hold 3"),
        (REFERENCE, SAMPLES[:, :5], "of 60 and of 5 dimensions"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference, samples, message):
    with pytest.raises(UsageError, match=message):
        precision_recall(reference, samples)


def test_kid_on_subsets_equals_torch_fidelity():
    """The same subsets; they multiply in float32."""
    options = {"kid_subsets": 20, "kid_subset_size": 300, "rng_seed": 2020, "verbose": False}
    options |= {"kid_degree": 3, "kid_gamma": None, "kid_coef0": 1, "kid_kernel": "poly"}
    theirs = kid_features_to_metric(torch.from_numpy(SAMPLES), torch.from_numpy(REFERENCE), **options)
    ours = kernel_distance(REFERENCE, SAMPLES, subsets=20, subset_size=300, seed=2020)
    assert ours.value == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-4)
    assert ours.spread == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-3)


def test_kid_of_all_pairs_by_brute_force(monkeypatch):
    x, y = SAMPLES[:50].astype(np.float64), REFERENCE[:40].astype(np.float64)

    def kernel(a, b):
        return (a @ b.T / 60 + 1) ** 3

    own, other = kernel(x, x), kernel(y, y)
    expected = (
        (own.sum() - own.trace()) / (50 * 49) + (other.sum() - other.trace()) / (40 * 39) - 2 * kernel(x, y).mean()
    )
    assert kernel_distance(y, x).value == pytest.approx(expected, rel=1e-10)
    assert kernel_distance(y, x).spread is None


def test_kids_standard_error_is_the_spread_over_draws():
    found = [kernel_distance(REFERENCE, relu_features(seed, 200, 60, 0.5)) for seed in range(1, 80)]
    observed = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(observed, rel=0.3)


def test_on_subsets_their_choice_is_part_of_the_error():
    """A few small ones leave much to chance: twice the error of all pairs here."""
    options = {"subsets": 5, "subset_size": 40}
    draws = [(relu_features(seed, 300, 20, 0.5), seed) for seed in range(1, 80)]
    reference = relu_features(0, 700, 20)
    found = [kernel_distance(reference, draw, seed=seed, **options) for draw, seed in draws]
    observed = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(observed, rel=0.3)
    assert observed > 1.5 * kernel_distance(reference, draws[0][0]).standard_error


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (SAMPLES[:10], {"subsets": 5, "subset_size": 300}, "needs 300 items on each side; there are 700 and 10"),
        (SAMPLES[:1], {}, "needs 2 items"),
        (SAMPLES[:, :5], {}, "of 60 and of 5 dimensions"),
    ],
)
def test_kid_refuses_what_it_cannot_do(samples, options, message):
    with pytest.raises(UsageError, match=message):
        kernel_distance(REFERENCE, samples, **options)
