"""An image depends on its seed and index alone; labels come in the proportions that the protocol names."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from rdm import paths
from rdm.data import stage as data
from rdm.models.gates import attach_gates, gates_of
from rdm.params.gates import Gates
from rdm.sample import stage, store

CPU = torch.device("cpu")
RUN = "ci-rdm-f-s0"


@pytest.fixture
def draw(workspace, experiment):
    """draw(start, batch, run=..., edit=...) -> images of the plain sampler; `edit` changes the network before."""

    def images(start, batch, run=RUN, edit=lambda network: network):
        drawing = stage.prepare_drawing(experiment, run, "plain", CPU)
        edit(drawing.trained.network)
        return replace(drawing, sampler=drawing.sampler.model_copy(update={"batch": batch})).batch(start)

    return images


def test_stored_images_are_those_drawn_alone(draw, experiment):
    stored = store.load(experiment, RUN, "plain")
    assert stored.images.shape == (360, 16, 16, 1)
    assert stored.images.dtype == np.uint8
    assert np.array_equal(draw(300, 60), stored.images[300:360])


def test_batch_size_does_not_matter(draw):
    """Matrix products of other sizes round differently; what is seen, in 256 levels, is the same."""
    whole = draw(0, 8).astype(int)
    for batch in (1, 3):
        parts = np.concatenate([draw(start, batch) for start in range(0, 8, batch)])[:8]
        assert np.abs(parts - whole).max() <= 1


@pytest.mark.parametrize(
    ("run", "shape"), [("ci-dit-s0", "channel"), ("ci-ldm4-s0", "channel"), ("ci-ldm4-s0", "scalar")]
)
def test_gates_before_their_first_step_give_the_baselines_samples(draw, run, shape):
    gates = Gates(shape=shape, learning_rate=1.0)
    before = draw(0, 60, run=run)
    assert np.array_equal(draw(0, 60, run=run, edit=lambda network: attach_gates(network, gates)), before)

    def opened(network):
        for gate in gates_of(attach_gates(network, gates)).values():
            gate.delta.data.add_(1000.0)  # wide open: after four steps F is still small

    assert not np.array_equal(draw(0, 60, run=run, edit=opened), before)


def test_an_interrupted_sampling_keeps_its_shards(workspace, experiment, monkeypatch):
    expected = store.load(experiment, RUN, "plain").images
    shutil.rmtree(workspace / paths.sample(RUN, "plain"))
    monkeypatch.setattr(stage, "SHARD_BATCHES", 2)
    batch, starts = stage.Drawing.batch, []

    def failing(drawing, start):
        starts.append(start)
        if len(starts) == 4:
            raise KeyboardInterrupt
        return batch(drawing, start)

    monkeypatch.setattr(stage.Drawing, "batch", failing)
    with pytest.raises(KeyboardInterrupt):
        stage.run(experiment, RUN)
    assert not (workspace / paths.sample(RUN, "plain")).exists()
    stage.run(experiment, RUN)
    assert starts == [0, 60, 120, 180, 120, 180, 240, 300]
    assert np.array_equal(store.load(experiment, RUN, "plain").images, expected)


def test_reference_labels_have_exact_proportions(workspace, experiment):
    reference = data.load(experiment, "tiny", "test").labels
    labels = stage.deal_labels(experiment, 10, seed=0)
    assert np.array_equal(np.bincount(labels), np.bincount(reference))
    assert (np.diff(labels) < 0).any()


def test_balanced_and_random_labels(experiment):
    def deal(kind, seed=0):
        protocol = experiment.protocol.model_copy(update={"labels": kind, "samples": 5000})
        return stage.deal_labels(experiment.model_copy(update={"protocol": protocol}), 10, seed)

    assert set(np.bincount(deal("balanced"))) == {500}
    counts = np.bincount(deal("random"))
    assert counts.min() > 400
    assert len(set(counts)) > 1
    assert np.array_equal(deal("random"), deal("random"))
    assert not np.array_equal(deal("random"), deal("random", seed=1))
