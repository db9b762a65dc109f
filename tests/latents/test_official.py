"""Published autoencoders from CompVis' layout and from diffusers', and latents that are drawn anew."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import save_file

from rdm.errors import UsageError
from rdm.latents.codec import LatentCodec, encode
from rdm.latents.official import load_autoencoder
from rdm.params.autoencoder import PublishedAutoencoder
from tests.latents.official_autoencoder import Network, checkpoint
from tests.models import official_ldm
from tests.test_cli import fails, rdm

KINDS = {  # VQ-f8 has attention at its last resolution, the others in the middle alone
    "vq-f4": {"channels": (32, 32, 64), "attention": (False, False, False), "entries": 7},
    "vq-f8": {"channels": (32, 64), "attention": (False, True), "entries": 5},
    "kl-f8": {"channels": (32, 64), "attention": (False, False), "entries": 0},
}


def parameters(kind, weights, **changes):
    sizes = KINDS[kind]
    declared = {
        "data": "images",
        "block_channels": sizes["channels"],
        "layers_per_block": 1,
        "norm_groups": 32,
        "latent_channels": 3,
        "codebook_size": sizes["entries"] or None,
        "attention": sizes["attention"],
        "weights": str(weights),
        "scale": 0.5,
    }
    return PublishedAutoencoder(**declared | changes)


@pytest.fixture
def stored(tmp_path):
    """Write a checkpoint; returns its path."""

    def write(content):
        torch.save({"state_dict": content}, tmp_path / "model.ckpt")
        return tmp_path / "model.ckpt"

    return write


def closely(found, expected):
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("within", ["", "first_stage_model."], ids=["alone", "with its U-Net"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_computes_what_the_official_network_does(kind, within, stored):
    weights = checkpoint(**KINDS[kind])
    beside = (
        {"model.diffusion_model.out.0.weight": torch.ones(3)} if within else {"loss.discriminator.x": torch.ones(3)}
    )
    file = stored({within + name: tensor for name, tensor in weights.items()} | beside)
    computes_the_same(load_autoencoder(parameters(kind, file), 3, 16), kind, weights)


def computes_the_same(network, kind, weights):
    """As the official network, at both passes; diffusers' class must be this one's."""
    assert type(network) is (AutoencoderKL if kind == "kl-f8" else VQModel)
    official = Network(weights, KINDS[kind]["channels"], KINDS[kind]["attention"])
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = official.encode(pixels)
    if kind == "kl-f8":
        mean, log_variance = expected.chunk(2, 1)
        expected = torch.cat([mean, (0.5 * log_variance).exp()], 1)
    closely(encode(network, pixels), expected)
    closely(network.decode(expected[:, :3]).sample, official.decode(expected[:, :3]))


def test_a_file_of_diffusers_is_the_same(stored, tmp_path):
    """With the names of today, and with those that attention had when Stable Diffusion was published."""
    network = load_autoencoder(parameters("kl-f8", stored(checkpoint(**KINDS["kl-f8"]))), 3, 16)
    today = network.state_dict()
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {re.sub(r"to_q|to_k|to_v|to_out\.0", lambda m: names[m[0]], n): t.contiguous() for n, t in today.items()}
    assert old.keys() != today.keys()
    for file, weights in ((tmp_path / "today.safetensors", today), (tmp_path / "old.safetensors", old)):
        save_file(weights, file)
        again = load_autoencoder(parameters("kl-f8", file), 3, 16).state_dict()
        assert all(torch.equal(tensor, again[name]) for name, tensor in today.items())


def without(weights, name):
    return {n: t for n, t in weights.items() if n != name}


WRONG = {
    "lacks": (lambda w: without(w, "decoder.conv_out.bias"), {}, "missing are decoder.conv_out.bias, unexpected none"),
    "extra": (lambda w: w | {"encoder.more": torch.ones(1)}, {}, "missing are none, unexpected encoder.more"),
    "attention": (lambda w: w, {"attention": (False, False)}, "unexpected decoder.up_blocks.0.attentions.0"),
    "codebook": (lambda w: w, {"codebook_size": 9}, "quantize.embedding.weight has shape .*declare"),
    "kind": (lambda w: w, {"codebook_size": None}, "unexpected quantize.embedding.weight"),
    "width": (lambda w: w, {"latent_channels": 4}, "what becomes .* has shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_do_not_fit_are_refused(case, stored):
    change, declared, words = WRONG[case]
    file = stored(change(checkpoint(**KINDS["vq-f8"])))
    with pytest.raises(UsageError, match=words):
        load_autoencoder(parameters("vq-f8", file, **declared), 3, 16)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="nowhere.ckpt is not there; `rdm models fetch`"):
        load_autoencoder(parameters("vq-f4", tmp_path / "nowhere.ckpt"), 3, 16)


def test_a_codec_of_moments(stored):
    """Encoding gives means and deviations; decoding takes latents, which need no codebook."""
    network = load_autoencoder(parameters("kl-f8", stored(checkpoint(**KINDS["kl-f8"]))), 3, 16)
    codec = LatentCodec(network, torch.zeros(3, 1, 1), torch.full((3, 1, 1), 2.0))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    moments = codec.encode_raw(images)
    assert moments.shape == (2, 6, 8, 8)
    assert (moments[:, 3:] > 0).all()
    assert codec.decode(moments[:, :3] / 2).shape == images.shape


# ---------------------------------------------------------------- rdm models import


def import_(*arguments):
    return rdm("models", "import", *arguments, params=None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_imported_folder_is_one_of_diffusers(kind, place, stored):
    weights = checkpoint(**KINDS[kind])
    stored(weights | {"loss.discriminator.x": torch.ones(3)})
    assert import_("model.ckpt", "out/own").output == "out/own\n"
    assert {path.name for path in Path("out/own").iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    network, report = (AutoencoderKL if kind == "kl-f8" else VQModel).from_pretrained(
        "out/own", output_loading_info=True
    )
    assert not any(report.values())
    assert network.config.scaling_factor == 1
    computes_the_same(network, kind, weights)
    fails(import_("model.ckpt", "out/own"), 2, "out/own is there already; name a new folder, or remove it")


@torch.no_grad()
def test_of_a_latent_diffusion_model_either_part_is_imported(place, stored):
    weights = checkpoint(**KINDS["vq-f4"])
    stored(official_ldm.checkpoint() | {f"first_stage_model.{name}": tensor for name, tensor in weights.items()})
    assert import_("model.ckpt", "unet", "--heads", "1,1").exit_code == 0
    assert "UNet2DConditionModel" in Path("unet/config.json").read_text()
    assert import_("model.ckpt", "own", "--autoencoder").exit_code == 0
    computes_the_same(VQModel.from_pretrained("own"), "vq-f4", weights)


def test_a_file_of_diffusers_is_imported(place, stored):
    weights = load_autoencoder(parameters("kl-f8", stored(checkpoint(**KINDS["kl-f8"]))), 3, 16).state_dict()
    save_file(weights, "own.safetensors")
    assert import_("own.safetensors", "own").exit_code == 0
    found = AutoencoderKL.from_pretrained("own").state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


NOT_IMPORTED = {
    "lacks": (lambda w: without(w, "decoder.conv_out.bias"), "missing are decoder.conv_out.bias, unexpected none"),
    "extra": (lambda w: w | {"encoder.more": torch.ones(1)}, "missing are none, unexpected encoder.more"),
    "half": (
        lambda w: without(w, "decoder.conv_in.weight"),
        "holds no autoencoder: it has no encoder.conv_in.weight or",
    ),
    "flat": (lambda w: w | {"encoder.conv_in.weight": torch.ones(1)}, "encoder.conv_in.weight has shape (1,)"),
    "codebook": (lambda w: w | {"quantize.embedding.weight": torch.ones(())}, "quantize.embedding.weight has shape ()"),
    "levels": (
        lambda w: w | {"encoder.down.2.block.0.conv1.bias": torch.ones(3)},
        "resolutions of (32, 64, 3) channels",
    ),
}


@pytest.mark.parametrize("case", NOT_IMPORTED)
def test_what_is_no_whole_autoencoder_is_not_imported(case, place, stored):
    change, words = NOT_IMPORTED[case]
    stored(change(checkpoint(**KINDS["vq-f8"])))
    fails(import_("model.ckpt", "out"), 2, "model.ckpt", words)
    assert not Path("out").exists()


def test_what_does_not_go_with_an_autoencoder(place, stored):
    stored(checkpoint(**KINDS["vq-f4"]))
    fails(import_("model.ckpt", "out", "--heads", "4"), 2, "--heads is of no use here")
    stored(official_ldm.checkpoint())
    fails(import_("model.ckpt", "out", "--autoencoder"), 2, "model.ckpt holds no autoencoder")
    fails(import_("none.ckpt", "out", "--autoencoder"), 2, "none.ckpt is not there; `rdm models fetch`")
