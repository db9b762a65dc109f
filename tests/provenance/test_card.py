"""Model cards say what a run is, and show its own scores alone."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from rdm import paths
from rdm.params.schema import Network
from rdm.provenance.card import NAMES, card
from rdm.provenance.files import file_digest
from rdm.provenance.manifest import read
from tests.provenance.by_hand import CONFIG, make, make_chain
from tests.test_cli import fails, rdm

RUN = "ci-dit-s0"


@pytest.fixture
def chain(tmp_path, monkeypatch, experiment):
    monkeypatch.chdir(tmp_path)
    make_chain(experiment)


def test_every_kind_of_network_has_a_name():
    kinds = {
        kind for network in get_args(get_args(Network)[0]) for kind in get_args(network.model_fields["kind"].annotation)
    }
    assert kinds == NAMES.keys()


def test_before_and_after_scores(chain):
    """The card of the training says where scores will be; the verb's has them."""
    trained, config = read(paths.train(RUN), ""), json.loads((paths.train(RUN) / "config.json").read_text())
    weights = {"model.safetensors": file_digest(paths.train(RUN) / "model.safetensors")}
    first = card(RUN, trained.recipe, trained.facts, weights, config)
    assert f"`rdm card {RUN}` prints this card with its scores" in first
    for text in ("1,234 parameters", "CC BY 4.0", "random weights", weights["model.safetensors"], "4 steps, seed 0"):
        assert text in first
    assert "**gates**" not in first
    assert "$" not in first
    done = rdm("card", RUN)
    assert done.exit_code == 0, done.output
    assert "| plain     | ci         | fid      | 1.25    | 0.5" in done.stdout
    assert done.stdout.partition("## Scores")[0] == first.partition("## Scores")[0]


def test_gates_are_listed(chain):
    """Their kind, and how far they moved."""
    trained = read(paths.train(RUN), "")
    recipe = json.loads(json.dumps(trained.recipe))
    recipe["parameters"]["train"]["gates"] = {"variant": "rdm", "shape": "channel", "supervision": {"weight": 0.35}}
    facts = trained.facts | {"gates": {"units": 2, "ranges": {"alpha": [0.98, 1.02], "beta": [-0.01, 0.5]}}}
    text = card(RUN, recipe, facts, {}, CONFIG)
    assert "A DiT with gates" in text
    assert "supervision (weight 0.35); of 2 units; learnt: alpha 0.9800 to 1.0200, beta -0.0100 to 0.5000" in text


def test_an_autoencoder_of_another_data_set_is_told(chain):
    trained = read(paths.train(RUN), "")
    assert "**autoencoder**" not in card(RUN, trained.recipe, trained.facts, {}, CONFIG)
    parameters = trained.recipe["parameters"] | {"data": {"source": "digits", "image_size": 16}, "encodes": {}}
    text = card(RUN, trained.recipe | {"parameters": parameters}, trained.facts, {}, CONFIG)
    assert "- **autoencoder**: trained on other data: source digits, image size 16\n" in text


def test_scores_of_another_training_are_refused(chain):
    latents = read(paths.latents("tiny", "f4"), "")
    make(paths.train(RUN), "train", {"train": {}}, "others", latents=latents)
    fails(rdm("card", RUN), 1, "another version of results/train/ci-dit-s0", "rdm sample ci-dit-s0")
    shutil.rmtree(paths.sample(RUN, "plain"))
    fails(rdm("card", RUN), 1, "results/sample/ci-dit-s0/plain is not there", "rdm sample ci-dit-s0")
    shutil.rmtree("results/score")
    assert "It has none yet." in rdm("card", RUN).stdout


def test_names(chain):
    fails(rdm("card", "ci-dti-s0"), 2, "'ci-dti-s0'", "'ci-dit-s0'")
    fails(rdm("card", "ci-ldm4-s0"), 1, "not there yet", "rdm train ci-ldm4-s0")


def test_every_run_has_one(workspace):
    """As the stages leave them: the one beside the weights, and with scores."""
    for run, word in (
        ("ci-rdm-f-s0", "with gates"),
        ("ci-dit-s0", "random weights"),
        ("ci-ucf-latte-s0", "ci-ucf-frames-s0"),
    ):
        text = (paths.train(run) / "README.md").read_text()
        assert word in text
        steps = json.loads((paths.train(run) / "manifest.json").read_text())["facts"]["step"]
        assert f"ema decay {float(f'{(1 + steps) / (10 + steps):.4g}')}" in text  # what its warm-up reached
        assert "README.md" in json.loads((paths.train(run) / "manifest.json").read_text())["files"]
        done = rdm("card", run)
        assert done.stdout.partition("## Scores")[0] == text.partition("## Scores")[0]
        assert "| fid " in done.stdout or "| fvd " in done.stdout
    assert Path("results/train/ci-ucf-frames-s0/README.md").is_file()
