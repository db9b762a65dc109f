"""Compiled, gates are free: what torch.compile generates for a CPU, with gates and without."""

import re
import shutil

import pytest
import torch
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
    compiled = torch.compile(model)
    _, code = run_fw_bw_and_get_code(lambda: compiled(*inputs).square())
    calls = [len(re.findall(r"\n\s+cpp_fused\w*\(", part)) for part in code]
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        compiled(*inputs)
    for parameter in model.parameters():
        kept.pop(parameter.data_ptr(), None)
    per_token = batch * 16 * 16  # tokens times width
    return calls, sum(tensor.numel() >= per_token for tensor in kept.values())


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
