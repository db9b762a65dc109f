"""Sensitivities against autograd, and the gates' supervision against finite differences."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from rdm.models.gates import attach_gates, gates_of, residual_units
from rdm.models.sensitivity import record_states, supervise
from rdm.models.zoo import build_network
from rdm.params.schema import Gates, Supervision
from tests.models.test_gates import CLASSES, NETWORKS, SHAPE

WIDTH, DEPTH = 4, 5


class LinearUnit(BasicTransformerBlock):
    """A residual unit z + W z: its Jacobian does not move, so that the analytic slope is exact."""

    def __init__(self, slope):
        nn.Module.__init__(self)
        self.norm3 = nn.LayerNorm(WIDTH)
        eye, noise = torch.eye(WIDTH, dtype=torch.float64), torch.randn(WIDTH, WIDTH, dtype=torch.float64)
        self.weight = nn.Parameter(slope * eye + 0.05 * noise)

    def forward(self, hidden_states):
        return hidden_states + hidden_states @ self.weight


def chain(slope):
    """Units whose sensitivity grows towards shallow depth (slope > 0) or decays (slope < 0)."""
    torch.manual_seed(0)
    model = nn.Sequential(*(LinearUnit(slope) for _ in range(DEPTH)))
    return attach_gates(model, Gates(learning_rate=1.0)).double()


def recorded(model):
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(6, WIDTH, generator=random, dtype=torch.float64)
    weights = torch.randn(6, WIDTH, generator=random, dtype=torch.float64)
    with record_states(model) as states:
        loss = (model(inputs) * weights).sum()  # linear: g_L does not depend on the gates
    loss.backward()
    return states


@pytest.mark.parametrize("name", NETWORKS)
def test_profile_equals_autograd(name):
    model = build_network(NETWORKS[name], SHAPE, CLASSES, seed=0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    inputs = torch.randn(2, *SHAPE), torch.tensor([3, 500]), torch.tensor([1, 2])
    with record_states(model) as states:
        loss = model(*inputs).square().sum()
    gradients = torch.autograd.grad(loss, [*states.inputs, states.outputs[-1]], retain_graph=True)
    loss.backward()
    norms = torch.stack([g.flatten(1).norm(dim=1).mean() for g in gradients])
    torch.testing.assert_close(states.profile(), (norms[:-1] / norms[-1]).log())
    assert len(states.units) == len(residual_units(model))


def test_recording_leaves_no_trace():
    model = build_network(NETWORKS["unet-add"], SHAPE, CLASSES, seed=0)
    with record_states(model):
        pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_no_gradient_no_profile():
    """DiT's zero output layer: every gradient is zero at the first step."""
    model = attach_gates(build_network(NETWORKS["dit"], SHAPE, CLASSES, seed=0), Gates(learning_rate=1.0))
    with record_states(model) as states:
        loss = model(torch.randn(2, *SHAPE), torch.tensor([3, 500]), torch.tensor([1, 2])).square().sum()
    loss.backward()
    assert states.profile() is None
    assert supervise(states, Supervision(kind="preserve"), 1.0) == 0


@pytest.mark.parametrize("kind", ["hinge", "preserve"])
def test_the_shallowest_gate_gets_the_true_gradient(kind):
    """alpha_k moves every n_i, i <= k; for the shallowest gate only n_0, which the approximation has exactly."""
    model = chain(-0.4)
    supervise(recorded(model), Supervision(kind=kind, weight=0.35), learning_rate=1.0)
    step = -float(next(iter(gates_of(model).values())).delta.detach().sum())  # over the channels, which move together

    def term(shift):
        other = chain(-0.4)
        with torch.no_grad():
            next(iter(gates_of(other).values())).delta.add_(shift)
        profile = recorded(other).profile()
        penalised = profile.clamp(max=0) if kind == "hinge" else profile
        return float(penalised.square().mean())

    slope = (term(1e-6) - term(-1e-6)) / 2e-6
    assert step == pytest.approx(0.35 * slope, rel=1e-5)
    assert step != 0


def test_hinge_acts_on_decay_only():
    decaying, growing = chain(-0.4), chain(0.4)
    assert supervise(recorded(decaying), Supervision(kind="hinge"), 1.0) == 1
    assert supervise(recorded(growing), Supervision(kind="hinge"), 1.0) == 0
    assert all((gate.delta == 0).all() for gate in gates_of(growing).values())
    # a decaying sensitivity is corrected upwards: F shrinks the gradient, so alpha falls
    assert all((gate.delta < 0).all() for gate in gates_of(decaying).values())
    assert all((gate.beta == 0).all() for gate in gates_of(decaying).values())


def test_weight_means_what_it_says():
    steps = []
    for weight in (0.35, 0.7):
        model = chain(-0.4)
        supervise(recorded(model), Supervision(kind="preserve", weight=weight), learning_rate=0.01)
        steps.append([float(gate.delta.detach().mean()) for gate in gates_of(model).values()])
    assert steps[1] == pytest.approx([2 * step for step in steps[0]])
    assert supervise(recorded(chain(-0.4)), Supervision(kind="none"), 1.0) == 0
