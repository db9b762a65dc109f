"""The losses are those of the logs."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from rdm import params, paths
from rdm.errors import ArtefactError
from rdm.tables import losses
from rdm.tables.losses import draw_losses
from tests.conftest import CI
from tests.tables.handmade import over_seeds_drawn_by, with_seeds, write_train

SEEDS = [3, 5]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """The ci experiment with two seeds, and a run of each system: its loss falls with the step, by seed and arm."""
    monkeypatch.chdir(tmp_path)
    experiment = with_seeds(params.load(CI), SEEDS)
    for system in experiment.figure_systems("losses"):
        for seed in SEEDS:
            lines = [{"step": step, "loss": loss_of(system, seed, step)} for step in (2, 4)]
            log = "".join(f"{json.dumps(line)}\n" for line in lines)
            write_train(experiment, paths.run_name("ci", system, seed), log)
    return experiment


def loss_of(system, seed, step):
    """Of a gated system a hundredth lower than of its control at seed 3, three hundredths at seed 5."""
    better = (0.01 if seed == 3 else 0.03) if system in ("rdm-f", "rdm-u") else 0
    return 1 / step + seed / 10 - better


def test_the_numbers_are_those_of_the_logs(experiment):
    picture, numbers = draw_losses(experiment)
    assert imread(picture).std() > 0.05
    table = pd.read_csv(numbers)
    assert list(table.columns) == ["system", "arm", "seed", "step", "loss"]
    assert len(table) == 2 * 3 * 2 * 2  # systems, arms, seeds, steps
    for row in table.itertuples():
        system = {"baseline": {"rdm-f": "dit", "rdm-u": "ldm4"}[row.system], "control": f"{row.system}-control"}
        assert row.loss == pytest.approx(loss_of(system.get(row.arm, row.system), row.seed, row.step))
    first = picture.read_bytes(), numbers.read_bytes()
    draw_losses(experiment)
    assert (picture.read_bytes(), numbers.read_bytes()) == first


def test_what_is_drawn(experiment, monkeypatch):
    """Means over seeds; the difference is paired, so that its spread is that of the differences."""
    drawn = over_seeds_drawn_by(losses, monkeypatch)
    draw_losses(experiment)
    assert experiment.figures.figure5.systems == ("rdm-u", "rdm-f")
    assert {label for place, label in drawn if place == 0} == {"ldm4"}
    np.testing.assert_allclose(drawn[3, "dit"][0], [0.9, 0.65])
    np.testing.assert_allclose(drawn[4, "control"][0], [0.9, 0.65])
    np.testing.assert_allclose(drawn[4, "gated"][0], [0.88, 0.63])
    np.testing.assert_allclose(drawn[5, "gated − control"], [[-0.02, -0.02], [0.02 / 2**0.5, 0.02 / 2**0.5]])


def test_published_weights_have_no_losses(experiment):
    for seed in SEEDS:
        write_train(experiment, paths.run_name("ci", "dit", seed))
    table = pd.read_csv(draw_losses(experiment)[1])
    assert set(table[table.system == "rdm-f"].arm) == {"control", "gated"}


def test_a_run_that_is_not_there_is_named(experiment):
    (paths.train("ci-rdm-u-control-s5") / paths.MANIFEST).unlink()
    with pytest.raises(ArtefactError, match="ci-rdm-u-control-s5 is not there yet; run `rdm train ci-rdm-u-control-s5"):
        draw_losses(experiment)
