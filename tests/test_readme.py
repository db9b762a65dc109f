"""The README shows what the last run gave, and names commands that exist."""

import json
import re

import torch
from click.testing import CliRunner
from diffusers import UNet2DModel

from rdm import params
from rdm.cli import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "results" / "example"


def test_the_table_is_that_of_the_example():
    shown = re.search(r"<!-- table -->\n(.*?)<!-- /table -->", README, re.DOTALL).group(1)
    table = (EXAMPLE / "table1.md").read_text()
    assert shown.strip() == table.split("\nText-to-image")[0].strip()


def test_every_verb_and_run_it_names_exists():
    experiment = params.load(ROOT / "params" / "digits.yaml")
    for verb, argument in re.findall(r"^rdm (\w+) ?(digits-[\w-]+)?", README, re.MULTILINE):
        assert CliRunner().invoke(main, [verb, "--help"]).exit_code == 0, verb
        assert not argument or argument in experiment.runs
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_the_benchmark_is_that_of_its_file():
    """Ratios to the ungated network, eager and compiled, as benchmarks/gates.py wrote them."""
    content = json.loads((ROOT / "benchmarks" / "results" / "gates-cpu.json").read_text())
    ratio = {(row["what"], row["network"], row["compiled"]): row["ratio"] for row in content["rows"]}
    shown = re.search(r"<!-- benchmark -->\n(.*?)<!-- /benchmark -->", README, re.DOTALL).group(1)
    labels = {
        "training step, whole blocks gated": ("training step", "block"),
        "training step, attention and MLP gated apart": ("training step", "branch"),
        "inference, folded": ("inference", "folded"),
    }
    for label, key in labels.items():
        eager, compiled = (f"{ratio[*key, mode]:.3f}" for mode in (False, True))
        assert re.search(rf"\| {label} +\| {eager} +\| {compiled} +\|", shown), (label, eager, compiled)


def test_the_gates_example_runs(tmp_path, monkeypatch, capsys):
    """Ten steps in somebody's own model, folded, and loaded again by plain diffusers."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    sizes = {"sample_size": 16, "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
    blocks = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    UNet2DModel(**sizes, **blocks).save_pretrained("my-model")
    example = re.search(r"<!-- runs in .* -->\n```python\n(.*?)```", README, re.DOTALL).group(1)
    names = {}
    exec(example, names)
    assert "'alpha_mean'" in capsys.readouterr().out
    folded, model = UNet2DModel.from_pretrained("folded", low_cpu_mem_usage=False).eval(), names["model"].eval()
    images, timesteps = torch.randn(2, 3, 16, 16), torch.tensor([5, 900])
    with torch.no_grad():
        torch.testing.assert_close(folded(images, timesteps).sample, model(images, timesteps).sample)


def test_every_path_it_names_exists():
    for path in re.findall(r"`((?:params|src|results/example|tests|workflow|benchmarks)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path
