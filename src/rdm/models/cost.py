"""What a network costs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def forward_flops(network: nn.Module, shape: list[int]) -> int:
    """Floating-point operations of one forward pass for one item of this shape; a multiply-add counts as two."""
    device = next(network.parameters()).device
    inputs = torch.zeros(1, *shape, device=device), *torch.zeros(2, 1, dtype=torch.int64, device=device)
    # the counter does not know the fused attention of CPUs
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return int(counter.get_total_flops())
