"""Published autoencoders from CompVis' layout and from diffusers', and latents that are drawn anew."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rdm.errors import UsageError
from rdm.latents.codec import LatentCodec, encode
from rdm.latents.official import load_autoencoder
from rdm.params.autoencoder import PublishedAutoencoder
from tests.latents.official_autoencoder import Network, checkpoint

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
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("within", ["", "first_stage_model."], ids=["alone", "with its U-Net"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_computes_what_the_official_network_does(kind, within, stored):
    weights = checkpoint(**KINDS[kind])
    beside = (
        {"model.diffusion_model.out.0.weight": torch.ones(3)} if within else {"loss.discriminator.x": torch.ones(3)}
    )
    file = stored({within + name: tensor for name, tensor in weights.items()} | beside)
    network = load_autoencoder(parameters(kind, file), 3, 16)
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
