"""Latents in files give the batches that latents in memory give, and an interrupted encoding goes on."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rdm.data.stage import Dataset
from rdm.errors import RdmError
from rdm.latents import encoding
from rdm.latents.codec import LatentCodec, build_autoencoder
from rdm.latents.mapped import MappedLatents, open_shards, place
from rdm.params.autoencoder import PublishedAutoencoder
from rdm.params.schema import Diffusion, FineTuned
from rdm.train.loop import Items, Job, draw_batch

CPU = torch.device("cpu")
MEAN, STD = torch.tensor([0.3, -0.1])[:, None, None], torch.tensor([0.7, 1.9])[:, None, None]
OPTIMISATION = FineTuned(start="x", steps=9, batch=16, learning_rate=1e-3, ema_decay=0.9)


@pytest.fixture(params=["images", "moments", "clips", "moments of clips"])
def stored(request, tmp_path):
    """Three shards, the last one smaller: their content as one tensor, and the folder."""
    random = torch.Generator().manual_seed(0)
    moments, frames = "moments" in request.param, (4,) if "clips" in request.param else ()
    whole = torch.randn(25, *frames, 4 if moments else 2, 3, 5, generator=random)
    whole = whole.half() if moments else whole
    for number, part in enumerate(whole.split(10)):
        items = torch.arange(10 * number, 10 * number + len(part))
        content = {"latents": part.contiguous(), "labels": items, "items": 100 + items}
        save_file(content, tmp_path / f"{number:05d}.safetensors")
    return whole, tmp_path


def opened(folder):
    """The latents of a folder, and their spread, if it holds moments."""
    shards, labels, items = open_shards(folder)
    assert torch.equal(items, 100 + labels)
    mapped, spread = MappedLatents(shards, slice(2), MEAN, STD), None
    if shards[0].shape[-3] == 4:
        spread = MappedLatents(shards, slice(2, None), torch.zeros_like(MEAN), STD)
    return mapped, spread, labels


def in_memory(whole):
    """The same in one piece, normalised at once."""
    latents = ((whole[..., :2, :, :] - MEAN) / STD).to(whole.dtype)
    return latents, (whole[..., 2:, :, :] / STD).half() if whole.shape[-3] == 4 else None


def test_batches_are_those_of_latents_in_memory_bit_for_bit(stored):
    whole, folder = stored
    mapped, spread, labels = opened(folder)
    kept, kept_spread = in_memory(whole)
    assert labels.tolist() == list(range(25))
    pairs = [(mapped, spread, kept, kept_spread, labels)]
    if whole.ndim == 5:  # a network for images sees the frames
        frames = [part and part.frames() for part in (mapped, spread)]
        flat = [part if part is None else part.flatten(0, 1) for part in (kept, kept_spread)]
        pairs.append((*frames, *flat, labels.repeat_interleave(4)))
    for lazy, lazy_spread, held, held_spread, own in pairs:
        assert lazy.shape == held.shape
        assert torch.equal(lazy.hold(CPU), held)
        job = Job(OPTIMISATION, Diffusion(target="v"), None, lazy, own, 99, 7, "", Path())
        placed = place(CPU, lazy, lazy_spread)
        for step in range(4):
            theirs = draw_batch(job, Items(held, own, held_spread), step)
            ours = draw_batch(job, Items(placed[0], own, placed[1]), step)
            for a, b in zip(ours, theirs, strict=True):
                assert a.dtype == b.dtype
                assert torch.equal(a, b)


def test_a_batch_is_not_changed_by_the_next(stored):
    mapped = opened(stored[1])[0]
    first = mapped[torch.tensor([3, 24, 3])]
    kept = first.clone()
    mapped[torch.tensor([1, 2, 5])]
    assert torch.equal(first, kept)
    assert torch.equal(first[0], first[2])


@pytest.mark.skipif(sys.platform != "linux", reason="maps are listed by Linux")
def test_shards_are_mapped_not_read(stored):
    latents = opened(stored[1])[0]
    maps = Path("/proc/self/maps").read_text()
    assert all(str(stored[1] / f"{number:05d}.safetensors") in maps for number in range(3)), len(latents)


def codec(codebook=None):
    parameters = PublishedAutoencoder(
        data="x",
        weights="x",
        block_channels=(4, 4),
        layers_per_block=1,
        norm_groups=2,
        latent_channels=2,
        codebook_size=codebook,
        scale=1.0,
    )
    torch.manual_seed(0)
    return LatentCodec(build_autoencoder(parameters, 1, 8).eval(), MEAN, STD)


@pytest.fixture
def images(monkeypatch):
    """25 images, in shards of 10 and batches of 4."""
    monkeypatch.setattr(encoding, "SHARD", 10)
    monkeypatch.setattr(encoding, "BATCH", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 1), np.uint8)
    return Dataset(pixels, np.arange(25), [], [], None)


@pytest.mark.parametrize(("codebook", "mirror"), [(None, True), (16, False)])
def test_an_interrupted_encoding_goes_on_at_the_next_shard(images, tmp_path, monkeypatch, codebook, mirror):
    coder = codec(codebook)
    whole = encoding.encode_shards(coder, images, mirror, tmp_path / "whole", tmp_path)
    assert [len(load_file(path)["labels"]) for path in whole] == [n * (2 if mirror else 1) for n in (10, 10, 5)]
    encoded, encode = [], LatentCodec.encode_raw

    def killed(self, items):
        if len(encoded) == 5 * (2 if mirror else 1):  # three batches are a shard
            raise KeyboardInterrupt
        encoded.append(len(items))
        return encode(self, items)

    monkeypatch.setattr(LatentCodec, "encode_raw", killed)
    with pytest.raises(KeyboardInterrupt):
        encoding.encode_shards(coder, images, mirror, tmp_path / "state", tmp_path)
    assert [path.name for path in sorted((tmp_path / "state").iterdir())] == ["00000.safetensors"]
    encoded.clear()
    monkeypatch.setattr(
        LatentCodec, "encode_raw", lambda self, items: (encoded.append(len(items)), encode(self, items))[1]
    )
    again = encoding.encode_shards(coder, images, mirror, tmp_path / "state", tmp_path)
    assert sum(encoded) == 15 * (2 if mirror else 1)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in whole]


def test_what_is_stored_is_what_was_asked_of_the_disk(images, tmp_path, monkeypatch):
    """To the byte, but for the files' headers; and nothing begins without it."""
    asked = []
    monkeypatch.setattr(encoding, "require_disk", lambda place, needed: asked.append((place, needed)))
    for mirror, coder in ((True, codec()), (False, codec(16))):
        folder = tmp_path / str(mirror)
        shards = encoding.encode_shards(coder, images, mirror, folder, tmp_path / "results")
        payload = sum(tensor.nbytes for path in shards for tensor in load_file(path).values())
        assert asked == [(folder, payload), (tmp_path / "results", payload)]
        asked.clear()
        encoding.encode_shards(coder, images, mirror, folder, tmp_path / "results")
        assert {needed for _, needed in asked} == {0}
        asked.clear()
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": 100})())
    with pytest.raises(RdmError, match=r"state needs 0.0 GB more, and its disk has 0.0 GB; make room, or work in a"):
        encoding.encode_shards(codec(), images, True, tmp_path / "state", tmp_path)
    assert not (tmp_path / "state").exists()


def test_a_constant_channel_is_named(tmp_path):
    """It could not be normalised."""
    latents = torch.randn(5, 3, 2, 2)
    latents[:, 1] = 0.25
    save_file({"latents": latents}, tmp_path / "00000.safetensors")
    with pytest.raises(RdmError, match="Channel 1 of the latents is constant"):
        encoding.statistics([tmp_path / "00000.safetensors"])
