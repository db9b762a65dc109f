"""A system of published weights, from its autoencoder to its samples: the code path of the paper's own scale, small."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rdm import params, paths
from rdm.data import stage as data
from rdm.latents import stage as latents
from rdm.latents.codec import to_pixels
from rdm.train import stage as train
from rdm.train.loop import Items, draw_batch
from tests.latents import official_autoencoder
from tests.models import official_latte
from tests.test_cli import fails, rdm

CPU = torch.device("cpu")
SIZES = {"channels": (32, 32), "attention": (False, False)}
AUTOENCODER = official_autoencoder.checkpoint(**SIZES, latents=4, entries=0, colours=1)
DIT = official_latte.checkpoint(classes=10, side=4, depth=2, frames=0)


def published(content):
    """The ci experiment with published weights where it trains its autoencoder for images and its DiT."""
    content["latents"]["f4"] = {
        "data": "tiny",
        "block_channels": [32, 32],
        "layers_per_block": 1,
        "norm_groups": 32,
        "latent_channels": 4,
        "weights": "kl.ckpt",
        "scale": 0.5,
        "mirror": True,
    }
    network = {"kind": "dit", "width": 16, "depth": 2, "heads": 4, "patch": 2}
    content["train"]["baselines"]["dit"] = {
        "latents": "f4",
        "network": network | {"frequency_shift": 0, "learned_sigma": True},
        "diffusion": {"target": "epsilon"},
        "weights": "dit.pt",
    }
    content["sample"]["ancestral"] = {"solver": "ddpm", "steps": 3, "guidance": 1.5, "guided_channels": 3, "batch": 60}
    content["figures"] |= {"figure6": None, "figure7": None, "rates": None}
    rows = content["tables"]["table1"]["rows"]
    content["tables"]["table1"]["picture"] = ["ancestral"]
    content["tables"]["table1"].pop("text_score", None)
    for row in rows:
        row.pop("text", None)
        if row["system"] in ("dit", "rdm-f"):
            row["sampler"] = "ancestral"
    content["tables"]["table1"]["rows"] = [
        row for row in rows if row["row"] != "DiT-XL/2-G" and row["system"] not in ("ldm4", "rdm-u")
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the published files."""
    folder = tmp_path_factory.mktemp("published")
    torch.save({"state_dict": AUTOENCODER}, folder / "kl.ckpt")
    torch.save(DIT, folder / "dit.pt")
    return folder


@pytest.fixture
def file(place, write_params, monkeypatch):
    """The parameter file; the working directory is the folder of the published ones."""
    monkeypatch.chdir(place)
    return write_params(published)


def made(file, *command):
    result = rdm(*command, params=file)
    assert result.exit_code == 0, result.output
    return Path(result.output.splitlines()[-1])


def encoded(file):
    for verb, name in (("data", "tiny"), ("autoencoder", "f4"), ("latents", "f4")):
        made(file, verb, name)
    found = latents.load(params.load(file), "f4")
    return Items(found.latents.hold(CPU), found.labels, found.spread.hold(CPU))


@torch.no_grad()
def test_latents_are_the_official_moments_of_images_and_of_mirrored_ones(file):
    found, experiment = encoded(file), params.load(file)
    images = data.load(experiment, "tiny", "train")
    pixels = to_pixels(images.images[:5])
    official = official_autoencoder.Network(AUTOENCODER, **SIZES)
    for first, own in ((0, pixels), (len(images.labels), pixels.flip(3))):
        mean, log_variance = official.encode(own).chunk(2, 1)
        rows = slice(first, first + 5)
        torch.testing.assert_close(found.latents[rows].float(), 0.5 * mean, atol=2e-3, rtol=2e-3)  # kept in float16
        torch.testing.assert_close(found.spread[rows].float(), 0.5 * (0.5 * log_variance).exp(), atol=2e-3, rtol=2e-3)
        assert np.array_equal(found.labels[rows].numpy(), images.labels[:5])
    assert len(found.latents) == 2 * len(images.labels)


def test_every_step_draws_the_latents_anew(file):
    """Around their means, with their deviations, a function of the step; who has no spread sees the same noise."""
    items, steps = encoded(file), 300
    entry = params.load(file).train.gated["rdm-f"]
    job = train.Job(entry, None, None, None, None, 10, 5, "", None)
    one = Items(items.latents[:1], items.labels[:1], items.spread[:1])
    object.__setattr__(job, "diffusion", params.load(file).train.baselines["dit"].diffusion)
    drawn = torch.cat([draw_batch(job, one, step)[0] for step in range(steps)])
    torch.testing.assert_close(drawn.mean(0), one.latents[0].float(), atol=0.3 * float(one.spread.max()), rtol=0)
    ratio = drawn.std(0) / one.spread[0].float()
    assert ratio.min() > 0.9
    assert ratio.max() < 1.1
    assert torch.equal(draw_batch(job, one, 7)[0], draw_batch(job, one, 7)[0])
    for own, plain in zip(draw_batch(job, one, 7)[1:], draw_batch(job, one._replace(spread=None), 7)[1:], strict=True):
        assert torch.equal(own, plain)


def test_published_weights_are_fine_tuned_and_sampled(file):
    encoded(file)
    start = made(file, "train", "ci-dit-s0")
    weights = load_file(start / "model.safetensors")
    assert torch.equal(weights["proj_out_2.weight"], DIT["final_layer.linear.weight"])
    manifest = json.loads((start / paths.MANIFEST).read_text())
    assert manifest["facts"]["step"] == 0
    assert "weights" in manifest["recipe"]["inputs"]
    for system in ("rdm-f", "rdm-f-control"):
        tuned = load_file(made(file, "train", f"ci-{system}-s0") / "model.safetensors")
        change = (tuned["proj_out_2.weight"] - weights["proj_out_2.weight"]).abs().max()
        assert 0 < change < 0.01
    samples = np.load(min(made(file, "sample", "ci-rdm-f-s0").glob("*.npz")))["arr_0"]
    assert samples.shape[1:] == (16, 16, 1)
    assert samples.std() > 1


def test_a_damaged_shard_is_named_and_a_finished_encoding_leaves_no_state(file):
    encoded(file)
    assert not paths.latents_state("tiny", "f4", "digest").parent.exists()
    shard = paths.latents("tiny", "f4") / "00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    made(file, "train", "ci-dit-s0")
    shutil.rmtree(paths.train("ci-rdm-f-s0"), ignore_errors=True)  # what is there already needs no latents
    fails(rdm("train", "ci-rdm-f-s0", params=file), 1, f"{shard} is damaged (its sha256 changed)", "`rdm latents f4`")
    shard.write_bytes(whole)


def test_samples_that_the_disk_does_not_hold(file, monkeypatch):
    """Images of 16x16 grey levels; nothing is drawn, and a byte more is enough."""
    encoded(file)
    for system in ("dit", "rdm-f"):
        made(file, "train", f"ci-{system}-s0")
    shutil.rmtree(paths.sample("ci-rdm-f-s0", "ancestral").parent, ignore_errors=True)
    count = params.load(file).dealing("tiny").samples
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": 256 * count - 1})())
        fails(rdm("sample", "ci-rdm-f-s0", params=file), 1, "needs 0.0 GB more", "work in a folder on a larger disk")
        assert not list(paths.STATE.rglob("*.npz"))
        patch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": 256 * count})())
        made(file, "sample", "ci-rdm-f-s0")


def test_another_file_is_other_weights(file, place):
    encoded(file)
    run = made(file, "train", "ci-dit-s0")
    before = json.loads((run / paths.MANIFEST).read_text())["recipe"]["inputs"]["weights"]
    other = official_latte.checkpoint(classes=10, side=4, depth=2, frames=0, seed=1)
    torch.save(other, place / "dit.pt")
    fails(rdm("train", "ci-dit-s0", params=file), 1, "--overwrite")
    made(file, "train", "ci-dit-s0", "--overwrite")
    assert torch.equal(load_file(run / "model.safetensors")["proj_out_2.bias"], other["final_layer.linear.bias"])
    assert json.loads((run / paths.MANIFEST).read_text())["recipe"]["inputs"]["weights"] != before
    torch.save(DIT, place / "dit.pt")
    made(file, "train", "ci-dit-s0", "--overwrite")


def test_files_that_are_missing_or_of_another_network(file, place):
    encoded(file)
    (place / "dit.pt").rename(place / "away.pt")
    fails(rdm("train", "ci-dit-s0", "--overwrite", params=file), 2, "dit.pt is not there; `rdm models fetch`")
    torch.save(official_latte.checkpoint(classes=9, side=4, depth=2, frames=0), place / "dit.pt")
    fails(rdm("train", "ci-dit-s0", "--overwrite", params=file), 2, "dit.pt has classes 9; the parameters declare 10")
    (place / "away.pt").rename(place / "dit.pt")


WRONG = {
    "no variance": (lambda c: c["train"]["baselines"]["dit"]["network"].pop("learned_sigma"), "learned_sigma; take"),
    "v": (lambda c: c["train"]["baselines"]["dit"]["diffusion"].update(target="v"), "beside target: epsilon alone"),
    "steps": (lambda c: c["train"]["baselines"]["dit"].update(steps=3), "steps: this key does not go with"),
    "scale": (lambda c: c["latents"]["f4"].pop("scale"), "latents.f4.scale: this key is missing"),
    "attention": (lambda c: c["latents"]["f4"].update(attention=[True]), "attention: one entry per block_channels"),
    "figure": (
        lambda c: c["figures"].update(
            figure6={"base": "dit", "sampler": "ancestral", "score": "images", "metric": "fid", "steps": [2, 4]}
        ),
        "figures.figure6.base: 'dit' is no transformer from random weights",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_parameters_that_do_not_fit(case, write_params):
    change, words = WRONG[case]

    def both(content):
        published(content)
        change(content)

    fails(rdm("train", "ci-dit-s0", params=write_params(both)), 2, words)
