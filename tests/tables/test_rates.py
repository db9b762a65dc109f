"""Gates that are trained faster, from scores, logs and gates written by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from rdm import params, paths
from rdm.errors import ArtefactError
from rdm.tables import rates
from rdm.tables.rates import draw_rates
from tests.conftest import CI
from tests.tables.handmade import over_seeds_drawn_by, with_seeds, write_sample, write_scores, write_train

SEEDS = [3, 5]
SYSTEMS = {"rdm-u-control": 0, "rdm-u": 1, "rdm-u-rate10": 10}  # system -> factor, 0: no gates


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """The ci experiment with two seeds: the faster the gates, the lower FID and the higher sensitivity, by seed."""
    monkeypatch.chdir(tmp_path)
    experiment = with_seeds(params.load(CI), SEEDS)

    def log(factor, seed):
        lines = [{"sensitivity": [-9.0, -9.0, -9.0]}, {"sensitivity": states_of(factor, seed)}]
        return "".join(f"{json.dumps(line)}\n" for line in lines)

    def gates(factor, seed):
        """Root mean squares: 2.5 and 10 times as much; half the root of two."""
        both = {"a": ([1 + 3 * factor, 1 - 4 * factor], [0.0, 1.0]), "b": ([1.0, 1.0], [-1.0, 0.0])}
        return both if factor else None

    write_runs(experiment, log, gates)
    return experiment


def write_runs(experiment, log, gates):
    """Weights, samples and scores of each system. log, gates: of a factor and a seed."""
    for system, factor in SYSTEMS.items():
        for seed in SEEDS:
            run = paths.run_name("ci", system, seed)
            write_train(experiment, run, log(factor, seed), gates(factor, seed))
            write_sample(experiment, run, "plain")
        metrics = {name: [(seed - 0.01 * factor * seed, 0.1) for seed in SEEDS] for name in ("fid", "sfid", "is")}
        write_scores(experiment, system, "plain", "images", metrics)


def states_of(factor, seed):
    """The shallower half of three states below the last are two."""
    return [-2.0 + 0.001 * factor * seed, -4.0 + 0.001 * factor * seed, -0.5]


def test_the_numbers_are_those_of_scores_logs_and_gates(experiment):
    picture, numbers = draw_rates(experiment)
    assert imread(picture).std() > 0.05
    table = pd.read_csv(numbers, keep_default_na=False)
    assert list(table.columns) == ["system", "factor", "seed", "quantity", "sampler", "value", "control"]
    assert set(table.system) == {"rdm-u"}
    assert len(table) == 2 * 2 * (3 + 3)  # factors, seeds; alpha, beta, sensitivity, and three metrics
    for row in table.itertuples():
        expected = {
            "alpha_moved": (2.5 * row.factor, 0.0),
            "beta_moved": (2**-0.5, 0.0),
            "sensitivity": (-3.0 + 0.001 * row.factor * row.seed, -3.0),
        }.get(row.quantity, (row.seed - 0.01 * row.factor * row.seed, row.seed))
        assert (row.value, row.control) == pytest.approx(expected, rel=1e-6)
        assert row.sampler == ("plain" if row.quantity in ("fid", "sfid", "is") else "")
    first = picture.read_bytes(), numbers.read_bytes()
    draw_rates(experiment)
    assert (picture.read_bytes(), numbers.read_bytes()) == first


def test_what_is_drawn(experiment, monkeypatch):
    """Changes are paired by seed with no gates, and in per cent of it."""
    drawn = over_seeds_drawn_by(rates, monkeypatch)
    draw_rates(experiment)
    assert set(drawn) == {(0, "α − 1"), (0, "β"), (1, ""), (2, "plain"), (3, "plain"), (4, "plain")}
    np.testing.assert_allclose(drawn[0, "α − 1"][0], [2.5, 25.0])
    change = 100 * np.expm1([[0.003, 0.005], [0.03, 0.05]])
    np.testing.assert_allclose(drawn[1, ""], [change.mean(1), change.std(1, ddof=1)], rtol=1e-6)
    for place in (2, 3, 4):
        np.testing.assert_allclose(drawn[place, "plain"], [[-1, -10], [0, 0]], atol=1e-9)


def test_gates_without_beta_and_a_sensitivity_that_was_not_finite(experiment):
    write_runs(experiment, lambda *_: json.dumps({"sensitivity": None}), lambda *_: {"a": ([1.0, 3.0],)})
    table = pd.read_csv(draw_rates(experiment)[1])
    assert set(table.quantity) == {"alpha_moved", "fid", "sfid", "is"}
    assert set(table[table.quantity == "alpha_moved"].value) == {round(2**0.5, 5)}


def test_what_is_missing_is_named(experiment):
    paths.score("ci-rdm-u-rate10-s5", "plain", "ci").unlink()
    with pytest.raises(ArtefactError, match="plain.*not there yet; run `rdm score ci-rdm-u-rate10-s5`"):
        draw_rates(experiment)
    (paths.train("ci-rdm-u-rate10-s3") / paths.MANIFEST).unlink()
    with pytest.raises(ArtefactError, match="rate10-s3 is not there yet; run `rdm train ci-rdm-u-rate10-s3"):
        draw_rates(experiment)
