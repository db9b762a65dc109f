"""Copied, compiled, saved or checkpointed: gates stay bit-identical at the start, and each copy uses its own."""

import copy
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rdm.models.gates import Gating, attach_gates, gate_parameters, gates_of, load_gates, save_gates
from tests.models.small import KINDS, build, run, units

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
BRANCH = Gating(unit="branch")


def saved_copy(model, folder):
    """Another network, with gates, that takes over the saved weights."""
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "all.safetensors")
    other = attach_gates(build("diffusers-dit", seed=7))
    other.load_state_dict(load_file(folder / "all.safetensors"))
    return other


def pickled_copy(model):
    return pickle.loads(pickle.dumps(model))


def uses_its_own_gates(model, duplicate):
    with torch.no_grad():
        before = run(model)
        assert torch.equal(run(duplicate), before)
        for gate in gates_of(duplicate).values():
            gate.delta.sub_(0.5)
        assert torch.equal(run(model), before)
        assert not torch.equal(run(duplicate), before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deep_copy_uses_its_own_gates(kind):
    model = attach_gates(build(kind), units=units(kind, Gating()))
    uses_its_own_gates(model, copy.deepcopy(model))
    if kind != "resampling-unet":  # its resampling functions cannot be pickled, gates or not
        uses_its_own_gates(model, pickled_copy(model))


def test_a_saved_copy_uses_its_own_gates(tmp_path):
    model = attach_gates(build("diffusers-dit"))
    with torch.no_grad():
        for parameter in gate_parameters(model):
            torch.nn.init.normal_(parameter, std=0.1)
    uses_its_own_gates(model, saved_copy(model, tmp_path))


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "gating"), [("diffusers-dit", Gating()), ("diffusers-dit", BRANCH), ("unet-add", Gating())]
)
def test_compiled(kind, gating, tmp_path):
    """Bit-identical to the compiled ungated network; a compiled copy sees its own gates change."""
    torch.compiler.reset()
    with torch.no_grad():
        expected = run(torch.compile(build(kind)))
        model = attach_gates(build(kind), gating)
        path = save_gates(torch.compile(model), tmp_path / "gates")  # by the network's own names
        assert gates_of(load_gates(torch.compile(build(kind)), path)).keys() == gates_of(model).keys()
        compiled = torch.compile(model)
        assert torch.equal(run(compiled), expected)
        duplicate = torch.compile(copy.deepcopy(model))
        assert torch.equal(run(duplicate), expected)
        for parameter in gate_parameters(duplicate):
            parameter.add_(0.1)
        assert torch.equal(run(compiled), expected)
        changed = run(duplicate)
        assert not torch.equal(changed, expected)
        torch.testing.assert_close(changed, run(duplicate._orig_mod), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gating", [Gating(), BRANCH, Gating(time="embedded"), Gating(variant="adaln")], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradient_checkpointing(gating, dtype):
    """Output and gradients of the checkpointed gated network are those of the plain one, bit for bit at the start."""
    model = build("diffusers-dit").to(dtype).train()

    def trained():
        model.zero_grad()
        torch.manual_seed(0)
        output = run(model, dtype)
        output.float().square().mean().backward()
        return output.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}

    plain_output, plain_gradients = trained()
    attach_gates(model, gating)
    _, gradients = trained()
    model.enable_gradient_checkpointing()
    output, checkpointed = trained()
    assert torch.equal(output, plain_output)
    assert all(torch.equal(checkpointed[name], gradient) for name, gradient in gradients.items())
    assert plain_gradients.keys() < gradients.keys()
    assert all(torch.count_nonzero(p.grad) > 0 for p in gate_parameters(model))
