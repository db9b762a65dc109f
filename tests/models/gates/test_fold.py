"""Folding: the plain network computes what the gated one did, or the refusal says why it cannot."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rdm.errors import RdmError
from rdm.models.gates import Gating, attach_gates, fold_gates, gate_parameters, gates_of
from tests.models.small import GATINGS, KINDS, UNETS, build, run, units


def foldable(kind, gating):
    """Where one layer writes the whole residual; in an adaLN block there is no bias for beta."""
    if gating.time != "static" or gating.variant not in ("rdm", "rezero"):
        return False
    return kind in UNETS or (gating.unit == "branch" and (kind == "own" or gating.variant == "rezero"))


CASES = [(kind, gating, foldable(kind, gating)) for kind in KINDS for gating in GATINGS[kind]]
quickly = settings(max_examples=60, deadline=None, derandomize=True)


def trained(kind, gating, seed=0, dtype=torch.float32):
    """A network whose gates are no longer at the start."""
    model = attach_gates(build(kind, seed).to(dtype), gating, units(kind, gating))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in gate_parameters(model):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
    return model


@given(st.sampled_from([case for case in CASES if case[2]]), st.integers(0, 2**31))
@quickly
@torch.no_grad()
def test_folded_equals_gated(case, seed):
    kind, gating, _ = case
    plain = build(kind, seed)
    model = trained(kind, gating, seed)
    expected = run(model)
    assert not torch.allclose(run(plain), expected, atol=1e-3)
    assert fold_gates(model) is model
    torch.testing.assert_close(run(model), expected, atol=1e-5, rtol=1e-5)
    assert [(n, type(m)) for n, m in model.named_modules()] == [(n, type(m)) for n, m in plain.named_modules()]
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("case", [case for case in CASES if not case[2]], ids=str)
@torch.no_grad()
def test_what_cannot_be_folded_is_refused_and_left_as_it_was(case):
    kind, gating, _ = case
    model = trained(kind, gating)
    before, weights = run(model), {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(RdmError, match="cannot be folded: ") as raised:
        fold_gates(model)
    assert "\n" not in str(raised.value)
    assert gates_of(model)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(run(model), before)


@torch.no_grad()
def test_an_adaln_branch_folds_while_its_beta_is_zero():
    model = trained("diffusers-dit", Gating(unit="branch"))
    with pytest.raises(RdmError, match="no bias could take up beta; gates of variant: rezero have none"):
        fold_gates(model)
    for gate in gates_of(model).values():
        gate.beta.zero_()
    expected = run(model)
    torch.testing.assert_close(run(fold_gates(model)), expected, atol=1e-5, rtol=1e-5)


class Plain(nn.Module):
    """A pre-LayerNorm block of somebody's own, whose branches end in layers with and without a bias."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mlp = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6), nn.Dropout(0.1))
        self.mix = nn.Linear(6, 6, bias=False)
        self.odd = nn.Sequential(nn.Linear(6, 6), nn.GELU())

    def forward(self, x):
        x = x + self.mlp(self.norm(x))
        x = x + self.mix(x)
        return x + self.odd(x)


@torch.no_grad()
def test_branches_of_a_network_of_ones_own():
    torch.manual_seed(0)
    model, state = Plain().eval(), torch.randn(2, 5, 6)
    attach_gates(model, Gating(unit="branch"), ["mlp"])
    for parameter in gate_parameters(model):
        nn.init.normal_(parameter)
    expected = model(state)
    torch.testing.assert_close(fold_gates(model)(state), expected, atol=1e-5, rtol=1e-5)
    attach_gates(model, Gating(unit="branch"), ["mix"])
    fold_gates(model)  # beta is still zero
    attach_gates(model, Gating(unit="branch"), ["mix"])
    model.mix.residual_gate.beta.fill_(1.0)
    with pytest.raises(RdmError, match="mix cannot be folded: its last layer has no bias"):
        fold_gates(model)


@torch.no_grad()
def test_layers_whose_output_is_not_the_branchs_are_refused():
    model = attach_gates(Plain(), Gating(unit="branch"), ["odd"])
    with pytest.raises(RdmError, match="odd cannot be folded: the layer that writes its output is not known"):
        fold_gates(model)


class Tanh(nn.Sequential):
    """A sequence whose output is not that of its last step."""

    def forward(self, x):
        return super().forward(x).tanh()


def hooked(model):
    model.mlp[2].register_forward_hook(lambda module, args, output: 2 * output)


def normalised(model):
    nn.utils.parametrizations.weight_norm(model.mlp[2])


def rewritten(model):
    model.mlp = Tanh(*model.mlp)


@pytest.mark.parametrize("change", [hooked, normalised, rewritten])
def test_a_layer_that_is_not_what_it_seems_is_not_folded_into(change):
    model = Plain()
    change(model)
    attach_gates(model, Gating(unit="branch"), ["mlp"])
    with pytest.raises(RdmError, match="mlp cannot be folded: the layer that writes its output is not known"):
        fold_gates(model)


def test_a_layer_used_elsewhere_is_not_folded_into():
    model = Plain()
    model.again = model.mlp[2]
    attach_gates(model, Gating(unit="branch"), ["mlp"])
    with pytest.raises(RdmError, match="is used or gated twice"):
        fold_gates(model)


@torch.no_grad()
def test_tied_weights_are_refused():
    model = Plain()
    model.mlp[2].weight = nn.Parameter(torch.randn(6, 12))
    model.other = nn.Linear(12, 6)
    model.other.weight = model.mlp[2].weight
    attach_gates(model, Gating(unit="branch"), ["mlp"])
    with pytest.raises(RdmError, match="is used or gated twice"):
        fold_gates(model)


@torch.no_grad()
def test_folding_computes_in_float32():
    """In bfloat16 the folded weights are the exact product rounded once."""
    model = trained("unet-add", Gating(), dtype=torch.bfloat16)
    block = model.down_blocks[0].resnets[0]
    weight, alpha = block.conv2.weight.float(), 1 + block.conv2.residual_gate.delta.float()
    fold_gates(model)
    assert torch.equal(block.conv2.weight, (weight * alpha[:, None, None, None]).bfloat16())


def test_nothing_to_fold():
    with pytest.raises(RdmError, match="no gates to fold"):
        fold_gates(build("dit"))
