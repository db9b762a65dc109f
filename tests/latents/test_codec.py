"""Encoding and decoding undo each other, and the statistics are those of all items."""

import shutil

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vq_model import VQModel
from safetensors.torch import load_file

from rdm import paths
from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.latents import encoding, stage, training
from rdm.latents.codec import LatentCodec, build_autoencoder, to_images, to_pixels
from rdm.latents.training import fit, mean_squared_error
from rdm.params.autoencoder import Autoencoder

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


def test_clips_are_coded_frame_by_frame():
    images = smooth_images()
    clips = images.reshape(8, 8, 16, 16, 1)
    random = torch.Generator().manual_seed(0)
    mean, std = torch.randn(3, 1, 1, generator=random), torch.rand(3, 1, 1, generator=random) + 0.5
    codec = LatentCodec(fit(PARAMETERS, images, CPU), mean, std)
    encoded = codec.encode_raw(clips)
    assert encoded.shape == (8, 8, 3, 8, 8)
    assert torch.equal(encoded.flatten(0, 1), codec.encode_raw(images))
    latents = (encoded - mean) / std
    decoded = codec.decode(latents)
    assert decoded.shape == clips.shape
    assert np.array_equal(decoded.reshape(images.shape), codec.decode(latents.flatten(0, 1)))
    assert len(np.unique(decoded)) > 50


def _mean(latents):
    return latents.mean((0, 2, 3))


def _std(latents):
    return latents.std((0, 2, 3), correction=0)


def test_stored_latents_are_normalised_over_all_items(workspace, experiment):
    stored = stage.load(experiment, "f4")
    latents = stored.latents.hold(CPU)
    train = data.load(experiment, "tiny", "train")
    torch.testing.assert_close(_mean(latents), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(_std(latents), torch.ones(4), atol=1e-4, rtol=0)
    assert stored.labels.tolist() == train.labels.tolist()
    codec = stage.load_codec(experiment, "f4", CPU)
    raw = codec.encode_raw(train.images[:100])
    torch.testing.assert_close((raw - codec.mean) / codec.std, latents[:100])
    assert (workspace / paths.latents("tiny", "f4")).is_dir()


def test_shards_are_one_set(workspace, experiment, monkeypatch):
    whole = stage.load(experiment, "f4").latents.hold(CPU)
    monkeypatch.setattr(encoding, "SHARD", 500)
    shutil.rmtree(paths.latents("tiny", "f4"))
    folder = stage.run(experiment, "f4")
    assert len(list((workspace / folder).glob("*.safetensors"))) == 3
    torch.testing.assert_close(stage.load(experiment, "f4").latents.hold(CPU), whole)


def test_statistics_of_clips_are_numpys_over_all_axes(workspace, experiment, monkeypatch):
    """Of all frames of all clips, however they are cut into shards; the last shard is smaller than the others."""
    for shard in (encoding.SHARD, 100):  # 100 frames are 25 clips
        monkeypatch.setattr(encoding, "SHARD", shard)
        shutil.rmtree(paths.latents("ucf", "ucf-f4"))
        folder = workspace / stage.run(experiment, "ucf-f4")
        shards = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
        assert [len(content["labels"]) for content in shards] == ([60] if shard > 100 else [25, 25, 10])
        raw = np.concatenate([content["latents"].numpy() for content in shards]).astype(np.float64)
        assert raw.shape == (60, 4, 4, 4, 4)
        facts = stage.read_manifest(experiment, "ucf-f4").facts
        np.testing.assert_allclose(facts["mean"], raw.mean((0, 1, 3, 4)), rtol=1e-9)
        np.testing.assert_allclose(facts["std"], raw.std((0, 1, 3, 4)), rtol=1e-9)
        assert facts["shape"] == [4, 4, 4, 4]
        loaded = stage.load(experiment, "ucf-f4")
        column = (1, 1, 4, 1, 1)
        expected = (raw - raw.mean((0, 1, 3, 4)).reshape(column)) / raw.std((0, 1, 3, 4)).reshape(column)
        np.testing.assert_allclose(loaded.latents.hold(CPU), expected, atol=1e-4)
        assert loaded.labels.tolist() == data.load(experiment, "ucf", "train").labels.tolist()
        assert loaded.classes == 10


def test_one_sets_autoencoder_encodes_another_set(workspace, experiment):
    """The latents, with their own statistics, are what the other's network makes of this one's clips, mirrored, too."""
    clips = data.load(experiment, "sky", "train").images[:]
    clips = np.concatenate([clips, clips[:, :, :, ::-1]])
    network = VQModel.from_pretrained(paths.autoencoder("ucf", "ucf-f4")).eval()
    with torch.no_grad():
        expected = network.encode(to_pixels(clips.reshape(-1, *clips.shape[2:]))).latents
    mean, std = expected.double().mean((0, 2, 3)), expected.double().std((0, 2, 3), correction=0)
    encoded = stage.load(experiment, "sky-f4")
    assert encoded.classes == 0
    normalised = (expected.double() - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(encoded.latents.hold(CPU).flatten(0, 1).double(), normalised, atol=1e-4, rtol=1e-4)
    assert not (workspace / paths.autoencoder("sky", "sky-f4")).exists()
    with pytest.raises(UsageError, match="is that of 'ucf-f4'; run `rdm autoencoder ucf-f4`"):
        training.run(experiment, "sky-f4")
