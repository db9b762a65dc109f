"""Folding gates into the weights beside them, so that inference costs nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from rdm.errors import RdmError
from rdm.models.gates.attach import detach_gates, gated_units
from rdm.models.gates.gate import Gate
from rdm.models.gates.units import GatedBranch, GatedBranches

Change = tuple[Tensor, Tensor]  # a weight, and its value after folding


@torch.no_grad()
def fold_gates(model: nn.Module) -> nn.Module:
    """Multiply every alpha and beta into the layer that writes its branch, in place, and take the gates off.

    Fold averaged weights after averaging: the mean of alpha * W is not the product of the means. Computed in float32,
    then cast to the weights' precision. Raises RdmError, and leaves the model as it was, where folding would not be
    exact: blocks of two branches, gates that depend on the timestep, a beta behind an adaLN gate.
    """
    units = gated_units(model)
    if not units:
        raise RdmError(f"{type(model).__name__} has no gates to fold.")
    changes = [change for unit in units.values() for change in _changes(unit)]
    named = model.named_modules(remove_duplicate=False)
    uses = Counter(id(weight) for _, module in named for weight in module._parameters.values())
    folds = Counter(id(weight) for weight, _ in changes)
    if any(uses[id(weight)] != 1 or folds[id(weight)] != 1 for weight, _ in changes):
        raise RdmError("A layer that a gate would be folded into is used or gated twice; keep the gates.")
    for weight, value in changes:
        weight.copy_(value)
    return detach_gates(model)


def _changes(unit: Any) -> list[Change]:
    """The weights that a unit's gates are folded into. Raises RdmError with the reason where that is not exact."""
    gates: list[Gate] = [getattr(unit, gate_name) for gate_name in unit.GATES]
    name, gating = gates[0].unit, gates[0].gating
    if gating.time == "embedded":
        raise RdmError(f"{name} cannot be folded: its gates depend on the timestep, and weights do not.")
    if gating.variant in ("adaln", "skip"):
        raise RdmError(f"{name} cannot be folded: variant {gating.variant} gates the state, not the residual branch.")
    if isinstance(unit, GatedBranches):
        return _scaled_adaln(name, unit)
    if isinstance(unit, GatedBranch):
        layer = _output_layer(unit)
        if layer is None:
            raise RdmError(f"{name} cannot be folded: the layer that writes its output is not known.")
        if layer.bias is None and gates[0].beta is not None and gates[0].beta.any():
            raise RdmError(f"{name} cannot be folded: its last layer has no bias that could take up beta.")
        return _scaled(layer, gates[0])
    raise RdmError(
        f"{name} cannot be folded: alpha scales a whole block, whose first branch feeds its second; "
        "gates of unit: branch can."
    )


def _scaled(layer: Any, gate: Gate) -> list[Change]:
    """alpha * (W x + b) + beta."""
    alpha = 1 + gate.delta.float()
    changes = [(layer.weight, layer.weight.float() * alpha.view(-1, *(1,) * (layer.weight.ndim - 1)))]
    if layer.bias is not None:
        beta = gate.beta.float() if gate.beta is not None else 0.0
        changes.append((layer.bias, layer.bias.float() * alpha + beta))
    return changes


def _scaled_adaln(name: str, unit: Any) -> list[Change]:
    """alpha goes into the rows of adaLN's projection that scale the branch; there is no place for beta."""
    projection: Any = unit.norm1.linear
    width = projection.out_features // 6  # shift, scale and gate of the attention, then of the MLP
    factors = torch.ones(projection.out_features, device=projection.weight.device)
    for gate, first_row in ((unit.attention_gate, 2 * width), (unit.mlp_gate, 5 * width)):
        if gate.beta is not None and gate.beta.any():
            raise RdmError(
                f"{name} cannot be folded: behind an adaLN gate, which depends on the timestep, no bias could take up "
                "beta; gates of variant: rezero have none."
            )
        factors[first_row : first_row + width] = 1 + gate.delta.float()
    changes: list[Change] = [(projection.weight, projection.weight.float() * factors[:, None])]
    return changes if projection.bias is None else [*changes, (projection.bias, projection.bias.float() * factors)]


def _output_layer(module: Any) -> Any:
    """The layer whose output is the module's own; None if that is not certain."""
    kind = getattr(module, "ungated", type(module))
    if module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"):
        return None
    if kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return module
    if kind is Attention and not module.residual_connection and module.rescale_output_factor == 1:
        return _output_layer(module.to_out[0])
    if kind is FeedForward:
        return _last(module.net)
    return _last(module) if kind is nn.Sequential else None


def _last(steps: Any) -> Any:
    """The output layer of the last step but for dropout, which does nothing at inference."""
    computing = [step for step in steps if not isinstance(step, nn.Dropout)]
    return _output_layer(computing[-1]) if computing else None
