"""`rdm gates` as a stranger meets it."""

import json
import shutil

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from rdm import paths
from rdm.models.dit import DiT
from rdm.models.gates import attach_gates, gate_parameters, gate_table, load_gates, save_gates
from rdm.models.latte import Latte
from rdm.train import stage
from tests.models.small import build, run
from tests.test_cli import fails, rdm


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    """A working directory without parameter files, in which somebody's diffusers model lies: `mine`."""
    monkeypatch.chdir(tmp_path)
    build("resampling-unet").save_pretrained("mine")
    return tmp_path


def test_show_prints_what_the_run_learnt(workspace, experiment):
    rows = json.loads(rdm("gates", "show", "ci-rdm-u-s0", "--json").output)
    network = stage.load(experiment, "ci-rdm-u-s0", torch.device("cpu")).network
    assert rows == gate_table(network)
    assert any(row["alpha_mean"] != 1 for row in rows)
    lines = rdm("gates", "show", "ci-rdm-u-s0").output.splitlines()
    assert len(lines) == 2 + len(rows)
    assert f"{rows[0]['alpha_mean']:.4f}" in lines[2]


@torch.no_grad()
def test_a_folded_run_is_a_plain_diffusers_model(workspace, experiment):
    assert rdm("gates", "fold", "ci-rdm-u-s0", "out/folded").output.strip() == "out/folded"
    loaded = diffusers.UNet2DConditionModel.from_pretrained("out/folded", low_cpu_mem_usage=False)
    network = stage.load(experiment, "ci-rdm-u-s0", torch.device("cpu")).network
    latents, timesteps, labels = torch.randn(2, 4, 4, 4), torch.tensor([3, 99]), torch.tensor([1, 7])
    tokens = network.label_embedding(labels)[:, None]
    expected = network(latents, timesteps, labels)
    torch.testing.assert_close(loaded(latents, timesteps, tokens).sample, expected, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_folded_or_shown_is_one_sentence(workspace):
    fails(rdm("gates", "fold", "ci-rdm-f-s0", "folded"), 1, "transformer_blocks.0 cannot be folded", "unit: branch")
    assert not (workspace / "folded").exists()
    fails(rdm("gates", "show", "ci-dit-s0"), 1, "ci-dit-s0 has no gates")
    fails(rdm("gates", "show", "ci-rdm-x-s0"), 2, "'ci-rdm-x-s0'", "'ci-rdm-u-s0'")
    fails(rdm("gates", "show", "results/train/ci-rdm-u-s0"), 2, "is a run's own folder", "the run's name, ci-rdm-u-s0")
    (workspace / "there").mkdir()
    fails(rdm("gates", "fold", "ci-rdm-u-s0", "there"), 2, "there is there already")
    shutil.rmtree(workspace / paths.train("ci-rdm-u-s0"))
    fails(rdm("gates", "show", "ci-rdm-u-s0"), 1, "not there yet", "rdm train ci-rdm-u-s0")


@torch.no_grad()
def test_attach_train_show_and_fold_ones_own_model(own_model):
    """No parameter file is needed; the model in between is trained by somebody's own script."""
    rows = json.loads(rdm("gates", "attach", "mine", "gated", "--json", params=None).output)
    assert {row["alpha_mean"] for row in rows} == {1.0}
    model = diffusers.UNet2DModel.from_pretrained("gated", low_cpu_mem_usage=False).eval()
    assert torch.equal(run(model), run(build("resampling-unet")))
    load_gates(model, "gated/gates.safetensors")
    for parameter in gate_parameters(model):
        parameter.add_(0.1)
    save_gates(model, "gated/gates.safetensors")
    assert json.loads(rdm("gates", "show", "gated", "--json", params=None).output) == gate_table(model)
    assert rdm("gates", "fold", "gated", "folded", params=None).exit_code == 0
    folded = diffusers.UNet2DModel.from_pretrained("folded", low_cpu_mem_usage=False).eval()
    torch.testing.assert_close(run(folded), run(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--variant", "rezero"], lambda gate: gate.beta is None),
        (["--shape", "scalar"], lambda gate: gate.delta.numel() == 1),
        (["--time", "embedded"], lambda gate: gate.time is not None),
        (["--alpha", "0.5"], lambda gate: float(gate.delta.detach().mean()) == -0.5),
    ],
)
def test_every_option_of_attach_matters(own_model, options, expected):
    assert rdm("gates", "attach", "mine", "gated", *options, params=None).exit_code == 0
    model = load_gates(build("resampling-unet"), "gated/gates.safetensors")
    gates = [module for module in model.modules() if type(module).__name__ == "Gate"]
    assert gates
    assert all(expected(gate) for gate in gates)


def test_a_model_in_half_precision_stays_in_it(own_model):
    build("resampling-unet").half().save_pretrained("half")
    assert rdm("gates", "attach", "half", "gated", "--name", "mid_block.resnets.0", params=None).exit_code == 0
    assert len(json.loads(rdm("gates", "show", "gated", "--json", params=None).output)) == 1
    model = diffusers.UNet2DModel.from_pretrained("gated", torch_dtype=torch.float16, low_cpu_mem_usage=False)
    assert load_gates(model, "gated/gates.safetensors") is model


def test_weights_that_are_not_all_there_or_of_two_precisions(own_model):
    path = own_model / "mine" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    removed = {name: tensor for name, tensor in weights.items() if name != "conv_in.weight"}
    save_file(removed, path, {"format": "pt"})
    fails(rdm("gates", "attach", "mine", "out", params=None), 1, "missing keys, conv_in.weight for one")
    save_file(weights | {"conv_in.bias": weights["conv_in.bias"].half()}, path, {"format": "pt"})
    fails(rdm("gates", "attach", "mine", "out", params=None), 1, "2 precisions")
    attach_gates(build("resampling-unet")).save_pretrained("mine")
    fails(rdm("gates", "attach", "mine", "out", params=None), 1, "unexpected keys", "residual_gate", "save_gates keeps")
    assert not (own_model / "out").exists()


def test_a_half_precision_variant_beside_it_is_not_read(own_model):
    build("resampling-unet").half().save_pretrained("mine", variant="fp16")
    assert rdm("gates", "attach", "mine", "out", params=None).exit_code == 0
    weights = load_file("out/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("kind", "own", "plain"), [("latte", Latte, Latte), ("dit", DiT, diffusers.DiTTransformer2DModel)]
)
@torch.no_grad()
def test_a_folder_of_our_own_networks_is_known(own_model, kind, own, plain):
    """Its class is this package's, not diffusers'; in half precision, too."""
    build(kind).save_pretrained("clips")
    build(kind).bfloat16().save_pretrained("half")
    assert rdm("gates", "attach", "half", "half-gated", params=None).exit_code == 0
    gating = ("--variant", "rezero", "--unit", "branch")
    rows = json.loads(rdm("gates", "attach", "clips", "gated", *gating, "--json", params=None).output)
    assert [row["unit"] for row in rows[:2]] == ["transformer_blocks.0.attention", "transformer_blocks.0.mlp"]
    model = load_gates(own.from_pretrained("gated", low_cpu_mem_usage=False), "gated/gates.safetensors")
    assert torch.equal(run(model), run(build(kind)))
    for parameter in gate_parameters(model):
        parameter.add_(0.3)
    save_gates(model, "gated/gates.safetensors")
    assert json.loads(rdm("gates", "show", "gated", "--json", params=None).output) == gate_table(model)
    assert rdm("gates", "fold", "gated", "folded", params=None).exit_code == 0
    folded = plain.from_pretrained("folded", low_cpu_mem_usage=False)
    torch.testing.assert_close(run(folded), run(model), atol=1e-5, rtol=1e-5)


def test_a_refused_fold_leaves_no_folder(workspace):
    fails(rdm("gates", "fold", "ci-rdm-f-s0", "deep/down/folded"), 1, "cannot be folded")
    assert not (workspace / "deep").exists()


def test_bad_input_to_attach(own_model):
    fails(rdm("gates", "attach", "nowhere", "out", params=None), 1, "no config.json", "save_pretrained")
    fails(rdm("gates", "attach", "mine", "mine", params=None), 2, "mine is there already")
    fails(rdm("gates", "attach", "mine", "out", "--variant", "resnet", params=None), 2, "no gates to attach", "rezero")
    fails(rdm("gates", "attach", "mine", "out", "--variant", "best", params=None), 2, "variant", "'best'")
    fails(rdm("gates", "attach", "mine", "out", "--unit", "branch", params=None), 2, "has one branch; set unit: block")
    fails(rdm("gates", "attach", "mine", "out", "--name", "mid", params=None), 2, "'mid'", "'mid_block'")
    fails(rdm("gates", "show", "mine", params=None), 1, "gates.safetensors is not there")
    config = own_model / "mine" / "config.json"
    config.write_text(config.read_text().replace('"norm_num_groups": 4', '"norm_num_groups": 0'))
    fails(rdm("gates", "attach", "mine", "out", params=None), 1, "cannot be loaded as a diffusers model")
    (own_model / "mine" / "diffusion_pytorch_model.safetensors").write_bytes(b"half a file")
    fails(rdm("gates", "attach", "mine", "out", params=None), 1, "cannot be loaded as a diffusers model")
    assert not (own_model / "out").exists()
