"""Sensitivities against autograd, whatever is gated, compiled in one pass or computed again."""

import pytest
import torch
from torch import nn

from rdm.errors import RdmError
from rdm.models.gates import Gating, attach_gates, residual_units
from rdm.models.sensitivity import record_states
from rdm.models.zoo import build_network
from tests.models.small import CLASSES, CLIP, GATINGS, KINDS, NETWORKS, build, inputs, run, units

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
    norms = torch.stack([g.reshape(3, -1).norm(dim=1).mean() for g in gradients])  # three images or clips
    torch.testing.assert_close(states.profile(), (norms[:-1] / norms[-1]).log())
    assert {id(step.unit) for step in states.steps} == {id(unit) for unit in residual_units(model).values()}


@pytest.mark.parametrize("by_name", [False, True])
def test_a_sample_of_a_latte_is_a_clip(by_name):
    """Norms of each clip by itself: a spatial block has frames in its rows, a temporal one positions."""
    model, clips = build("latte"), inputs(CLIP)

    def recorded(latents, timesteps, labels):
        with record_states(model) as states:
            arguments = {"latents": latents, "timesteps": timesteps, "labels": labels}
            loss = (model(**arguments) if by_name else model(*arguments.values())).square().sum()
        loss.backward()
        return states

    norms = torch.zeros(NETWORKS["latte"].depth + 1, 3)
    for number in range(3):
        alone = recorded(*(value[number : number + 1] for value in clips))
        norms[:, number] = torch.stack([state.grad.norm() for state in alone.tensors])
    together = recorded(*clips)
    assert {len(state) for state in together.tensors} == {3 * CLIP[0], 3 * 16}
    means = norms.mean(1)
    torch.testing.assert_close(together.profile(), (means[:-1] / means[-1]).log(), atol=1e-5, rtol=1e-4)


def test_blocks_that_are_the_identity_change_no_sensitivity():
    """A Latte's own start, but for its output layer."""
    for name in ("latte", "dit"):
        model = build_network(NETWORKS[name], CLIP if name == "latte" else CLIP[1:], CLASSES, seed=0)
        nn.init.normal_(model.proj_out_2.weight)
        torch.testing.assert_close(profile(model), torch.zeros(NETWORKS[name].depth), atol=1e-5, rtol=0)


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
