"""Trackers look on: what they are told is what happened, and the training's bytes are the same without them."""

import importlib.util
import json
import shutil

import pytest
import torch
from accelerate import tracking
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rdm import paths
from rdm.cli import main
from rdm.errors import RdmError
from rdm.params.dependencies import of_train
from rdm.provenance.manifest import Recipe
from rdm.tables.profiles import read_gates
from rdm.train import stage, trackers
from rdm.train.loop import rate_factor
from rdm.train.state import TrainingState
from tests.conftest import CI

RUN = "ci-rdm-f-s0"


def train(*options):
    """`rdm train` of the run, which is there no more."""
    shutil.rmtree(paths.train(RUN), ignore_errors=True)
    return CliRunner().invoke(main, ["train", RUN, "--params", str(CI), *options])


def files_of(run):
    """The bytes of a run's files but the manifest, which holds seconds."""
    return {path.name: path.read_bytes() for path in paths.train(run).iterdir() if path.name != paths.MANIFEST}


def scalars(folder):
    """tag -> {step: value}, as TensorBoard shows them."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_log_rates_and_gates(workspace, experiment, monkeypatch):
    """Asked for by RDM_TRACKER, as under Snakemake and DVC; the run's bytes are those of the run without."""
    before = files_of(RUN)
    monkeypatch.setenv("RDM_TRACKER", "tensorboard")
    done = train()
    assert done.exit_code == 0, done.output
    assert files_of(RUN) == before
    shown, entry = scalars(workspace / "logs" / "tensorboard" / RUN), experiment.train.gated["rdm-f"]
    for line in map(json.loads, before["log.jsonl"].splitlines()):
        step, factor = line["step"], rate_factor(entry, line["step"] - 1)
        assert shown["loss"][step] == pytest.approx(line["loss"])
        assert shown["learning_rate"][step] == pytest.approx(entry.learning_rate * factor)
        assert shown["gates/learning_rate"][step] == pytest.approx(entry.gates.learning_rate * factor)
        for state, value in enumerate(line["sensitivity"]):
            assert shown[f"sensitivity/{state:02d}"][step] == pytest.approx(value, abs=1e-6)
    assert shown["loss"].keys() == {2, 4}
    for row in read_gates(paths.train(RUN) / "gates.safetensors"):
        assert shown[f"gates/{row['unit']}/alpha_mean"][4] == pytest.approx(row["alpha_mean"], abs=1e-6)
    [configuration] = (workspace / "logs" / "tensorboard" / RUN).rglob("hparams.yml")
    assert "train.steps: 4\n" in configuration.read_text()
    assert "train.gates.learning_rate: 0.01\n" in configuration.read_text()


def state_at(network, step, log):
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    return TrainingState(network, network, optimiser, torch.zeros(()), step, log)


def line(step, loss):
    return {"step": step, "loss": loss, "sensitivity": None, "supervision_to_loss": None}


def test_a_training_that_goes_on_is_one_curve(workspace, experiment):
    """What was shown after the step from which it goes on is replaced."""
    recipe, network = Recipe("train", of_train(experiment, RUN)), torch.nn.Linear(1, 1)
    for first, last, loss in ((0, 4, 1.0), (2, 5, 2.0)):
        state = state_at(network, first, [line(step, 1.0) for step in range(1, first + 1)])
        with trackers.following(["tensorboard"], "ci", "run", recipe) as watch:
            watch(state)
            for step in range(first + 1, last + 1):
                state.step = step
                state.log.append(line(step, loss))
                watch(state)
    shown = scalars(workspace / "logs" / "tensorboard" / "run")
    assert shown["loss"] == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}
    assert "sensitivity/00" not in shown
    assert "supervision_to_loss" not in shown


def test_a_tracker_that_fails_stops_no_training(workspace, monkeypatch):
    before = files_of(RUN)

    def fail(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tracking.TensorBoardTracker, "log", fail)
    done = train("--tracker", "tensorboard")
    assert done.exit_code == 0
    assert done.stderr.count("'tensorboard' failed, and is left out from here: no route to host") == 1
    assert files_of(RUN) == before


def test_a_tracker_that_does_not_start(workspace, experiment, monkeypatch):
    """Before the first step, and with nothing left behind."""

    def fail(*_, **__):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(tracking.TensorBoardTracker, "start", fail)
    shutil.rmtree(paths.train(RUN))
    with pytest.raises(RdmError, match=r"'tensorboard' could not be started: no route to host\. Set it up"):
        stage.run(experiment, RUN, trackers=["tensorboard"])
    assert not paths.train(RUN).exists()


@pytest.mark.parametrize("missing", ["wandb", "accelerate"])
def test_a_tracker_that_is_not_installed(workspace, monkeypatch, missing):
    found = {name: importlib.util.find_spec("json") for name in ("accelerate", "wandb")} | {missing: None}
    monkeypatch.setattr(trackers, "find_spec", found.__getitem__)
    done = train("--tracker", "wandb")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "'wandb' is not installed; run `pip install -e '.[wandb]'`" in done.stderr
    assert not paths.train(RUN).exists()
    assert "'neptune' is not one of" in train("--tracker", "neptune").stderr
