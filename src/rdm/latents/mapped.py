"""Latents that stay in their files: a batch of them is read, and normalised, when it is drawn."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from rdm.progress import progress

HELD = 0.5  # of a GPU's free memory, which latents may take
HELD_AT_ONCE = 1024  # items that are on their way there, several times over


class MappedLatents:
    """Normalised latents in shards; a batch of items is indexed as in a tensor (N, [T,] C, h, w).

    shards: mapped into memory, each (n, [T,] channels, h, w), float16 or float32, of which `own` are these latents.
    mean, std: float32 of shape (C, 1, 1). What is drawn has the shards' dtype, and is on `device`.
    """

    def __init__(self, shards: Sequence[np.ndarray], own: slice, mean: Tensor, std: Tensor) -> None:
        self._shards, self._own, self._mean, self._std = shards, own, mean, std
        self._views = [shard[..., own, :, :] for shard in shards]
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._read = np.empty((0, *self._views[0].shape[1:]), shards[0].dtype)
        self.shape = torch.Size((int(self._starts[-1]), *self._read.shape[1:]))
        self.nbytes = self.shape.numel() * self._read.itemsize

    @property
    def device(self) -> torch.device:
        """Where batches are moved to."""
        return self._mean.device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, items: Tensor) -> Tensor:
        """The latents of `items`, int64 (n,) on the CPU."""
        return self._normalise(sent(torch.from_numpy(self.gather(items.numpy())), self.device))

    def gather(self, items: np.ndarray) -> np.ndarray:
        """As they are stored; overwritten by the next call. Read in the files' order, in which a disk is fastest."""
        if len(self._read) != len(items):  # new memory for every batch would cost as much as reading it
            self._read = np.empty((len(items), *self.shape[1:]), self._read.dtype)
        order = np.argsort(items)
        ordered = items[order]
        shards = np.searchsorted(self._starts, ordered, side="right") - 1
        rows = ordered - self._starts[shards]
        read, views = self._read, self._views
        for number, shard, row in zip(order.tolist(), shards.tolist(), rows.tolist(), strict=True):
            read[number] = views[shard][row]
        return read

    def frames(self) -> MappedLatents:
        """Those of clips frame by frame: (N * T, C, h, w)."""
        single = [shard.reshape(-1, *shard.shape[-3:]) for shard in self._shards]
        return MappedLatents(single, self._own, self._mean, self._std)

    def to(self, device: torch.device) -> MappedLatents:
        """The same, whose batches are moved there."""
        moved = copy.copy(self)
        moved._mean, moved._std = self._mean.to(device), self._std.to(device)
        return moved

    def hold(self, device: torch.device) -> Tensor:
        """All of them, in the device's memory."""
        there = self.to(device)
        held = torch.empty(self.shape, dtype=torch.from_numpy(self._read).dtype, device=device)
        with progress("latents", len(self)) as bar:
            for start, view in zip(self._starts.tolist(), self._views, strict=False):
                for first in range(0, len(view), HELD_AT_ONCE):
                    some = torch.from_numpy(view[first : first + HELD_AT_ONCE])
                    held[start + first : start + first + len(some)] = there._normalise(some.to(device))
                    bar.update(len(some))
        return held

    def _normalise(self, stored: Tensor) -> Tensor:
        """In float32, whatever they are stored in, and on the device: it takes longer than reading them."""
        return stored.to(torch.float32, copy=True).sub_(self._mean).div_(self._std).to(stored.dtype)


Stored: TypeAlias = Tensor | MappedLatents


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device. The copy to a GPU waits for nothing that it is at, and nothing for it but what needs it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def place(device: torch.device, latents: Stored, spread: Stored | None) -> tuple[Stored, Stored | None]:
    """For training on a device: in a GPU's memory, if both together take at most half of what is free there.

    Else, and on a CPU, into whose memory the files are mapped, each batch is read when it is drawn: the same numbers.
    """
    needed = latents.nbytes + (0 if spread is None else spread.nbytes)
    hold = device.type == "cuda" and needed <= HELD * torch.cuda.mem_get_info(device)[0]

    def placed(part: Stored) -> Stored:
        return part.hold(device) if hold and isinstance(part, MappedLatents) else part.to(device)

    return placed(latents), None if spread is None else placed(spread)


def open_shards(folder: Path) -> tuple[list[np.ndarray], Tensor, Tensor]:
    """Latents, labels and items of a folder's shards, in order; the latents are mapped, not read."""
    contents = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]  # which maps the file
    labels, items = (torch.cat([content[name] for content in contents]) for name in ("labels", "items"))
    return [content["latents"].numpy() for content in contents], labels, items
