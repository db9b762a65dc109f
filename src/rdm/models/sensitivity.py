"""How sensitive the loss is to each residual state (Sec. 2.3, Eq. 7; the paper's Fig. 5).

States z_0 ... z_L of the residual stack, in order of computation; g_i = dLoss/dz_i; n_i = the norm of g_i per sample,
averaged over the batch. The profile r_i = log(n_i / n_L), i < L, comes from one ordinary backward pass. In a U-Net the
states are the inputs of the residual blocks, whose norms are compared though sizes differ. A sample of a network over
clips is a clip, whether a block sees it as frames of tokens or as tokens over frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from rdm.distributed import averaged
from rdm.errors import RdmError
from rdm.models.gates.attach import gated_units, residual_units
from rdm.models.gates.gate import Gate
from rdm.models.gates.units import GatedBranches, GatedModule, GatedUnit, identity_path


@dataclass(frozen=True)
class Step:
    """One residual step z_i -> z_{i+1} of a forward pass.

    gate: the step's gate, if it has one that scales F(z). unit: the block in which the step happens.
    """

    unit: nn.Module
    gate: Gate | None
    state: Tensor
    output: Tensor

    def along_identity(self, gradient: Tensor) -> Tensor:
        """What of dLoss/dz_{i+1} reaches z_i beside the residual branch, in the precision of the weights."""
        if not isinstance(self.unit, ResnetBlock2D):
            return gradient
        state, gradient = float32_at_least(self.state.detach()), float32_at_least(gradient)
        with torch.enable_grad():
            _, product = torch.autograd.functional.vjp(partial(identity_path, self.unit), state, gradient)
        return product  # type: ignore[no-any-return]


@dataclass
class States:
    """The residual steps of one forward pass, in order of computation. items: samples in the network's own input."""

    steps: list[Step] = field(default_factory=list)
    items: int | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """z_0 ... z_L. Raises RdmError if no forward pass was recorded (a compiled network skips what records it)."""
        if not self.steps:
            raise RdmError(
                "No residual state was recorded; run a forward pass of the network, not compiled, in the block."
            )
        return [*(step.state for step in self.steps), self.steps[-1].output]

    def profile(self) -> Tensor:
        """r_0 ... r_{L-1}, float32, after a backward pass; NaN while no gradient reaches the states.

        (A zero output layer makes every gradient zero at the first step.)
        """
        return self.profile_of([gradient_of(state) for state in self.tensors])

    def profile_of(self, gradients: list[Tensor]) -> Tensor:
        """r_i = log(n_i / n_L) for i < L, from g_0 ... g_L."""
        norms = averaged(torch.stack([sample_norms(self.by_sample(gradient)).mean() for gradient in gradients]))
        defined = torch.where(norms.min() > 0, norms, torch.nan)
        return (defined[:-1] / defined[-1]).log()

    def by_sample(self, gradient: Tensor) -> Tensor:
        """(N, ...) -> (B, all the rest), B the number of samples.

        A Latte's blocks see N = B * frames or N = B * tokens rows, those of a sample one after the other. A unit that
        keeps no whole number of rows per sample has its rows taken for samples.
        """
        rows = len(gradient)
        return gradient.reshape(self.items if self.items and rows % self.items == 0 else rows, -1)


def gradient_of(state: Tensor) -> Tensor:
    """dLoss/dz of a recorded state, after a backward pass."""
    assert state.grad is not None, "call backward() first"
    return state.grad.detach()


def sample_norms(gradient: Tensor) -> Tensor:
    """Euclidean norm per sample, (B, n) -> (B,), in float32 at least."""
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    return torch.linalg.vector_norm(gradient, dim=1, dtype=dtype)  # type: ignore[no-any-return]


def float32_at_least(tensor: Tensor) -> Tensor:
    """The tensor as it is, or, if it is bfloat16, in float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def record_states(model: nn.Module) -> Iterator[States]:
    """Keep the residual states of the forward pass in this block, and (after it) their gradients.

    Call backward() after the block: what gradient checkpointing computes again is not recorded again.
    """
    states = States()
    entered: dict[nn.Module, Tensor] = {}

    def count(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
        batched = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim)
        states.items = next((len(value) for value in batched), None)

    def before(unit: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not args:
            raise RdmError(f"A {type(unit).__name__} was called with keywords alone; pass the state as first argument.")
        # a view: its gradient is what came through this unit, without what a U-Net's skip connection adds
        state = args[0].view_as(args[0])
        if not state.requires_grad:
            state.requires_grad_()
        state.retain_grad()
        entered[unit] = state
        return (state, *args[1:])

    def after(unit: Any, args: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        output.retain_grad()
        states.steps.append(Step(unit, _residual_gate(unit, "mlp_gate"), entered.pop(unit), output))

    units = _units(model)
    branched = [unit for unit in units if isinstance(unit, GatedBranches)]
    between: dict[nn.Module, GatedBranches] = {u.attention_gate: u for u in branched if _residual_gate(u, "mlp_gate")}

    def between_branches(gate: Any, args: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        unit = between[gate]
        output.retain_grad()
        states.steps.append(Step(unit, unit.attention_gate, entered[unit], output))
        entered[unit] = output

    handles = [model.register_forward_pre_hook(count, with_kwargs=True)]
    handles += [unit.register_forward_pre_hook(before) for unit in units]
    handles += [unit.register_forward_hook(after) for unit in units]
    handles += [gate.register_forward_hook(between_branches) for gate in between]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def _units(model: nn.Module) -> list[nn.Module]:
    """The residual blocks of a diffusers network, else the blocks that the caller named when attaching gates."""
    named: list[nn.Module] = [unit for unit in gated_units(model).values() if isinstance(unit, GatedUnit)]
    units = list(residual_units(model).values()) or named
    if not units:
        raise RdmError(f"{type(model).__name__} has no residual blocks whose states could be recorded.")
    return units


def _residual_gate(unit: Any, branch: str) -> Gate | None:
    """The gate that puts an alpha in front of a unit's F(z); of a block gated in two branches, that of `branch`."""
    carrier = unit.conv2 if isinstance(unit, ResnetBlock2D) and isinstance(unit.conv2, GatedModule) else unit
    gate: Gate | None = getattr(carrier, branch if isinstance(unit, GatedBranches) else "residual_gate", None)
    return gate if gate is not None and gate.gating.variant in ("rdm", "rezero") else None
