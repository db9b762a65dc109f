"""Gates on residual units: z + alpha * F(z) + beta (Neural-RDM, Eq. 1; readings R1 to R3).

With x the identity path and y = x + F(x) the unit's output, a gated unit returns

    y + delta * (y - x) + beta,    alpha = 1 + delta,

which is bit-identical to the ungated unit at delta = beta = 0; x + alpha * (y - x) + beta is not, in floating point.

A unit is gated by giving it a subclass of its own class (as torch's parametrizations do) and a submodule `gate`. The
gate belongs to the unit: a copy of the model has gates of its own, and the model's other weights keep their names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from rdm.errors import RdmError
from rdm.params.schema import Gates


class Gate(nn.Module):
    """delta and beta of one unit, float32 of shape (channels,) or (1,), both zero at the start.

    channel_dim: where the channels lie in the unit's output, from the end: -1 for tokens, -3 for feature maps.
    """

    def __init__(self, size: int, channel_dim: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(size))
        self.beta = nn.Parameter(torch.zeros(size))
        self.channel_dim = channel_dim

    def forward(self, identity: Tensor, output: Tensor) -> Tensor:
        """identity and output of the ungated unit, of one shape -> output of the gated unit."""
        trailing = (1,) * (-1 - self.channel_dim)  # feature maps: height and width follow the channels
        delta, beta = self.delta.view(-1, *trailing), self.beta.view(-1, *trailing)
        return output + delta * (output - identity) + beta


class GatedUnit(nn.Module):
    """Mixed in before the class of a residual unit; `gate` is the unit's own."""

    gate: Gate

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The ungated unit's output, gated."""
        output = super().forward(hidden_states, *args, **kwargs)
        return self.gate(identity_path(self)(hidden_states), output)  # type: ignore[no-any-return]


@functools.cache  # one gated class per class, so that copies of a model share it
def _gated_class(unit_class: type[nn.Module]) -> type[nn.Module]:
    return type(f"Gated{unit_class.__name__}", (GatedUnit, unit_class), {})


def attach_gates(model: nn.Module, gates: Gates) -> nn.Module:
    """Put gates on every residual unit of `model`, in place, and return it. Its output stays what it was, bit for bit.

    Raises RdmError if the model has gates already or no residual units, or for scalar gates on a transformer.
    """
    units = residual_units(model)
    if not units:
        raise RdmError(f"{type(model).__name__} has no residual units that gates can be attached to.")
    if gates_of(model):
        raise RdmError(f"{type(model).__name__} has gates already; attach them once.")
    for name, unit in units.items():
        channels, channel_dim = _channels(unit)
        if gates.shape == "scalar" and channel_dim == -1:
            raise RdmError(
                f"{name}: a scalar beta is a no-op in a pre-LayerNorm transformer, which removes a constant shift; "
                "set gates.shape: channel."
            )
        unit.gate = Gate(channels if gates.shape == "channel" else 1, channel_dim).to(next(unit.parameters()).device)
        unit.__class__ = _gated_class(type(unit))  # type: ignore[arg-type]
    return model


def residual_units(model: nn.Module) -> dict[str, nn.Module]:
    """The minimum residual stacking units by name: a U-Net's residual blocks, else transformer blocks (reading R3)."""
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, ResnetBlock2D)}
    if blocks:
        return blocks
    return {name: module for name, module in model.named_modules() if isinstance(module, BasicTransformerBlock)}


def gates_of(model: nn.Module) -> dict[str, Gate]:
    """The gates of a model by the name of their unit."""
    return {name: unit.gate for name, unit in residual_units(model).items() if isinstance(unit, GatedUnit)}


def gate_parameters(model: nn.Module) -> list[nn.Parameter]:
    """delta and beta of every gate, for an optimiser's parameter group."""
    return [parameter for gate in gates_of(model).values() for parameter in gate.parameters()]


def split_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict in two parts: the network's own weights, and the gates'."""
    gate_names = {f"{name}.gate.{part}" for name in gates_of(model) for part in ("delta", "beta")}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    own = {name: tensor for name, tensor in state.items() if name not in gate_names}
    return own, {name: state[name] for name in state if name in gate_names}


def identity_path(unit: nn.Module) -> Callable[[Tensor], Tensor]:
    """What the residual is added to: the unit's input, or its projection where the channels change."""
    shortcut: Callable[[Tensor], Tensor] | None = getattr(unit, "conv_shortcut", None)
    return shortcut if shortcut is not None else _unchanged


def _unchanged(hidden_states: Tensor) -> Tensor:
    return hidden_states


def _channels(unit: nn.Module) -> tuple[int, int]:
    """Number of channels of a unit's output, and the dimension in which they lie, from the end."""
    if isinstance(unit, ResnetBlock2D):
        return unit.out_channels, -3
    return unit.norm3.normalized_shape[0], -1  # type: ignore[union-attr, index, return-value]
