"""From uint8 pixels to the 299 x 299 input of the FID-Inception, as each evaluator does it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


def tf1(images: Tensor, size: int) -> Tensor:
    """TensorFlow 1's bilinear resize, bit-exact on a CPU: float32 (N, C, H, W) -> (N, C, size, size).

    No half-pixel centres, no antialiasing; first along x, then along y (ADM's evaluator, TTUR, torch-fidelity).
    """
    for axis in (3, 2):
        position = torch.arange(size, dtype=torch.float32) * torch.tensor(images.shape[axis] / size)
        low = position.long()
        high = (low + 1).clamp_max(images.shape[axis] - 1)
        weight = (position - low).view(-1, *[1] * (3 - axis)).to(images.device)
        start = images.index_select(axis, low.to(images.device))
        images = start + (images.index_select(axis, high.to(images.device)) - start) * weight
    return images


def half_pixel(images: Tensor, size: int) -> Tensor:
    """Bilinear with half-pixel centres, no antialiasing (pytorch-fid, dgm-eval)."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def pil_bicubic(images: Tensor, size: int) -> Tensor:
    """Pillow's antialiased bicubic, channel by channel in float32, clipped to [0, 255], not rounded (clean-fid)."""
    if images.shape[2:] == (size, size):
        return images
    planes = images.flatten(0, 1).cpu().numpy()
    with ThreadPoolExecutor() as pool:
        resized = list(pool.map(lambda plane: _resized(plane, size), planes))
    stacked = torch.from_numpy(np.stack(resized)).clamp_(0, 255)
    return stacked.view(*images.shape[:2], size, size).to(images.device)


def _resized(plane: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC))


RESIZES: dict[str, Callable[[Tensor, int], Tensor]] = {"tf1": tf1, "half_pixel": half_pixel, "pil_bicubic": pil_bicubic}
