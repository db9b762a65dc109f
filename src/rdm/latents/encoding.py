"""A data set's images, or the frames of its clips, encoded into a few large shards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from rdm.ahead import ahead
from rdm.data.stage import Dataset
from rdm.distributed import PATIENCE, joined, own_pieces, wait_for_all
from rdm.errors import RdmError
from rdm.latents.codec import LatentCodec
from rdm.parts import items_in
from rdm.progress import progress
from rdm.provenance.files import require_disk, whole_file

SHARD = 8192  # images or frames per file: large enough to read fast, small enough to hash and move
BATCH = 100  # images or frames per call
CPU = torch.device("cpu")


def encode_shards(codec: LatentCodec, dataset: Dataset, mirror: bool, folder: Path, results: Path) -> list[Path]:
    """Fill `folder` with a data set's shards, and return them; those that an interrupted run left stay.

    mirror: mirrored items stand in the same shard, behind the others. A KL autoencoder's moments are kept in float16.
    Each of several processes encodes its share of the shards; all return when every shard is there.
    Raises RdmError if it, or `results`, into which they go when all are there, is on a disk that is too small.
    """
    count, shape = len(dataset.labels), dataset.images.shape[1:]
    in_shard, copies = max(SHARD // _frames(shape), 1), 2 if mirror else 1
    items = {
        folder / f"{number:05d}.safetensors": range(start, min(start + in_shard, count))
        for number, start in enumerate(range(0, count, in_shard))
    }
    with joined(CPU, PATIENCE):  # nothing that a GPU holds is exchanged
        missing = {path: numbers for path, numbers in items.items() if not path.exists()}
        for place in (folder, results):
            require_disk(place, items_in(missing) * copies * (codec.stored_bytes(shape) + 16))
        own = {path: items[path] for path in own_pieces(list(items))}
        left = {path: numbers for path, numbers in own.items() if path in missing}
        with progress("latents", items_in(own), items_in(own) - items_in(left)) as bar:
            _encode(codec, dataset, copies, left, bar)
        wait_for_all()
    return list(items)


def _encode(codec: LatentCodec, dataset: Dataset, copies: int, items: dict[Path, range], bar: tqdm[Any]) -> None:
    """Write the shards of these items, one after the other; the next batch is read while the network encodes this one.

    copies: 2 where mirrored items are encoded, too.
    A GPU is waited for once a shard: its latents stay there until then.
    """
    images, size = dataset.images, max(BATCH // _frames(dataset.images.shape[1:]), 1)
    kind = torch.float16 if isinstance(codec.autoencoder, AutoencoderKL) else torch.float32
    batches = {path: [slice(n, min(n + size, own.stop)) for n in own[::size]] for path, own in items.items()}
    pixels = ahead(lambda batch: np.array(images[batch]), (batch for own in batches.values() for batch in own))
    for path, numbers in items.items():
        encoded, mirrored = [], list[Tensor]()
        for read in islice(pixels, len(batches[path])):
            encoded.append(codec.encode_raw(read).to(kind))
            if copies > 1:
                mirrored.append(codec.encode_raw(read[..., ::-1, :]).to(kind))
            bar.update(len(read))
        latents = torch.cat([part.cpu() for part in encoded + mirrored])
        kept = torch.arange(numbers.start, numbers.stop).repeat(copies)
        content = {"latents": latents, "labels": torch.from_numpy(dataset.labels)[kept], "items": kept}
        with whole_file(path) as temporary:
            save_file(content, temporary)


def _frames(shape: Sequence[int]) -> int:
    """Images in an item of [T,] H, W, C."""
    return shape[0] if len(shape) == 4 else 1


def statistics(shards: list[Path]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel over all items, in float64. Raises RdmError for a constant channel."""
    pixels, total, squares = 0, torch.zeros(()), torch.zeros(())
    for path in shards:
        latents = load_file(path)["latents"]
        others = [axis for axis in range(latents.ndim) if axis != latents.ndim - 3]
        pixels += latents.numel() // latents.shape[-3]
        total = total + latents.double().sum(others)
        squares = squares + latents.double().square().sum(others)
    mean = total / pixels
    variance = squares / pixels - mean.square()
    if constant := (variance <= 0).nonzero().flatten().tolist():
        raise RdmError(f"Channel {constant[0]} of the latents is constant; train the autoencoder for more steps.")
    return mean.tolist(), variance.sqrt().tolist()
