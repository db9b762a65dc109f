"""Compiled, gates are free: what torch.compile generates for a CPU, with gates and without."""

import re
import shutil

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch._inductor.utils import run_fw_bw_and_get_code

from rdm.models.gates import Gating, attach_gates
from tests.models.small import CLASSES, SHAPE, build

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")


def generated(gating):
    """Calls of fused kernels (forward, backward), and how many tensors are kept for backward per shape's size."""
    torch.compiler.reset()
    model = build("dit")
    if gating is not None:
        attach_gates(model, gating)
    batch = 3
    inputs = torch.randn(batch, *SHAPE), torch.tensor([0, 17, 999]), torch.tensor([0, 4, CLASSES])
    per_token = batch * 16 * 16  # tokens times width
    return measured(torch.compile(model), inputs, model, per_token)


def measured(compiled, inputs, model, size):
    """Calls of fused kernels, and how many tensors of this size are kept, of a compiled function of `inputs`."""
    _, code = run_fw_bw_and_get_code(lambda: compiled(*inputs).square())
    calls = [len(re.findall(r"\n\s+cpp_fused\w*\(", part)) for part in code]
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        compiled(*inputs)
    for parameter in model.parameters():
        kept.pop(parameter.data_ptr(), None)
    return calls, sum(tensor.numel() >= size for tensor in kept.values())


@pytest.fixture(scope="module")
def ungated():
    return generated(None)


@pytest.mark.parametrize("unit", ["block", "branch"])
def test_no_more_fused_kernels_and_no_more_activations_kept(ungated, unit):
    assert generated(Gating(unit=unit)) == ungated


def test_the_measure_sees_more_work(ungated):
    """Gates that depend on the timestep do need more."""
    calls, _ = generated(Gating(time="embedded"))
    assert sum(calls) > sum(ungated[0])


def test_a_u_nets_block_has_no_more_fused_kernels_and_keeps_its_residual():
    """One activation more: the gradient of alpha needs F(z), which an adaLN-Zero block keeps in any case."""
    (calls, kept), (gated_calls, gated_kept) = (generated_block(gating) for gating in (None, Gating()))
    assert gated_calls == calls
    assert gated_kept == kept + 1


def generated_block(gating):
    """As `generated`, of one residual block, compiled by itself as in training."""
    torch.compiler.reset()
    model = build("unet-cross")
    if gating is not None:
        attach_gates(model, gating)
    block = next(module for module in model.modules() if isinstance(module, ResnetBlock2D))
    state = torch.randn(3, block.in_channels, *SHAPE[1:], requires_grad=True)
    embedding = torch.randn(3, block.time_emb_proj.in_features, requires_grad=True)
    return measured(torch.compile(block.forward, dynamic=False), (state, embedding), model, state.numel())
