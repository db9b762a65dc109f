"""An image depends on its seed and index alone; labels come in the proportions that the protocol names."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rdm import paths
from rdm.data import digits
from rdm.data import stage as data
from rdm.data.sources import open_videos
from rdm.diffusion.sampling import draw_latents
from rdm.errors import ArtefactError, UsageError
from rdm.latents import stage as latents
from rdm.models.gates import attach_gates, gates_of, load_gates
from rdm.models.zoo import build_network
from rdm.params.dependencies import of_sample
from rdm.params.gates import Gates
from rdm.params.protocol import Protocol
from rdm.parts import Part
from rdm.sample import stage, store
from rdm.sample.dealing import deal_captions, deal_items
from tests.conftest import altered

CPU = torch.device("cpu")
RUN = "ci-rdm-f-s0"


@pytest.fixture
def draw(workspace, experiment):
    """draw(start, batch, run=..., sampler=..., edit=...) -> items; `edit` changes the network before."""

    def images(start, batch, run=RUN, sampler="plain", edit=lambda network: network):
        drawing = stage.prepare_drawing(experiment, run, sampler, CPU)
        edit(drawing.trained.network)
        return replace(drawing, sampler=drawing.sampler.model_copy(update={"batch": batch})).batch(start)

    return images


def test_stored_images_are_those_drawn_alone(draw, experiment):
    stored = store.load(experiment, RUN, "plain")
    assert stored.images.shape == (360, 16, 16, 1)
    assert stored.images.dtype == np.uint8
    assert np.array_equal(draw(300, 60), stored.images[300:360])


def test_stored_clips_are_those_drawn_alone(draw, experiment):
    for sampler in ("clips", "clips-guided"):
        stored = store.load(experiment, "ci-ucf-latte-s0", sampler)
        assert stored.images.shape == (60, 4, 16, 16, 1)
        assert stored.images.dtype == np.uint8
        assert len(stored.labels) == 60
        assert np.array_equal(draw(40, 20, "ci-ucf-latte-s0", sampler), stored.images[40:60])


@pytest.mark.parametrize(
    ("run", "sampler"),
    [
        (RUN, "plain"),
        ("ci-ucf-rdm-s0", "clips-guided"),
        ("ci-sky-latte-s0", "clips"),
        ("ci-dit-text-s0", "guided"),
        ("ci-rdm-u-text-s0", "plain"),
    ],
)
def test_batch_size_does_not_matter(draw, run, sampler):
    """Matrix products of other sizes round differently; what is seen, in 256 levels, is the same."""
    whole = draw(0, 8, run, sampler).astype(int)
    assert len({item.tobytes() for item in whole}) == 8
    for batch in (1, 3):
        parts = np.concatenate([draw(start, batch, run, sampler) for start in range(0, 8, batch)])[:8]
        assert np.abs(parts - whole).max() <= 1


def test_a_sampler_with_a_step_draws_from_the_snapshot(workspace, experiment):
    """Figure 6's runs: by hand from the weights that were kept after two of four steps."""
    run, drawn = "ci-dit-rdm-s0", {}
    codec = latents.load_codec(experiment, "f4", CPU)
    baseline, chosen = experiment.baseline("dit-rdm"), experiment.sample["plain"]
    labels = data.load(experiment, "tiny", "test").labels[:60]
    for name, at in (("plain-step2", "-step2"), ("plain", "")):
        network = build_network(baseline.network, [4, 4, 4], 10, seed=0)
        network.load_state_dict(load_file(paths.train(run) / f"model{at}.safetensors"))
        load_gates(network, paths.train(run) / f"gates{at}.safetensors").eval()
        keys = [(0, index) for index in range(60)]
        noise = draw_latents(network, baseline.diffusion, chosen, [4, 4, 4], torch.from_numpy(labels), 10, keys)
        drawn[name] = codec.decode(noise)
        stored = store.load(experiment, run, name)
        assert np.array_equal(stored.images[:60], drawn[name])
        assert np.array_equal(stored.labels[:60], labels)
    assert not np.array_equal(drawn["plain-step2"], drawn["plain"])


@pytest.mark.parametrize(("run", "sampler"), [("ci-ucf-latte-s0", "clips-guided"), ("ci-sky-rdm-s0", "clips")])
def test_previews_of_clips_can_be_watched(workspace, experiment, tmp_path, run, sampler):
    """Twenty clips in five columns of 64 pixels, each in a border of 2."""
    shutil.rmtree(paths.sample(run, sampler))
    for suffix in ("mp4", "gif"):
        paths.preview(run, sampler, suffix).unlink()
    stage.run(experiment, run)
    clips = store.load(experiment, run, sampler).images[:20, ..., 0]
    large = np.pad(clips.repeat(4, axis=2).repeat(4, axis=3), ((0, 0), (0, 0), (2, 0), (2, 0)), constant_values=128)
    grid = large.reshape(4, 5, 4, 66, 66).transpose(2, 0, 3, 1, 4).reshape(4, 264, 330)
    grid = np.pad(grid, ((0, 0), (0, 2), (0, 2)), constant_values=128)
    for suffix in ("mp4", "gif"):
        (tmp_path / suffix).mkdir()
        shutil.copy(paths.preview(run, sampler, suffix), tmp_path / suffix)
        videos = open_videos(tmp_path / suffix)
        assert (videos.count, videos.frame_shape) == (1, (266, 332, 3))
        if suffix == "mp4":
            assert videos.length(0) == 4
        first = videos.read(0, [0])[0].astype(int)
        assert np.abs(first - grid[0][..., None]).mean() < 3


def test_only_clips_have_previews(workspace, experiment):
    of_clips = {
        (run, sampler)
        for run, (system, _) in experiment.runs.items()
        for sampler in experiment.samplers_of(system)
        if experiment.data_of(system) in ("ucf", "sky")
    }
    for suffix in ("mp4", "gif"):
        assert {(path.parent.name, path.stem) for path in paths.RESULTS.rglob(f"*.{suffix}")} == of_clips


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


@pytest.mark.parametrize("run", ["ci-dit-text-s0", "ci-rdm-u-text-s0"])
def test_images_from_text_are_drawn_with_the_captions_of_the_reference(draw, experiment, run):
    """Beside each stands its caption, which names the digit of its label."""
    [shard] = paths.sample(run, "plain").glob("*.npz")
    stored, reference = np.load(shard), data.load_captions(experiment, "tiny", "test")
    assert stored["captions"].tolist() == [caption for [caption] in reference]
    for label, caption in zip(stored["arr_1"], stored["captions"], strict=True):
        assert digits.WORDS[label] in caption.split()
    before = draw(0, 60, run=run)
    assert np.array_equal(before, stored["arr_0"][:60])

    def other_captions(network):
        tokens = network.text.tokens
        network.text.tokens = lambda captions: tokens(captions[::-1])
        for name, parameter in network.named_parameters():  # after four steps of training the text has no weight yet
            if "attn2.to_" in name or "proj_out" in name or "conv_out" in name:
                torch.nn.init.normal_(parameter)

    def same_captions(network):
        other_captions(network)
        del network.text.tokens

    edited = draw(0, 60, run=run, edit=same_captions)
    assert not np.array_equal(draw(0, 60, run=run, edit=other_captions), edited)


def dealing(labels, samples):
    return Protocol(samples=samples, labels=labels, reference="test", extractor="classifier")


def test_captions_of_random_items_are_dealt_once_each():
    none = np.zeros(50, np.int64)
    items = deal_items(dealing("captions", 20), none)
    assert len(set(items.tolist())) == 20
    assert items.max() < 50
    assert not np.array_equal(items, np.sort(items))
    assert np.array_equal(items[:7], deal_items(dealing("captions", 7), none))  # an item is a function of its index
    with pytest.raises(UsageError, match="has 50 items, the protocol deals captions of 51, one of each"):
        deal_items(dealing("captions", 51), none)


def test_reference_items_are_dealt_over_and_over():
    labels = np.array([0, 1, 1, 0])
    assert deal_items(dealing("reference", 6), labels).tolist() == [0, 1, 2, 3, 0, 1]
    assert sorted(labels[deal_items(dealing("reference", 2), labels)]) == [0, 1]


def test_of_several_captions_the_item_chooses_one(experiment, monkeypatch):
    """The same for every seed of training."""
    captions = [[f"{item} {number}" for number in range(5)] for item in range(400)]
    none = SimpleNamespace(labels=np.zeros(400, np.int64))
    monkeypatch.setattr(data, "load_captions", lambda *_: captions)
    monkeypatch.setattr(data, "load_labels", lambda *_: none.labels)
    protocol = experiment.protocols["images"].model_copy(update={"labels": "captions", "samples": 300})
    changed = altered(experiment, protocols=experiment.protocols | {"images": protocol})
    found = [tuple(map(int, caption.split())) for caption in deal_captions(changed, "tiny")]
    assert [item for item, _ in found] == deal_items(protocol, none.labels).tolist()
    assert np.bincount([number for _, number in found]).min() > 35
    fewer = altered(changed, protocols=changed.protocols | {"images": protocol.model_copy(update={"samples": 9})})
    assert deal_captions(fewer, "tiny") == deal_captions(changed, "tiny")[:9]


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
    labels = stage.deal_labels(experiment, "tiny", "reference", 10, seed=0)
    assert np.array_equal(np.bincount(labels), np.bincount(reference))
    assert (np.diff(labels) < 0).any()
    clips = data.load(experiment, "ucf", "test").labels
    assert np.array_equal(stage.deal_labels(experiment, "ucf", "reference", 10, seed=0), clips)
    assert not np.array_equal(labels[:60], clips)


def test_samples_are_of_the_data_whose_labels_are_dealt(workspace, experiment):
    """Stored anew with another test split, the data may deal other labels; balanced and random ones need none."""

    def recipes():
        found = {}
        for rule in ("reference", "captions", "balanced", "random"):
            protocols = {name: p.model_copy(update={"labels": rule}) for name, p in experiment.protocols.items()}
            found[rule] = stage._recipe(altered(experiment, protocols=protocols), RUN, "plain").digest
        return found

    before, path = recipes(), paths.data("tiny") / paths.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"]["test_labels.npy"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert [rule for rule, digest in recipes().items() if digest != before[rule]] == ["reference", "captions"]


def test_balanced_and_random_labels(experiment):
    def deal(kind, seed=0):
        protocol = experiment.protocols["images"].model_copy(update={"samples": 5000})
        changed = altered(experiment, protocols=experiment.protocols | {"images": protocol})
        return stage.deal_labels(changed, "tiny", kind, 10, seed)

    assert set(np.bincount(deal("balanced"))) == {500}
    counts = np.bincount(deal("random"))
    assert counts.min() > 400
    assert len(set(counts)) > 1
    assert np.array_equal(deal("random"), deal("random"))
    assert not np.array_equal(deal("random"), deal("random", seed=1))


def test_a_sampler_deals_labels_in_a_way_of_its_own(workspace, experiment):
    """As LDM's, balanced, beside others of the same data set; from text they are those of the captions."""
    own = experiment.samplers["plain"].model_copy(update={"labels": "balanced"})
    changed = altered(experiment, sample=experiment.sample | {"plain": own})
    assert stage.prepare_drawing(changed, RUN, "plain", CPU).labels.tolist() == [*range(10)] * 36
    assert of_sample(changed, RUN, "plain")["dealt"] == {"samples": 360, "labels": "balanced"}
    for run, sampler in ((RUN, "guided"), ("ci-rdm-f-text-s0", "plain")):
        drawings = [stage.prepare_drawing(e, run, sampler, CPU) for e in (experiment, changed)]
        assert np.array_equal(drawings[0].labels, drawings[1].labels)
        assert of_sample(experiment, run, sampler) == of_sample(changed, run, sampler)


@pytest.mark.parametrize("kind", ["reference", "balanced", "random"])
def test_labels_of_an_unconditional_set_are_all_zero(workspace, experiment, kind):
    labels = stage.deal_labels(experiment, "sky", kind, 0, seed=0)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0] * 60
    assert store.load(experiment, "ci-sky-latte-s0", "clips").labels.tolist() == [0] * 60


def test_parts_are_joined_to_the_same_shards(workspace, experiment, monkeypatch):
    """Six shards drawn by four jobs, in any order; one of ten finds nothing to do."""
    monkeypatch.setattr(stage, "SHARD_BATCHES", 1)
    folder = paths.sample(RUN, "plain")
    expected = store.load(experiment, RUN, "plain").images
    shutil.rmtree(folder)
    for number in (3, 1, 4, 2):
        [waiting] = stage.run(experiment, RUN, part=Part(number, 4))
        assert not folder.exists()
    shards = len(list(waiting.glob("*.npz")))
    assert shards == -(-len(expected) // experiment.samplers["plain"].batch) > 4
    stage.run(experiment, RUN, part=Part(1, 10))
    drawn = []
    monkeypatch.setattr(stage.Drawing, "batch", lambda drawing, start: drawn.append(start))
    stage.run(experiment, RUN)
    assert drawn == []
    assert np.array_equal(store.load(experiment, RUN, "plain").images, expected)
    assert not waiting.exists()


def test_parts_are_drawn_beside_what_other_parameters_made(workspace, experiment):
    """As Snakemake does it, which removes the earlier samples only before the call that joins the parts."""
    fewer = experiment.sample["plain"].model_copy(update={"steps": experiment.sample["plain"].steps + 1})
    changed = altered(experiment, sample=experiment.sample | {"plain": fewer})
    [waiting] = stage.run(changed, RUN, part=Part(1, 1))
    assert list(waiting.glob("*.npz"))
    with pytest.raises(ArtefactError, match="made with other parameters"):
        stage.run(changed, RUN)
