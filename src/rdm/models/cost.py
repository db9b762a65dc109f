"""What a network costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rdm.models.pixart import PixArt
from rdm.models.unet import TextUNet


def blank_inputs(network: nn.Module, shape: list[int], batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps and labels (or the tokens of captions), all zero, where the network is."""
    device = next(network.parameters()).device
    label = (batch, network.text.length) if isinstance(network, PixArt | TextUNet) else (batch,)
    integers: dict[str, Any] = {"dtype": torch.int64, "device": device}
    return torch.zeros(batch, *shape, device=device), torch.zeros(batch, **integers), torch.zeros(label, **integers)


@torch.no_grad()
def forward_flops(network: nn.Module, shape: list[int]) -> int:
    """Floating-point operations of one forward pass for one item of this shape; a multiply-add counts as two.

    Without those of a text encoder, which runs once for all steps of a sampler.
    """
    inputs = blank_inputs(network, shape)
    if isinstance(network, PixArt | TextUNet):
        network.text(inputs[2])  # it remembers what it encoded
    # the counter does not know the fused attention of CPUs
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return int(counter.get_total_flops())
