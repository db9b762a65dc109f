"""The explicit supervision of the gates (reading R6): a step on every alpha against a sensitivity that decays.

The paper names a supervision of weight 0.35 and gives no formula. Ours penalises a profile r_i that decays towards
shallow depth (`hinge`: S = mean max(0, -r_i)^2) or that moves at all (`preserve`: S = mean r_i^2).

dS/dalpha comes without a second backward pass. What reached z_k through the residual branch, v_k = J_k^T (alpha_k
g_{k+1}), is g_k minus what came along the identity path; then d log n_k / d log alpha_k = <g_k, v_k> / n_k^2, which
stands for d log n_i / d log alpha_k for every i <= k. It leaves out that alpha_k moves the activations of deeper units,
and so their Jacobians and g_{k+1}; expect a direction, not a size. `exact: true` differentiates a second time instead
(not together with gradient checkpointing).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from rdm.distributed import averaged
from rdm.models.sensitivity import States, float32_at_least, gradient_of, sample_norms
from rdm.params.gates import Supervision


def twice_differentiable() -> AbstractContextManager[None]:
    """Attention whose gradient can be differentiated again; that of the fused kernels cannot."""
    return sdpa_kernel(SDPBackend.MATH)


def gradients(states: States, supervision: Supervision) -> list[Tensor]:
    """dS/ddelta of every step that has a gate, shaped like delta, after a backward pass; zero where S is undefined.

    Of a gate per channel the slope is that of scaling all alpha together; it is shared out along alpha.
    """
    slope = _slope(states.profile(), supervision).nan_to_num(0.0)
    upstream = slope.cumsum(0)  # sum over i <= k of dS/dr_i
    result = []
    for k, step in enumerate(states.steps):
        if step.gate is None:
            continue
        gradient = float32_at_least(gradient_of(step.state))
        through_residual = gradient - step.along_identity(gradient_of(step.output))
        norms = sample_norms(states.by_sample(gradient))
        products = states.by_sample(gradient * through_residual).sum(1)
        aligned = products / norms.clamp(min=torch.finfo(norms.dtype).tiny)
        alpha = 1 + step.gate.delta.detach()
        mean_aligned, mean_norm = averaged(torch.stack([aligned.mean(), norms.mean()]))
        log_log_slope = mean_aligned / mean_norm.clamp(min=torch.finfo(norms.dtype).tiny)
        # at alpha = 0 nothing passed through the branch: its slope is not known, and taken for zero
        direction = alpha / alpha.square().sum().clamp(min=torch.finfo(alpha.dtype).tiny)
        result.append(upstream[k] * log_log_slope * direction)
    return result


def exact_gradients(states: States, loss: Tensor, supervision: Supervision) -> list[Tensor]:
    """dS/ddelta by double backward, before the ordinary one, which is still to come. Slow; memory of a second graph.

    The forward pass must have run inside `twice_differentiable()`.
    """
    deltas = [step.gate.delta for step in states.steps if step.gate is not None]
    state_gradients = torch.autograd.grad(loss, states.tensors, create_graph=True)
    ratios = states.profile_of(list(state_gradients))
    penalised = ratios.clamp(max=0) if supervision.kind == "hinge" else ratios
    if not (deltas and bool(ratios.isfinite().all())):
        return [torch.zeros_like(delta) for delta in deltas]
    found = torch.autograd.grad(penalised.square().mean(), deltas, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(d) if g is None else g for d, g in zip(deltas, found, strict=True)]


@torch.no_grad()
def descend(states: States, term: list[Tensor], supervision: Supervision, learning_rate: float) -> None:
    """One step of the supervision on every gate of C channels: delta -= learning_rate * weight * C * dS/ddelta.

    It is decoupled from Adam as AdamW's weight decay is: inside Adam the weight would be normalised away. dS/ddelta is
    shared out among the channels; times C they move together as a scalar gate does, so that 0.35 means 0.35 whatever
    their number. Beta receives no gradient from this term.
    """
    gates = [step.gate for step in states.steps if step.gate is not None]
    for gate, gradient in zip(gates, term, strict=True):
        gate.delta.sub_(learning_rate * supervision.weight * gradient.numel() * gradient)


def share(states: States, supervision: Supervision) -> Tensor:
    """The share of states on which the term acts."""
    return (_slope(states.profile(), supervision).nan_to_num(0.0) != 0).float().mean()


def relative_size(states: States, term: list[Tensor], supervision: Supervision) -> Tensor:
    """Norm of weight * C * dS/ddelta, as `descend` takes it, as a multiple of the loss's own gradient on the gates."""
    own = [step.gate.delta.grad for step in states.steps if step.gate is not None]
    of_loss = torch.stack([g.norm() for g in own if g is not None]).norm()
    size: Tensor = (
        supervision.weight * torch.stack([g.numel() * g.norm() for g in term]).norm() / of_loss.clamp(min=1e-30)
    )
    return size


def _slope(ratios: Tensor, supervision: Supervision) -> Tensor:
    """dS/dr_i."""
    return 2 * (ratios.clamp(max=0) if supervision.kind == "hinge" else ratios) / len(ratios)
