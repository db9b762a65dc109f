"""Several processes that do one job, each its share; with one process, nothing happens.

torchrun starts them. In training each holds the whole network and state, and has its rows of every batch; gradients and
the batch means that the supervision of the gates rests on are averaged, so that all take the same step: the one that a
single process would take, up to rounding. In encoding and sampling each has its files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from rdm.errors import UsageError

Piece = TypeVar("Piece")
PATIENCE = timedelta(days=7)  # with a slower process: torchrun itself sees to it that none waits for one that has died


@contextmanager
def joined(device: torch.device, patience: timedelta | None = None) -> Iterator[None]:
    """Take part in what torchrun started, for the time of this block.

    device: of the tensors that are exchanged. patience: how long one waits for another; None: as long as torch does.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_rows(batch: int) -> slice:
    """This process's rows of a global batch. Raises UsageError if the batch cannot be dealt evenly."""
    if not dist.is_initialized():
        return slice(batch)
    size, rank = dist.get_world_size(), dist.get_rank()
    if batch % size:
        raise UsageError(f"A batch of {batch} cannot be dealt evenly to {size} processes; ask for another number.")
    return slice(rank * batch // size, (rank + 1) * batch // size)


def own_pieces(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """This process's of independent pieces of work: every N-th, so that what a kill left is dealt evenly, too."""
    if not dist.is_initialized():
        return pieces
    return pieces[dist.get_rank() :: dist.get_world_size()]


def wait_for_all() -> None:
    """Go on when every process has come to this line."""
    if dist.is_initialized():
        dist.barrier()


@torch.no_grad()
def average(tensors: Iterable[Tensor | None]) -> None:
    """Replace each tensor by its mean over the processes."""
    if not dist.is_initialized():
        return
    present = [tensor for tensor in tensors if tensor is not None]
    for work in [dist.all_reduce(tensor, async_op=True) for tensor in present]:
        work.wait()
    for tensor in present:
        tensor /= dist.get_world_size()


def averaged(value: Tensor) -> Tensor:
    """The mean over the processes. Its gradient is that of this process's value: average what is made of it."""
    if not dist.is_initialized():
        return value
    whole = value.detach().clone()
    average([whole])
    return value + (whole - value.detach())
