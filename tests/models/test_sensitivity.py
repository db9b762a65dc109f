"""Sensitivities against autograd, whatever is gated, compiled in one pass or computed again."""

import pytest
import torch
from torch import nn

from rdm.errors import RdmError
from rdm.models.gates import Gating, attach_gates, residual_units
from rdm.models.sensitivity import record_states
from tests.models.small import GATINGS, KINDS, build, run, units

BLOCKS = [kind for kind in KINDS if kind != "own"]


def profile(model):
    model.zero_grad()
    torch.manual_seed(0)
    with record_states(model) as states:
        loss = run(model).square().mean()
    loss.backward()
    return states.profile()


@pytest.mark.parametrize("kind", BLOCKS)
def test_profile_equals_autograd(kind):
    model = build(kind)
    with record_states(model) as states:
        loss = run(model).square().mean()
    gradients = torch.autograd.grad(loss, states.tensors, retain_graph=True)
    loss.backward()
    norms = torch.stack([g.flatten(1).norm(dim=1).mean() for g in gradients])
    torch.testing.assert_close(states.profile(), (norms[:-1] / norms[-1]).log())
    assert {id(step.unit) for step in states.steps} == {id(unit) for unit in residual_units(model).values()}


@pytest.mark.parametrize("kind", BLOCKS)
def test_gates_at_the_start_change_no_sensitivity(kind):
    expected = profile(build(kind))
    for gating in GATINGS[kind]:
        measured = profile(attach_gates(build(kind), gating))
        branches = gating.unit == "branch" and gating.variant in ("rdm", "rezero")
        assert len(measured) == len(expected) * (2 if branches else 1)
        torch.testing.assert_close(measured[::2] if branches else measured, expected, atol=2e-5, rtol=1e-4)


def test_what_scales_the_residual_is_known():
    """The supervision needs an alpha in front of F."""
    for variant, scales in (("rdm", True), ("rezero", True), ("skip", False), ("adaln", False)):
        for unit in ("block", "branch"):
            model = attach_gates(build("dit"), Gating(variant=variant, unit=unit))
            with record_states(model) as states:
                run(model)
            assert [step.gate is not None for step in states.steps] == [scales] * len(states.steps)


def test_gradient_checkpointing_is_recorded_once():
    model = attach_gates(build("diffusers-dit")).train()
    expected = profile(model)
    model.enable_gradient_checkpointing()
    torch.testing.assert_close(profile(model), expected)


def test_recording_leaves_no_trace():
    model = attach_gates(build("dit"), Gating(unit="branch"))
    with record_states(model):
        pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_named_units_are_recorded():
    model = attach_gates(build("own"), units=units("own", Gating()))
    assert len(profile(model)) == 2
    with (
        pytest.raises(RdmError, match="no residual blocks whose states could be recorded"),
        record_states(build("own")),
    ):
        pass


def test_nothing_recorded_is_named():
    with record_states(build("dit")) as states:
        pass
    with pytest.raises(RdmError, match="No residual state was recorded; run a forward pass"):
        states.profile()


def test_no_gradient_no_profile():
    """DiT's zero output layer: every gradient is zero at the first step."""
    model = build("dit")
    nn.init.zeros_(model.proj_out_2.weight)
    assert profile(model).isnan().all()
