"""A run from the files of other runs: what it learns from, where it starts, what it keeps, and what it cost."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from rdm import paths
from rdm.errors import ArtefactError
from rdm.latents import stage as latents
from rdm.models.cost import forward_flops
from rdm.models.gates import attach_gates, save_gates, split_state
from rdm.models.text import build_text, folder_digest
from rdm.models.zoo import build_network
from rdm.params.gates import Gates
from rdm.params.network import PublishedEncoder
from rdm.params.schema import DiT
from rdm.provenance.files import file_digest
from rdm.provenance.manifest import read
from rdm.randomness import seed_of
from rdm.train import loop, stage
from rdm.train.loop import Job, fit
from tests.conftest import altered
from tests.models.small import ENCODER, WORDS

CPU = torch.device("cpu")


@pytest.fixture
def trained(workspace, experiment):
    """trained(system, **changes) -> the folder of a run of seed 0, trained anew with other values of its recipe."""

    def run(system, **changes):
        section = "gated" if system in experiment.train.gated else "baselines"
        entries = getattr(experiment.train, section)
        train = {section: entries | {system: entries[system].model_copy(update=changes)}}
        changed = altered(experiment, train=experiment.train.model_copy(update=train))
        shutil.rmtree(workspace / paths.train(f"ci-{system}-s0"), ignore_errors=True)
        return workspace / stage.run(changed, f"ci-{system}-s0")

    return run


def weights_of(folder, name="model"):
    return load_file(folder / f"{name}.safetensors")


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# ---------------------------------------------------------------- what it learns from, where it starts


def test_a_network_for_images_learns_the_frames_of_clips(workspace, experiment, trained):
    """Trained by hand on all frames, each with its clip's label."""
    clips = latents.load(experiment, "ucf-f4")
    held = clips.latents.hold(CPU)
    frames = torch.stack([held[clip, frame] for clip in range(60) for frame in range(4)])
    labels = torch.tensor([int(label) for label in clips.labels for _ in range(4)])
    entry = experiment.train.baselines["ucf-frames"]
    state = workspace / "state"
    job = Job(entry, entry.diffusion, None, frames, labels, 10, seed_of(0, "train"), "by hand", state)
    network = build_network(entry.network, [4, 4, 4], 10, 0)
    by_hand = fit(network, job, CPU).ema.state_dict()
    assert equal(weights_of(trained("ucf-frames")), by_hand)
    # of frames in another order, something else is learnt
    turned = fit(build_network(entry.network, [4, 4, 4], 10, 0), Job(**{**vars(job), "latents": frames.flip(0)}), CPU)
    assert not equal(turned.ema.state_dict(), by_hand)


def test_a_latte_starts_from_the_frames_network(workspace, experiment, trained):
    """At a rate of nothing it stays where it starts: spatial blocks and all else the DiT's, temporal blocks its own."""
    frames = workspace / paths.train("ci-ucf-frames-s0")
    start, entry = weights_of(frames), experiment.train.baselines["ucf-latte"]
    folder = trained("ucf-latte", steps=1, learning_rate=1e-30, cooldown_steps=0)
    kept = weights_of(folder)
    fresh = build_network(entry.network, [4, 4, 4, 4], 10, 0).state_dict()
    assert kept.keys() == fresh.keys()
    for name, tensor in kept.items():
        expected = fresh[name] if name.startswith("transformer_blocks.1.") else start[name]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-20)
    assert sum(not torch.equal(start[name], fresh[name]) for name in start) > 10  # of the trained one, and no other
    made_of = json.loads((folder / "manifest.json").read_text())["recipe"]["inputs"]
    assert made_of["start"] == read(frames, "").digest
    unlike = weights_of(trained("ucf-latte"))
    assert all(not torch.equal(unlike[name], tensor) for name, tensor in kept.items() if name.endswith("weight"))


# ---------------------------------------------------------------- snapshots


@pytest.mark.parametrize("system", ["dit", "rdm-f", "rdm-u"])
def test_snapshots_are_files_of_their_own(workspace, experiment, trained, system):
    """Those of a run of four steps at its second are the result of a run of two, also if it was killed after it."""
    names = ["model", *(["gates"] if system.startswith("rdm") else [])]
    two = copied(trained(system, steps=2), names)
    whole = trained(system, snapshots=(2,))
    assert copied(whole, [f"{name}-step2" for name in names]) == two
    files = {path.name: path.read_bytes() for path in whole.iterdir() if path.name != "manifest.json"}
    assert {name for name in files if name.endswith(".safetensors")} == {
        f"{name}{at}.safetensors" for name in names for at in ("", "-step2")
    }
    assert copied(whole, names) != two
    step, saved = loop._step, []

    def killed(state, *arguments):
        if state.step == 3:
            saved.append(list(state.snapshots))
            raise KeyboardInterrupt
        step(state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_pause", lambda took: -1)
        patch.setattr(loop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(system, snapshots=(2,))
    assert saved == [[2]]
    assert (workspace / paths.train_state(f"ci-{system}-s0")).is_file()
    again = trained(system, snapshots=(2,))
    assert {path.name: path.read_bytes() for path in again.iterdir() if path.name != "manifest.json"} == files


def copied(folder, names):
    return [(folder / f"{name}.safetensors").read_bytes() for name in names]


def test_a_snapshot_is_loaded_with_its_own_gates(workspace, experiment):
    """Figure 6's runs keep the weights of step 2 beside those of the end."""
    run = "ci-dit-rdm-s0"
    folder, found = workspace / paths.train(run), []
    for step, at in ((2, "-step2"), (None, "")):
        network = stage.load(experiment, run, CPU, step).network
        plain, gates = split_state(network)
        assert len(gates) == 4  # alpha and beta of two blocks
        assert equal(plain, weights_of(folder, f"model{at}"))
        save_gates(network, workspace / "again.safetensors")
        assert (workspace / "again.safetensors").read_bytes() == (folder / f"gates{at}.safetensors").read_bytes()
        found.append({**plain, **gates})
    assert not any(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items() if "delta" in name)
    assert not torch.equal(*(weights["proj_out_2.weight"] for weights in found))


def test_facts_of_the_gates_are_of_the_end(workspace):
    """And not of the snapshot that Figure 6's runs keep beside it; of the file's own numbers, and in the card."""
    folder = workspace / paths.train("ci-dit-rdm-s0")
    ranges = {}
    for at in ("", "-step2"):
        gates = load_file(folder / f"gates{at}.safetensors")
        parts = {what: [v.flatten() for name, v in gates.items() if what in name] for what in ("delta", "beta")}
        alpha, beta = 1 + torch.cat(parts["delta"]), torch.cat(parts["beta"])
        ranges[at] = {"alpha": list(map(float, alpha.aminmax())), "beta": list(map(float, beta.aminmax()))}
    assert ranges[""] != ranges["-step2"]
    assert read(folder, "").facts["gates"] == {"units": 2, "ranges": ranges[""]}
    low, high = ranges[""]["alpha"]
    assert f"learnt: alpha {low:.4f} to {high:.4f}" in (folder / "README.md").read_text()


# ---------------------------------------------------------------- what it cost


def parameters_of_a_dit(width, depth, patch, channels, classes):
    block = 4 * (width**2 + width) + (8 * width**2 + 5 * width) + 6 * (width**2 + width)
    time, label = 256 * width + width + width**2 + width, (classes + 1) * width
    ends = channels * patch**2 * width + width + 2 * (width**2 + width) + (width + 1) * patch**2 * channels
    return depth * block + time + label + ends


def flops_of_a_dit(width, depth, patch, channels, size):
    """Twice the multiplications of each linear layer, of queries with keys, and of weights with values."""
    tokens = (size // patch) ** 2
    block = tokens * 12 * width**2 + 2 * tokens**2 * width + 6 * width**2  # the last: adaLN, once for all tokens
    ends = 2 * tokens * patch**2 * channels * width + 256 * width + width**2 + 2 * width**2
    return 2 * (depth * block + ends)


def test_facts_are_those_of_the_network(workspace, experiment):
    facts = {name: read(paths.train(f"ci-{name}-s0"), "").facts for name in ("dit", "rdm-f", "dit-depth1")}
    sizes = {"width": 16, "patch": 2, "channels": 4}
    for name, depth in (("dit", 2), ("dit-depth1", 1)):
        assert facts[name]["parameters"] == parameters_of_a_dit(depth=depth, classes=10, **sizes)
        assert facts[name]["forward_flops"] == flops_of_a_dit(depth=depth, size=4, **sizes)
    assert facts["rdm-f"]["parameters"] == facts["dit"]["parameters"] + 2 * 2 * 16  # alpha and beta, a channel each
    assert facts["rdm-f"]["forward_flops"] == facts["dit"]["forward_flops"]  # gates multiply no matrices


class Plain(nn.Module):
    """Two linear layers and a convolution, (3, 4, 4) -> 5."""

    def __init__(self):
        super().__init__()
        self.convolve = nn.Conv2d(3, 2, 3, padding=1)
        self.first, self.second = nn.Linear(32, 7), nn.Linear(7, 5, bias=False)

    def forward(self, latents, timesteps, labels):
        return self.second(self.first(self.convolve(latents).flatten(1)) + timesteps[:, None] + labels[:, None])


def test_flops_of_a_plain_network_by_hand():
    assert forward_flops(Plain(), [3, 4, 4]) == 2 * (2 * 3 * 9 * 16 + 32 * 7 + 7 * 5)


def test_flops_of_the_largest_dit_are_the_published_ones():
    """DiT-XL/2 at 256x256: 118.64 GMAC (Peebles & Xie, 2023), which counts what predicts the variance, too."""
    largest = DiT(kind="dit", width=1152, depth=28, heads=16, patch=2)
    with torch.device("meta"):
        network = build_network(largest, [4, 32, 32], 1000, 0)
    found = forward_flops(network, [4, 32, 32])
    assert found == flops_of_a_dit(1152, 28, 2, 4, 32)
    assert found / 1e9 == pytest.approx(237.2, abs=0.05)
    assert found / 2e9 == pytest.approx(118.64, rel=1e-3)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == parameters_of_a_dit(1152, 28, 2, 4, 1000)
    assert parameters / 1e6 == pytest.approx(675, rel=2e-3)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_do_not_depend_on_the_device(device):
    small = DiT(kind="dit", width=32, depth=3, heads=4, patch=2)
    network = attach_gates(build_network(small, [4, 8, 8], 10, 0), Gates(learning_rate=1.0))
    assert forward_flops(copy.deepcopy(network).to(device), [4, 8, 8]) == flops_of_a_dit(32, 3, 2, 4, 8)


def test_captions_are_of_the_data_that_the_latents_encode(workspace, experiment):
    """Stored anew they may stand in another order, beside other images."""
    run, folder = "ci-dit-text-s0", paths.data("tiny")
    captions = folder / "train_captions.json"
    text = json.dumps(json.loads(captions.read_text())[::-1])
    shutil.rmtree(paths.train(run))
    captions.write_text(text)
    manifest = json.loads((folder / paths.MANIFEST).read_text())
    manifest["files"][captions.name] = file_digest(captions)
    (folder / paths.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(
        ArtefactError, match="was made from another version of .*tiny; run `rdm latents f4 --overwrite`"
    ):
        stage.run(experiment, run)
    assert not paths.train(run).exists()


def test_a_run_belongs_to_the_text_encoder_that_it_learned_with(workspace, experiment):
    """Other weights in the same folder: neither taken for current, nor loaded; with --overwrite learned anew."""
    tokenizer, run = build_text(ENCODER, WORDS).tokenizer, "ci-dit-text-s0"

    def write(seed):
        shutil.rmtree("encoder", ignore_errors=True)
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        BertModel(config).eval().save_pretrained("encoder")
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
        fast.save_pretrained("encoder")
        return folder_digest(Path("encoder"))

    baselines = experiment.train.baselines
    published = PublishedEncoder(weights="encoder", width=8, length=8)
    network = baselines["dit-text"].network.model_copy(update={"text": published})
    entry = baselines["dit-text"].model_copy(update={"network": network})
    train = experiment.train.model_copy(update={"baselines": baselines | {"dit-text": entry}})
    changed = altered(experiment, train=train)
    shutil.rmtree(workspace / paths.train(run))
    first = write(seed=0)
    folder = workspace / stage.run(changed, run)
    before = weights_of(folder)
    assert stage.load(changed, run, CPU).artefact.recipe["inputs"]["text"] == first
    second = write(seed=1)
    assert second != first
    with pytest.raises(ArtefactError, match=rf"learned with another text encoder; run `rdm train {run} --overwrite`"):
        stage.load(changed, run, CPU)
    with pytest.raises(ArtefactError, match=rf"made from other input files; run `rdm train {run} --overwrite`"):
        stage.run(changed, run)
    assert equal(weights_of(folder), before)
    stage.run(changed, run, overwrite=True)
    assert stage.load(changed, run, CPU).artefact.recipe["inputs"]["text"] == second
    assert not equal(weights_of(folder), before)
