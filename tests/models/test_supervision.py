"""The gates' supervision against closed forms, finite differences and its own exact form."""

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from rdm.models.gates import Gating, attach_gates, gates_of
from rdm.models.sensitivity import record_states
from rdm.models.supervision import (
    descend,
    exact_gradients,
    gradients,
    relative_size,
    share,
    twice_differentiable,
)
from rdm.params.gates import Supervision
from rdm.performance import computing
from tests.models.small import build, run

WIDTH, DEPTH = 4, 5


class LinearUnit(BasicTransformerBlock):
    """A residual unit z + W z: its Jacobian does not move, and with a linear loss the shallowest slope is exact."""

    def __init__(self, slope):
        nn.Module.__init__(self)
        self.norm_type = "layer_norm"
        noise = torch.randn(WIDTH, WIDTH, dtype=torch.float64)
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False)
        self.layer.weight = nn.Parameter(slope * torch.eye(WIDTH, dtype=torch.float64) + 0.05 * noise)

    def forward(self, hidden_states):
        return hidden_states + self.layer(hidden_states)


def chain(slope, gating=None):
    """Units whose sensitivity grows towards shallow depth (slope > 0) or decays (slope < 0)."""
    torch.manual_seed(0)
    return attach_gates(nn.Sequential(*(LinearUnit(slope) for _ in range(DEPTH))), gating).double()


def recorded(model):
    random = torch.Generator().manual_seed(1)
    inputs, weights = (torch.randn(6, WIDTH, generator=random, dtype=torch.float64) for _ in range(2))
    with record_states(model) as states:
        loss = (model(inputs) * weights).sum()  # linear: g_L does not depend on the gates
    loss.backward()
    return states


def supervise(model, supervision, learning_rate=1.0):
    states = recorded(model)
    descend(states, gradients(states, supervision), supervision, learning_rate)
    return [float(gate.delta.detach().mean()) for gate in gates_of(model).values()]


def term(states, kind):
    profile = states.profile()
    return float((profile.clamp(max=0) if kind == "hinge" else profile).square().mean())


@pytest.mark.parametrize("kind", ["hinge", "preserve"])
def test_the_shallowest_gate_gets_the_true_gradient(kind):
    """With constant Jacobians and a linear loss, the shallowest gate moves n_0 alone: the approximation is exact."""
    step = -supervise(chain(-0.4), Supervision(kind=kind, weight=0.35))[0]

    def shifted(shift):
        other = chain(-0.4)
        with torch.no_grad():
            next(iter(gates_of(other).values())).delta.add_(shift)
        return term(recorded(other), kind)

    slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6
    assert step == pytest.approx(0.35 * slope, rel=1e-5)
    assert step != 0


def test_gates_of_channels_move_together_as_a_scalar_gate_does():
    """Whatever their number: else a step on 1,152 channels would be a thousandth of that on one."""
    steps = {}
    for shape in ("scalar", "channel"):
        model = chain(-0.4, Gating(variant="rezero", shape=shape))
        supervise(model, Supervision(weight=0.35), learning_rate=0.01)
        steps[shape] = [gate.delta.detach() for gate in gates_of(model).values()]
        assert all(delta.abs().min() > 0 for delta in steps[shape])
    for one, all_channels in zip(steps["scalar"], steps["channel"], strict=True):
        torch.testing.assert_close(all_channels, one.expand_as(all_channels))


def network(gating, kind="dit"):
    """A transformer in float64 whose gates are somewhere."""
    model = attach_gates(build(kind), gating).double()
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for gate in gates_of(model).values():
            gate.delta.add_(0.2 * torch.randn(gate.delta.shape, generator=random, dtype=torch.float64))
    return model


def measured(model):
    model.zero_grad()
    with record_states(model) as states, twice_differentiable():
        loss = run(model, torch.float64).square().mean()
    return states, loss


@pytest.mark.parametrize(("kind", "unit"), [("dit", "block"), ("dit", "branch"), ("latte", "block")])
def test_the_exact_form_equals_finite_differences(kind, unit):
    model, supervision = network(Gating(unit=unit), kind), Supervision(kind="preserve", exact=True)
    states, loss = measured(model)
    exact = exact_gradients(states, loss, supervision)
    loss.backward()

    @torch.no_grad()
    def shifted(gate, shift):
        gate.delta.add_(shift)
        with torch.enable_grad():
            states, loss = measured(model)
        loss.backward()
        gate.delta.sub_(shift)
        return term(states, "preserve")

    for gate, gradient in zip(gates_of(model).values(), exact, strict=True):
        direction = torch.randn(gate.delta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
        numeric = (shifted(gate, 1e-5 * direction) - shifted(gate, -1e-5 * direction)) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-4, abs=1e-9)


def test_the_cumulative_form_points_the_way_of_the_exact_one():
    """No more is promised of it than the direction."""
    for kind, unit in (("dit", "block"), ("dit", "branch"), ("latte", "block"), ("latte", "branch")):
        model, supervision = network(Gating(unit=unit), kind), Supervision(kind="preserve")
        states, loss = measured(model)
        exact = exact_gradients(states, loss, supervision)
        loss.backward()
        pairs = zip(gradients(states, supervision), exact, strict=True)
        cumulative, true = (torch.stack(values) for values in zip(*[(c.sum(), e.sum()) for c, e in pairs], strict=True))
        assert torch.cosine_similarity(cumulative, true, dim=0) > 0.5


@pytest.mark.parametrize("kind", ["unet-cross", "unet-add", "resampling-unet", "dit", "latte"])
def test_in_bfloat16_it_is_that_of_float32_up_to_rounding(kind):
    """Of a U-Net, what goes beside the branch is computed again, where autocast does not see it."""
    found = []
    for precision in ("float32", "bfloat16"):
        model = attach_gates(build(kind))
        with record_states(model) as states, computing(precision, torch.device("cpu")):
            output = run(model)
        output.float().square().mean().backward()
        terms = gradients(states, Supervision(kind="preserve"))
        assert {tensor.dtype for tensor in (*terms, states.profile())} == {torch.float32}
        found.append((torch.cat([term.flatten() for term in terms]), states.profile()))
    assert states.steps[0].state.dtype == torch.bfloat16
    (term, profile), (rounded, its_profile) = found
    assert 0 < (rounded - term).norm() / term.norm() < 0.03
    torch.testing.assert_close(its_profile, profile, atol=0.02, rtol=0)


def test_in_a_latte_the_mean_is_over_clips():
    """The module's formula, clip by clip; rows are frames in spatial blocks, positions in temporal ones."""
    model = network(Gating(), "latte")
    states, loss = measured(model)
    loss.backward()

    def by_clip(tensor):
        return [tensor[len(tensor) * clip // 3 :][: len(tensor) // 3] for clip in range(3)]

    norms = [torch.stack([part.norm() for part in by_clip(state.grad)]) for state in states.tensors]
    slopes = torch.stack([2 * (n.mean() / norms[-1].mean()).log() for n in norms[:-1]]) / (len(norms) - 1)
    for k, (step, found) in enumerate(zip(states.steps, gradients(states, Supervision(kind="preserve")), strict=True)):
        through = step.state.grad - step.output.grad
        pairs = zip(by_clip(step.state.grad), by_clip(through), strict=True)
        aligned = torch.stack([(g * v).sum() / g.norm() for g, v in pairs])
        alpha = 1 + step.gate.delta.detach()
        expected = slopes[: k + 1].sum() * aligned.mean() / norms[k].mean() * alpha / alpha.square().sum()
        torch.testing.assert_close(found, expected)


def test_hinge_acts_on_decay_only():
    decaying, growing = chain(-0.4), chain(0.4)
    assert share(recorded(decaying), Supervision(kind="hinge")) == 1
    assert share(recorded(growing), Supervision(kind="hinge")) == 0
    assert share(recorded(growing), Supervision(kind="preserve")) == 1
    assert supervise(growing, Supervision(kind="hinge")) == [0] * DEPTH
    # a decaying sensitivity is corrected upwards: F shrinks the gradient, so alpha falls
    assert max(supervise(decaying, Supervision(kind="hinge"))) < 0
    assert all((gate.beta == 0).all() for gate in gates_of(decaying).values())


def test_weight_and_rate_mean_what_they_say():
    def steps(weight, rate):
        return supervise(chain(-0.4), Supervision(kind="preserve", weight=weight), rate)

    assert steps(0.7, 0.01) == pytest.approx([2 * step for step in steps(0.35, 0.01)])
    assert steps(0.35, 0.02) == pytest.approx([2 * step for step in steps(0.35, 0.01)])


@pytest.mark.parametrize("shape", ["channel", "scalar"])
def test_relative_size_is_that_of_the_step_and_the_losss_gradient(shape):
    model, supervision = chain(-0.4, Gating(variant="rezero", shape=shape)), Supervision()
    states = recorded(model)
    found = gradients(states, supervision)
    own = torch.cat([gate.delta.grad for gate in gates_of(model).values()]).norm()
    size = relative_size(states, found, supervision)
    descend(states, found, supervision, learning_rate=1.0)
    moved = torch.cat([gate.delta.detach() for gate in gates_of(model).values()]).norm()  # from zero
    torch.testing.assert_close(size, moved / own)


@pytest.mark.parametrize("supervision", [Supervision(kind="preserve"), Supervision(kind="preserve", exact=True)])
def test_where_no_gradient_reaches_the_states_nothing_is_supervised(supervision):
    """DiT's zero output layer, at the first step."""
    model = network(Gating())
    nn.init.zeros_(model.proj_out_2.weight)
    states, loss = measured(model)
    exact = exact_gradients(states, loss, supervision)
    loss.backward()
    found = exact if supervision.exact else gradients(states, supervision)
    assert all(torch.count_nonzero(gradient) == 0 for gradient in found)
    assert share(states, supervision) == 0


def test_a_gate_per_channel_stays_finite_around_zero():
    """ReZero after its first step: alpha is small, of both signs, and its mean is nothing to divide by."""
    model = attach_gates(build("dit"), Gating(variant="rezero", alpha=0.0))
    for gate in gates_of(model).values():
        nn.init.normal_(gate.delta, mean=-1.0, std=1e-3)
    with record_states(model) as states:
        loss = run(model).square().mean()
    loss.backward()
    found = gradients(states, Supervision(kind="preserve"))
    assert all(gradient.isfinite().all() and gradient.abs().max() < 10 for gradient in found)


def test_a_closed_gate_gets_no_slope():
    """ReZero starts at alpha = 0: nothing passes through the branch."""
    model = attach_gates(build("dit"), Gating(variant="rezero", alpha=0.0))
    with record_states(model) as states:
        loss = run(model).square().mean()
    loss.backward()
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients(states, Supervision(kind="preserve")))
