"""Gates in a file of their own: the same gates come back, for the same base only."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from rdm.errors import ArtefactError, RdmError
from rdm.models.gates import Gating, gate_table, gates_of, load_gates, save_gates, split_state
from tests.models.gates.test_fold import CASES, trained
from tests.models.small import build, run


@given(st.sampled_from([case[:2] for case in CASES]), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None, derandomize=True)
@torch.no_grad()
def test_save_and_load(tmp_path_factory, case, seed):
    kind, gating = case
    path = tmp_path_factory.mktemp("gates") / "gates.safetensors"
    model = trained(kind, gating, seed)
    assert save_gates(model, path) == path
    other = build(kind, seed)
    assert load_gates(other, path) is other
    assert torch.equal(run(other), run(model))
    assert gate_table(other) == gate_table(model)
    assert {gate.gating for gate in gates_of(other).values()} == {gating}


def test_kilobytes_and_the_same_bytes_each_time(tmp_path):
    model = trained("unet-add", Gating())
    first, second = save_gates(model, tmp_path / "a").read_bytes(), save_gates(model, tmp_path / "b").read_bytes()
    assert first == second
    weights = sum(t.numel() for t in split_state(model)[1].values())
    assert len(first) < 4 * weights + 4096
    with safe_open(tmp_path / "a", "pt") as stored:
        description = json.loads(stored.metadata()["rdm.gates"])
    assert description["gating"] == Gating().model_dump()
    assert len(description["base"]) == 64


@pytest.fixture
def path(tmp_path):
    return save_gates(trained("dit", Gating()), tmp_path / "gates.safetensors")


def refused(model, path, message, error=ArtefactError):
    before = [type(module) for module in model.modules()]
    with pytest.raises(error, match=message) as raised:
        load_gates(model, path)
    assert "\n" not in str(raised.value)
    assert [type(module) for module in model.modules()] == before


def test_another_base_is_refused(path):
    refused(build("dit", seed=1), path, "was saved for another base")
    refused(build("unet-add"), path, "was saved for another base")
    refused(build("dit").bfloat16(), path, "in the precision in which it was saved")
    refused(trained("dit", Gating()), path, "has gates already", RdmError)


def test_one_changed_weight_is_another_base(path):
    model = build("dit")
    with torch.no_grad():
        model.proj_out_2.bias[0] += 1e-6
    refused(model, path, "was saved for another base")


def test_bad_files_are_named(path, tmp_path):
    refused(build("dit"), tmp_path / "none", "is not there; save_gates writes it")
    (tmp_path / "half").write_bytes(path.read_bytes()[:-8])
    refused(build("dit"), tmp_path / "half", "is damaged")
    save_file({"a": torch.ones(1)}, tmp_path / "other")
    refused(build("dit"), tmp_path / "other", "holds no gates")
    with safe_open(path, "pt") as stored:
        metadata, tensors = stored.metadata(), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    tensors.pop("transformer_blocks.0.residual_gate.delta")
    save_file(tensors, tmp_path / "less", metadata)
    refused(build("dit"), tmp_path / "less", "transformer_blocks.0.residual_gate.delta is None")


def test_nothing_to_save(tmp_path):
    with pytest.raises(RdmError, match="no gates to save"):
        save_gates(build("dit"), tmp_path / "gates")
    assert not (tmp_path / "gates").exists()
