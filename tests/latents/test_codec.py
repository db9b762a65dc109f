"""Encoding and decoding undo each other, and the statistics are those of all items."""

import numpy as np
import pytest
import torch

from rdm import paths
from rdm.data import stage as data
from rdm.latents import stage
from rdm.latents.codec import LatentCodec, build_autoencoder, to_images, to_pixels
from rdm.latents.training import fit, mean_squared_error
from rdm.params.schema import Autoencoder

CPU = torch.device("cpu")
PARAMETERS = Autoencoder(
    data="digits",
    block_channels=(8, 8),
    layers_per_block=1,
    norm_groups=4,
    latent_channels=3,
    codebook_size=64,
    steps=60,
    batch=16,
    learning_rate=3e-3,
    l1_weight=0.2,
)


def smooth_images(count=64):
    """Gradients in random directions, uint8 (N, 16, 16, 1)."""
    random = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-1, 1, 16))
    slopes = random.uniform(-1, 1, (count, 2, 1, 1))
    return np.uint8(127.5 + 60 * (slopes[:, 0] * x + slopes[:, 1] * y))[..., None]


def test_pixels_round_trip():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert np.array_equal(to_images(to_pixels(images)), images)
    assert to_pixels(images).min() == -1
    assert to_pixels(images).max() == 1


def test_training_reconstructs_and_repeats_itself():
    images = smooth_images()
    untrained = mean_squared_error(build_autoencoder(PARAMETERS, 1, 16).eval(), images, CPU)
    first, second = fit(PARAMETERS, images, CPU), fit(PARAMETERS, images, CPU)
    assert mean_squared_error(first, images, CPU) < untrained / 10
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    indices = first.quantize(first.encode(to_pixels(images)).latents)[2][2]
    assert len(indices.unique()) > 8  # the codebook is used


@pytest.mark.parametrize("change", [{"l1_weight": 0.0}, {"seed": 1}, {"codebook_size": 32}, {"learning_rate": 1e-3}])
def test_parameters_change_the_autoencoder(change):
    images, short = smooth_images(), PARAMETERS.model_copy(update={"steps": 3})
    before = fit(short, images, CPU).decoder.conv_out.weight
    assert not torch.equal(fit(short.model_copy(update=change), images, CPU).decoder.conv_out.weight, before)


def test_codec_normalises_and_undoes_it():
    images = smooth_images()
    autoencoder = fit(PARAMETERS, images, CPU)
    raw = autoencoder.encode(to_pixels(images)).latents.detach()
    mean, std = (statistic(raw)[:, None, None] for statistic in (_mean, _std))
    codec = LatentCodec(autoencoder, mean, std)
    latents = (codec.encode_raw(images) - mean) / std
    torch.testing.assert_close(_mean(latents), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(_std(latents), torch.ones(3), atol=1e-4, rtol=0)
    expected = to_images(autoencoder(to_pixels(images)).sample.detach())
    assert np.abs(codec.decode(latents).astype(int) - expected).max() <= 1


def _mean(latents):
    return latents.mean((0, 2, 3))


def _std(latents):
    return latents.std((0, 2, 3), correction=0)


def test_stored_latents_are_normalised_over_all_items(workspace, experiment):
    stored = stage.load(experiment, "f4")
    train = data.load(experiment, "tiny", "train")
    torch.testing.assert_close(_mean(stored.latents), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(_std(stored.latents), torch.ones(4), atol=1e-4, rtol=0)
    assert stored.labels.tolist() == train.labels.tolist()
    codec = stage.load_codec(experiment, "f4", CPU)
    raw = codec.encode_raw(train.images[:100])
    torch.testing.assert_close((raw - codec.mean) / codec.std, stored.latents[:100])
    assert (workspace / paths.latents("tiny", "f4")).is_dir()


def test_shards_are_one_set(workspace, experiment, monkeypatch):
    whole = stage.load(experiment, "f4")
    monkeypatch.setattr(stage, "SHARD", 500)
    folder = stage.run(experiment, "f4", overwrite=True)
    assert len(list((workspace / folder).glob("*.safetensors"))) == 3
    torch.testing.assert_close(stage.load(experiment, "f4").latents, whole.latents)
