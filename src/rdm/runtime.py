"""The device and the settings under which everything numerical runs."""

from __future__ import annotations

import ctypes
import os
import re
import sys

import torch
from threadpoolctl import threadpool_limits

from rdm.devices import claim_gpus
from rdm.errors import UsageError
from rdm.params import DEVICE, Experiment

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def prepare(experiment: Experiment) -> torch.device:
    """Choose the device and make the run repeatable on it; returns the device.

    `auto` takes a GPU, if there is one, and of several one that no other process of ours holds. Deterministic
    algorithms are asked for; TF32 is off, so that scores of one model agree between devices. Raises UsageError if the
    device asked for is not there.
    """
    if experiment.device in ("auto", "cuda"):
        claim_gpus()
    keep_memory()
    torch.set_num_threads(experiment.threads)
    threadpool_limits(experiment.threads)  # BLAS: its last bits depend on the number of threads
    return choose_device(experiment.device)


def keep_memory() -> None:
    """Have glibc keep what is freed: giving it back at every step takes two fifths of a small 3-D network's time.

    It does nothing but on Linux with glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str) -> torch.device:
    """The device of this name (`auto`, `cpu`, `mps`, `cuda`, `cuda:N`), made to repeat itself; see `prepare`."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may not repeat itself
    torch.use_deterministic_algorithms(True, warn_only=True)
    # it would write every new tensor once for nothing
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    for attention in (torch.backends.cuda.enable_mem_efficient_sdp, torch.backends.cuda.enable_cudnn_sdp):
        attention(False)  # whose backward pass does not repeat itself
    if re.fullmatch(DEVICE, name) is None:
        raise UsageError(f"device: {name!r} is not known; choose auto, cpu, mps, cuda or cuda:N.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # one of several processes, a GPU each
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.empty(1, device=name).device  # with the number of the GPU, which `cuda` does not say
    except (RuntimeError, AssertionError):
        raise UsageError(
            f"device: {name!r} is not available here (torch sees {torch.cuda.device_count()} CUDA GPUs); run this "
            "where it is, or set `device: auto`, or `device: cpu` if it may take that long."
        ) from None
    if device.type == "cuda":
        torch.cuda.set_device(device)  # torch-fidelity takes the current one
    return device
