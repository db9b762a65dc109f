"""A data set's images, or the frames of its clips, encoded into a few large shards."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from rdm.ahead import ahead
from rdm.data.stage import Dataset
from rdm.latents.codec import LatentCodec
from rdm.progress import progress
from rdm.provenance.files import require_disk, whole_file

SHARD = 8192  # images or frames per file: large enough to read fast, small enough to hash and move
BATCH = 100  # images or frames per call


def encode_shards(codec: LatentCodec, dataset: Dataset, mirror: bool, folder: Path, results: Path) -> list[Path]:
    """Fill `folder` with a data set's shards, and return them; those that an interrupted run left stay.

    mirror: mirrored items stand in the same shard, behind the others. A KL autoencoder's moments are kept in float16.
    The next batch is read while the network encodes this one.
    Raises RdmError if it, or `results`, into which they go when all are there, is on a disk that is too small.
    """
    count, images = len(dataset.labels), dataset.images
    frames = images.shape[1] if len(images.shape) == 5 else 1
    in_shard, in_batch = max(SHARD // frames, 1), max(BATCH // frames, 1)
    shards = [folder / f"{number:05d}.safetensors" for number in range(math.ceil(count / in_shard))]
    items = {
        path: range(number * in_shard, min((number + 1) * in_shard, count))
        for number, path in enumerate(shards)
        if not path.exists()
    }
    left, copies = sum(map(len, items.values())), 2 if mirror else 1
    for place in (folder, results):
        require_disk(place, left * copies * (codec.stored_bytes(images.shape[1:]) + 8))
    batches = {path: [slice(n, min(n + in_batch, own.stop)) for n in own[::in_batch]] for path, own in items.items()}
    pixels = ahead(lambda batch: np.array(images[batch]), (batch for own in batches.values() for batch in own))
    with progress("latents", count, count - left) as bar:
        for path, own in batches.items():
            encoded, mirrored = [], list[Tensor]()
            for read in islice(pixels, len(own)):
                encoded.append(codec.encode_raw(read).cpu())
                if mirror:
                    mirrored.append(codec.encode_raw(read[..., ::-1, :]).cpu())
                bar.update(len(read))
            latents = torch.cat(encoded + mirrored)
            latents = latents.half() if isinstance(codec.autoencoder, AutoencoderKL) else latents
            labels = torch.from_numpy(dataset.labels[own[0].start : own[-1].stop]).repeat(copies)
            with whole_file(path) as temporary:
                save_file({"latents": latents, "labels": labels}, temporary)
    return shards


def statistics(shards: list[Path]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel over all items, in float64."""
    pixels, total, squares = 0, torch.zeros(()), torch.zeros(())
    for path in shards:
        latents = load_file(path)["latents"]
        others = [axis for axis in range(latents.ndim) if axis != latents.ndim - 3]
        pixels += latents.numel() // latents.shape[-3]
        total = total + latents.double().sum(others)
        squares = squares + latents.double().square().sum(others)
    mean = total / pixels
    return mean, (squares / pixels - mean.square()).sqrt()
