"""Channels last, the memory layout that tensor cores prefer, in a network of convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ChannelsLastGroupNorm(nn.GroupNorm):
    """GroupNorm that is fast on maps which lie channels last, where nothing is differentiated.

    A group's channels are few bytes at each position, and a GPU would read four times as many. Hence the mean and
    variance of each row of each channel come first, of adjacent channels together, and then those of the group: of
    parts of one size, the mean of their means, and the mean of their variances plus the variance of their means.
    """

    def forward(self, states: Tensor) -> Tensor:
        """(N, C, [positions, ...]) -> the same, normalised: in float32, as autocast on a GPU has it, if weights are."""
        if torch.is_grad_enabled() or self.weight.dtype != torch.float32 or states.ndim < 3:
            return super().forward(states)
        last = states.float().movedim(1, -1)
        statistics = torch.var_mean(last, dim=-2, correction=0)  # (N, [rows,] C)
        grouped = len(last), -1, self.num_groups, self.num_channels // self.num_groups
        variance, mean = (part.reshape(grouped) for part in statistics)
        of_group = mean.mean((1, 3), keepdim=True)
        variance = (variance + (mean - of_group).square()).mean((1, 3), keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight.view(self.num_groups, -1)
        shift = self.bias.view(self.num_groups, -1) - of_group * scale
        broadcast = len(last), *[1] * (last.ndim - 2), self.num_channels
        return (last * scale.view(broadcast) + shift.view(broadcast)).movedim(-1, 1)


def to_channels_last(network: nn.Module) -> None:
    """Weights and what convolutions take, in place.

    Activations would follow the weights, but diffusers asks for contiguous ones here and there, after which a
    convolution copies what it takes, forward and backward. Asked for channels last right after, a compiler makes
    neither copy.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(_keep)
        elif type(module) is nn.GroupNorm and module.affine:
            module.__class__ = ChannelsLastGroupNorm


def _keep(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    states, *others = inputs
    return states.contiguous(memory_format=torch.channels_last), *others
