"""How sensitive the loss is to each residual state (Sec. 2.3, Fig. 5), and the gates' supervision (reading R6).

States z_0 ... z_L of the residual stack; g_i = dLoss/dz_i; n_i = the norm of g_i per sample, averaged over the batch.
The profile r_i = log(n_i / n_L), i < L, comes from the ordinary backward pass, and so does what reached z_i through
the residual branch, v_i = J_i^T (alpha_i g_{i+1}): it is g_i minus what came along the identity path. In a U-Net the
states are the inputs of the residual blocks in order of computation, whose norms are compared though sizes differ.

The paper names a supervision of weight 0.35 and gives no formula. Ours penalises a profile that decays towards
shallow depth (`hinge`: S = mean max(0, -r_i)^2) or that moves at all (`preserve`: S = mean r_i^2). Its gradient is
approximated without a second backward pass: d log n_i / d alpha_k, for every i <= k, by d log n_k / d alpha_k =
<g_k, v_k> / (alpha_k n_k^2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rdm.models.gates import GatedUnit, identity_path, residual_units
from rdm.params.schema import Supervision


@dataclass
class States:
    """The residual states of one forward pass, in the order in which they were computed."""

    units: list[nn.Module] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    def profile(self) -> Tensor | None:
        """r_i for i = 0 ... L-1, after a backward pass; None while no gradient reaches the states.

        (A zero output layer makes every gradient zero at the first step.)
        """
        norms = torch.stack([_norms(_gradient(state)).mean() for state in [*self.inputs, self.outputs[-1]]])
        return (norms[:-1] / norms[-1]).log() if norms.min() > 0 else None


@contextmanager
def record_states(model: nn.Module) -> Iterator[States]:
    """Keep the residual states of the forward passes in this block, and their gradients."""
    states = States()

    def before(unit: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # a view: its gradient is what came through this unit, without what a U-Net's skip connection adds
        state = args[0].view_as(args[0])
        if not state.requires_grad:
            state.requires_grad_()
        state.retain_grad()
        states.units.append(unit)
        states.inputs.append(state)
        return (state, *args[1:])

    def after(unit: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        output.retain_grad()
        states.outputs.append(output)

    units = residual_units(model).values()
    handles = [u.register_forward_pre_hook(before) for u in units] + [u.register_forward_hook(after) for u in units]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def supervise(states: States, supervision: Supervision, learning_rate: float) -> float:
    """One gradient step of the supervision on every alpha, after a backward pass; returns the share of units it met.

    It is decoupled from Adam as AdamW's weight decay is: alpha_k -= learning_rate * weight * dS/dalpha_k. Inside Adam
    the weight would be normalised away; so 0.35 means 0.35. Beta receives no gradient from this term.
    """
    profile = states.profile()
    if profile is None or supervision.kind == "none":
        return 0.0
    slope = profile.clamp(max=0) if supervision.kind == "hinge" else profile
    upstream = (2 * slope / len(slope)).cumsum(0)  # sum over i <= k of dS/dr_i
    for k, unit in enumerate(states.units):
        if isinstance(unit, GatedUnit):
            alpha = 1 + unit.gate.delta.mean()
            gradient = upstream[k] * _log_norm_slope(states, k) / alpha
            unit.gate.delta.sub_(learning_rate * supervision.weight * gradient / unit.gate.delta.numel())
    return float((slope != 0).float().mean())


def _log_norm_slope(states: States, k: int) -> Tensor:
    """alpha_k * d log n_k / d alpha_k = mean_b(<g_k, v_k> / |g_k|) / n_k."""
    gradient = _gradient(states.inputs[k])
    with torch.enable_grad():
        _, along_identity = torch.autograd.functional.vjp(
            identity_path(states.units[k]), states.inputs[k].detach(), _gradient(states.outputs[k])
        )
    through_residual = gradient - along_identity
    norms = _norms(gradient)
    aligned = (gradient * through_residual).flatten(1).sum(1) / norms.clamp(min=torch.finfo(norms.dtype).tiny)
    slope: Tensor = aligned.mean() / norms.mean()
    return slope


def _gradient(state: Tensor) -> Tensor:
    assert state.grad is not None, "call backward() first"
    return state.grad.detach()


def _norms(gradient: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms
