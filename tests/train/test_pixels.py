"""ADM from its published weights to samples: pixels without an autoencoder, and a classifier that guides."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rdm import params, paths
from rdm.data import stage as data
from rdm.diffusion.sampling import draw_latents
from rdm.latents import stage as latents
from rdm.latents.codec import to_images
from rdm.sample import stage as sample
from rdm.train import stage as train
from tests.models import official_adm
from tests.test_cli import fails, rdm

SIZES = {"channels": (32, 64), "layers": 1, "attention": (False, True)}
ADM = official_adm.checkpoint(**SIZES, classes=10, colours=1)
CLASSIFIER = official_adm.classifier(**SIZES, classes=10, colours=1, side=16)
HEAD = 32
NETWORK = {
    "kind": "adm",
    "block_channels": [32, 64],
    "layers_per_block": 1,
    "norm_groups": 32,
    "attention": [False, True],
    "heads": 2,
}
GUIDED = {"solver": "ddpm", "steps": 3, "clip": True, "batch": 60}


def published(content):
    """The ci experiment with a published ADM in place of its DiT, on pixels, guided by a classifier or not."""
    content["latents"]["pixels"] = {"kind": "pixels", "data": "tiny", "mirror": True}
    content["train"]["baselines"]["dit"] = {
        "latents": "pixels",
        "network": NETWORK,
        "diffusion": {"target": "epsilon"},
        "weights": "adm.pt",
    }
    content["train"]["gated"]["rdm-f"]["label_dropout"] = 0
    guide = {"weights": "classifier.pt", "network": NETWORK, "scale": 3.0}
    content["sample"]["plain"] = GUIDED
    content["sample"]["guided"] = GUIDED | {"classifier": guide}
    content["figures"] |= {"figure6": None, "figure7": None, "rates": None}
    table = content["tables"]["table1"]
    table["picture"] = ["guided"]
    table["rows"] = [
        {"row": "ADM", "system": "dit", "sampler": "plain"},
        {"row": "ADM-G", "system": "dit", "sampler": "guided"},
        {"row": "Neural-RDM-F", "system": "rdm-f", "sampler": "guided"},
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the published files."""
    folder = tmp_path_factory.mktemp("published")
    torch.save(ADM, folder / "adm.pt")
    torch.save(CLASSIFIER, folder / "classifier.pt")
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


def trained(file):
    for verb, name in (("data", "tiny"), ("autoencoder", "pixels"), ("latents", "pixels"), ("train", "ci-dit-s0")):
        folder = made(file, verb, name)
    return folder


def test_pixels_are_learned_as_they_are_and_mirrored(file):
    trained(file)
    experiment = params.load(file)
    images, found = data.load(experiment, "tiny", "train"), latents.load(experiment, "pixels")
    count = len(images.labels)
    assert found.latents.shape == (2 * count, 1, 16, 16)
    pixels = found.latents[torch.arange(2 * count)]
    assert pixels.dtype == torch.float32
    assert (pixels.amin(), pixels.amax()) == (-1, 1)
    assert np.array_equal(to_images(pixels[:count]), images.images)
    assert np.array_equal(to_images(pixels[count:]), images.images[:, :, ::-1])
    assert np.array_equal(found.labels.numpy(), np.tile(images.labels, 2))
    assert np.array_equal(found.items.numpy(), np.tile(np.arange(count), 2))
    codec = latents.load_codec(experiment, "pixels", torch.device("cpu"))
    assert np.array_equal(codec.decode(pixels[:5]), images.images[:5])
    folder = paths.latents("tiny", "pixels")
    assert {path.name for path in folder.iterdir()} == {paths.MANIFEST, "data.json"}  # nothing is stored twice
    assert json.loads((folder / paths.MANIFEST).read_text())["facts"]["items"] == 2 * count


def test_other_images_are_other_latents(file):
    """Though nothing of them is stored; before they are made anew, nothing is trained on them."""
    trained(file)
    experiment, manifest = params.load(file), paths.data("tiny") / paths.MANIFEST
    before, own = latents.read_manifest(experiment, "pixels").digest, manifest.read_text()
    content = json.loads(own)
    content["files"].pop("test_images.npy")  # what the data set's digest covers
    manifest.write_text(json.dumps(content))
    fails(rdm("train", "ci-rdm-f-s0", "--overwrite", params=file), 1, "made from another version", "rdm latents pixels")
    fails(rdm("latents", "pixels", params=file), 1, "made from other input files")
    made(file, "latents", "pixels", "--overwrite")
    assert latents.read_manifest(experiment, "pixels").digest != before
    manifest.write_text(own)
    made(file, "latents", "pixels", "--overwrite")
    assert latents.read_manifest(experiment, "pixels").digest == before


def test_the_samples_are_those_of_the_official_networks(file):
    """Drawn again by the plain-torch networks, whose classifier guides to the labels."""
    assert torch.equal(load_file(trained(file) / "model.safetensors")["conv_out.bias"], ADM["out.2.bias"])
    made(file, "sample", "ci-dit-s0")
    experiment, drawn = params.load(file), {}
    for name in ("plain", "guided"):
        [shard] = paths.sample("ci-dit-s0", name).glob("00000.npz")
        with np.load(shard) as stored:
            drawn[name], labels = stored["arr_0"][:60], torch.from_numpy(stored["arr_1"][:60])
        manifest = json.loads((shard.parent / paths.MANIFEST).read_text())
        assert ("classifier" in manifest["recipe"]["inputs"]) == (name == "guided")
        chosen = experiment.sample[name]
        expected = draw_latents(
            lambda x, t, own: official_adm.forward(ADM, x, t, own, HEAD, **SIZES),
            experiment.train.baselines["dit"].diffusion,
            chosen,
            [1, 16, 16],
            labels,
            10,
            [(0, index) for index in range(60)],
            (lambda x, t: official_adm.classify(CLASSIFIER, x, t, HEAD, **SIZES)) if chosen.classifier else None,
        )
        assert np.abs(to_images(expected).astype(int) - drawn[name]).max() <= 1
    assert (drawn["plain"] != drawn["guided"]).mean() > 0.1


def test_gates_are_fine_tuned_on_pixels(file):
    trained(file)
    for system in ("rdm-f", "rdm-f-control"):
        tuned = load_file(made(file, "train", f"ci-{system}-s0") / "model.safetensors")
        change = (tuned["conv_out.weight"] - ADM["out.2.weight"]).abs().max()
        assert 0 < change < 0.01
    drawing = sample.prepare_drawing(params.load(file), "ci-rdm-f-s0", "guided", torch.device("cpu"))
    assert drawing.batch(0).shape == (60, 16, 16, 1)
    assert train.load(params.load(file), "ci-rdm-f-s0", torch.device("cpu")).latent_shape == [1, 16, 16]


CLASSIFIERS = {
    "missing": (None, "classifier.pt is not there; `rdm models fetch`"),
    "a denoiser": (ADM, "classifier.pt is a ADM; the parameters declare a NoisyClassifier"),
    "other classes": (official_adm.classifier(**SIZES, classes=9, colours=1), "has another pool.to_out.weight than"),
    "other size": (
        official_adm.classifier(**SIZES, classes=10, colours=1, side=8),
        "has another pool.positions than the parameters declare, (65, 64)",
    ),
    "half": ({n: t for n, t in CLASSIFIER.items() if n != "out.0.bias"}, "missing are out.0.bias"),
}


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_classifiers_that_do_not_fit(file, place, case):
    trained(file)
    content, words = CLASSIFIERS[case]
    shutil.move(place / "classifier.pt", place / "away.pt")
    if content is not None:
        torch.save(content, place / "classifier.pt")
    try:
        fails(rdm("sample", "ci-dit-s0", "--overwrite", params=file), 2, words)
    finally:
        shutil.move(place / "away.pt", place / "classifier.pt")


def of_guided(content):
    return content["sample"]["guided"]


WRONG = {
    "clip": (lambda c: c["train"]["baselines"]["dit"].update(latents="f4"), "sample.plain.clip: 'dit' makes latents"),
    "solver": (lambda c: of_guided(c).update(solver="ddim"), "clip is for solver: ddpm"),
    "heads": (
        lambda c: of_guided(c)["classifier"]["network"].update(heads=3),
        "sample.guided.classifier.network.block_channels: 64 is not a multiple of 3 (heads)",
    ),
    "levels": (
        lambda c: of_guided(c)["classifier"]["network"].update(block_channels=[32] * 6, attention=[True] * 6),
        "the latents' size: 16 is not a multiple of 32 (the levels of sample.guided.classifier.network)",
    ),
    "width of a head": (
        lambda c: c["train"]["baselines"]["dit"]["network"].update(attention=[True, True], heads=1),
        "train.baselines.dit.network.block_channels: 32 is not a multiple of 64 (heads)",
    ),
    "kind": (lambda c: c["latents"]["pixels"].update(kind="pixel"), "latents.pixels.kind"),
    "key": (lambda c: c["latents"]["pixels"].update(scale=2.0), "latents.pixels.scale: this key does not go with"),
    "v": (lambda c: c["train"]["baselines"]["dit"]["diffusion"].update(target="v"), "beside target: epsilon alone"),
    "dropout": (lambda c: c["train"]["gated"]["rdm-f"].update(label_dropout=0.1), "null_label is false; set it to 0"),
    "guidance": (lambda c: c["sample"]["plain"].update(guidance=2.0), "is guided, which needs a null label"),
    "scale": (lambda c: of_guided(c)["classifier"].update(scale=0), "sample.guided.classifier.scale"),
}


@pytest.mark.parametrize("case", WRONG)
def test_parameters_that_do_not_fit(case, write_params):
    change, words = WRONG[case]

    def both(content):
        published(content)
        content |= json.loads(json.dumps(content))  # each network of its own
        change(content)

    fails(rdm("sample", "ci-dit-s0", params=write_params(both)), 2, words)
