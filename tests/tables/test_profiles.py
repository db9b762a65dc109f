"""Figure 5 and the gates by depth: the numbers are those of the logs and of the gate files."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.image import imread

from rdm import params, paths
from rdm.errors import ArtefactError, UsageError
from rdm.models.gates import Gating, gate_table, save_gates
from rdm.tables import profiles
from rdm.tables.profiles import draw_figure5, draw_gates, read_gates
from rdm.train import stage
from tests.conftest import altered, snakemake
from tests.models.gates.test_fold import trained

ARMS = {"without gates": "-control", "gates": "-unsupervised", "gates, supervised": ""}


@pytest.fixture
def drawn(workspace, experiment):
    """The ci experiment with the runs that only Figure 5 needs."""
    for system in ("rdm-f-unsupervised", "rdm-u-unsupervised"):
        stage.run(experiment, paths.run_name("ci", system, 0))
    return workspace


def test_figure5_shows_what_was_logged(drawn, experiment):
    picture, numbers = draw_figure5(experiment)
    assert imread(picture).std() > 0.05
    table = pd.read_csv(numbers)
    for system in ("rdm-f", "rdm-u"):
        for arm, ending in ARMS.items():
            log = (paths.train(f"ci-{system}{ending}-s0") / "log.jsonl").read_text().splitlines()
            for line in map(json.loads, log):
                chosen = table[(table.system == system) & (table.arm == arm) & (table.step == line["step"])]
                assert chosen.state.tolist() == list(range(len(line["sensitivity"]) + 1))
                expected = np.exp([*line["sensitivity"], 0.0])
                np.testing.assert_allclose(chosen.sensitivity, expected, rtol=5e-6, atol=1e-6)  # six digits
    assert set(table.step) == {2, 4}
    first = numbers.read_bytes(), picture.read_bytes()
    draw_figure5(experiment)
    assert (numbers.read_bytes(), picture.read_bytes()) == first


def test_the_steps_shown_are_a_parameter(drawn, write_params):
    changed = params.load(write_params(lambda content: content["figures"]["figure5"].update(steps=[4])))
    assert set(pd.read_csv(draw_figure5(changed)[1]).step) == {4}


def test_gates_by_depth_are_those_of_the_runs(workspace, experiment):
    picture, numbers = draw_gates(experiment)
    assert imread(picture).std() > 0.05
    table = pd.read_csv(numbers)
    for system in ("rdm-f", "rdm-u"):
        run = stage.load(experiment, f"ci-{system}-s0", torch.device("cpu"))
        expected = pd.DataFrame(gate_table(run.network))
        chosen = table[table.system == system].reset_index()
        assert chosen.unit.tolist() == expected.unit.tolist()
        for column in ("alpha_mean", "alpha_min", "alpha_max", "beta_mean", "beta_min", "beta_max"):
            np.testing.assert_allclose(chosen[column], expected[column], rtol=5e-6, atol=1e-6)  # six digits


def test_the_band_holds_all_channels_of_all_seeds(experiment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = {0: (0.9, 1.2), 1: (0.7, 1.1)}  # extremes of alpha by seed
    row = {"depth": 0, "unit": "a unit", "alpha_mean": 1.0, "beta_mean": 0.0, "beta_min": 0.0, "beta_max": 0.0}
    rows = {seed: [row | {"alpha_min": low, "alpha_max": high}] for seed, (low, high) in found.items()}
    monkeypatch.setattr(profiles, "run_file", lambda *of: of[2])
    monkeypatch.setattr(profiles, "read_gates", rows.get)
    bands, fill = [], Axes.fill_between

    def spy(axes, depth, low, high, **how):
        if how.get("label", "").startswith("all channels"):
            bands.append((*low, *high))
        return fill(axes, depth, low, high, **how)

    monkeypatch.setattr(Axes, "fill_between", spy)
    draw_gates(altered(experiment, seeds=[0, 1]))
    assert bands == [(0.7, 1.2), (0.0, 0.0)] * 2  # alpha and beta of two systems


def test_a_gate_file_of_branches_without_beta(tmp_path):
    model = trained("dit", Gating(variant="rezero", unit="branch"))
    rows = read_gates(save_gates(model, tmp_path / "gates"))
    expected = gate_table(model)
    assert [row["unit"] for row in rows] == [row["unit"] for row in expected]
    assert [row["alpha_mean"] for row in rows] == pytest.approx(
        [row["alpha_mean"] for row in expected], rel=5e-6, abs=1e-6
    )
    assert "beta_mean" not in rows[0]


def test_a_run_that_is_not_there_is_named(workspace, experiment):
    with pytest.raises(ArtefactError, match="ci-rdm-u-unsupervised-s0 is not there yet; run `rdm train"):
        draw_figure5(experiment)


def test_no_gates_no_picture(write_params):
    def ungate(content):
        del content["figures"]["rates"]
        for system in content["train"]["gated"].values():
            system["gates"] = {"learning_rate": 1e-3, "variant": "resnet", "supervision": None}

    with pytest.raises(UsageError, match="No system of this experiment has gates"):
        draw_gates(params.load(write_params(ungate)))


def test_the_workflow_makes_only_the_runs_that_a_figure_needs(tmp_path):
    plan = snakemake(tmp_path, "-n", "results/figures/figure5.png").stdout
    jobs = dict(line.split() for line in plan.splitlines() if line and line.split()[0] in ("train", "figure5"))
    assert jobs == {"train": "8", "figure5": "1"}  # two starts, three arms of each
    assert "sample" not in plan
    plan = snakemake(tmp_path, "-n", "results/figures/gates.png").stdout
    jobs = dict(line.split() for line in plan.splitlines() if line and line.split()[0] in ("train", "gates"))
    assert jobs == {"train": "4", "gates": "1"}
