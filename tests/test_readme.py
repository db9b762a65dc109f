"""The README shows what the last run gave, and names commands that exist."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from diffusers import UNet2DModel
from PIL import Image

from rdm import params, paths
from rdm.cli import main
from rdm.score import weights
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "results" / "example"


def block(name):
    """The code below the comment that names it."""
    return re.search(rf"<!-- runs in tests/test_readme.py: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL).group(1)


PARTS = [("table1", "table1"), ("text", "table1"), ("table2", "table2"), ("claims", "claims")]


@pytest.mark.parametrize(("part", "name"), PARTS)
def test_the_table_is_that_of_the_example(part, name):
    shown = re.search(rf"<!-- {part} -->\n(.*?)<!-- /{part} -->", README, re.DOTALL).group(1)
    main, *text = re.split("\n(?=Text-to-image)|\nNot run:", (EXAMPLE / f"{name}.md").read_text())
    assert shown.strip() == (text[0] if part == "text" else main).strip()


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
    example = block("gates")
    names = {}
    exec(example, names)
    assert "'alpha_mean'" in capsys.readouterr().out
    folded, model = UNet2DModel.from_pretrained("folded", low_cpu_mem_usage=False).eval(), names["model"].eval()
    images, timesteps = torch.randn(2, 3, 16, 16), torch.tensor([5, 900])
    with torch.no_grad():
        torch.testing.assert_close(folded(images, timesteps).sample, model(images, timesteps).sample)


def run_lines(text):
    """Each `rdm` command of a block, as a shell would split it; returns what they print."""
    lines = text.replace("\\\n", " ").strip().splitlines()
    printed = []
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "rdm"
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, (line, done.output, done.exception)
        printed.append(done.stdout)
    return printed


def test_scoring_digits_runs(workspace, monkeypatch):
    """On the smaller experiment that the tests have; the numbers shown are those of the example's run."""
    monkeypatch.setenv("RDM_PARAMS", str(ROOT / "params" / "ci.yaml"))
    command = block("digits").replace("data/digits", "data/tiny").replace("extractor/digits", "extractor/tiny")
    [printed] = run_lines(command.replace("digits-dit", "ci-dit").replace("--protocol digits", "--protocol ci"))
    score = json.loads(paths.score("ci-dit-s0", "plain", "ci").read_text())["values"]
    assert f"{score['fid']['value']:.6g}" in printed
    shown = re.search(r"fid +([\d.]+)", README.partition("## Score anything")[2]).group(1)
    example = json.loads((EXAMPLE / "score" / "digits-dit-s0" / "plain" / "digits.json").read_text())
    assert shown == f"{example['values']['fid']['value']:.6g}"


def test_scoring_photographs_runs(tmp_path, monkeypatch, inception_weights):
    """With random weights in the cache, and protocols that score twelve images."""
    monkeypatch.chdir(tmp_path)
    protocols = yaml.safe_load((ROOT / "params" / "protocols.yaml").read_text())
    for name in ("adm50k", "torch_fidelity50k", "pytorch_fid", "clean_fid"):
        protocols[name] |= {"samples": 12, "weights": None}
        if "kernel_distance" in protocols[name]:
            protocols[name]["kernel_distance"]["subset_size"] = 8
    Path("protocols.yaml").write_text(yaml.safe_dump(protocols))
    monkeypatch.setenv("RDM_PARAMS", "digits.yaml")
    monkeypatch.setattr(weights, "CACHE", tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    shutil.copy(inception_weights, tmp_path / "cache" / weights.URLS["inception"].rsplit("/", 1)[1])
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 32, 32, 3), np.uint8)
    np.savez("samples.npz", arr_0=images[0])
    Path("photographs").mkdir()
    for number, image in enumerate(images[1]):
        Image.fromarray(image).save(f"photographs/{number:02d}.png")
    moments = {"mu": np.zeros(2048), "sigma": np.eye(2048), "mu_s": np.zeros(2023), "sigma_s": np.eye(2023)}
    np.savez("VIRTUAL_imagenet256_labeled.npz", arr_0=images[1], **moments)
    printed = run_lines(block("photographs"))
    values = {
        name: estimate["value"] for name, estimate in json.loads(Path("score.json").read_text())["values"].items()
    }
    assert set(values) == {"fid", "sfid", "is", "precision", "recall"}
    for text in (printed[3], printed[5]):  # in one job, and in parts
        assert all(f"{value:.6g}" in text for value in values.values())


def test_scores_in_python_run(capsys):
    exec(block("python"), {})
    assert "PrecisionRecall(precision=" in capsys.readouterr().out


def test_the_benchmark_of_latents_is_that_of_its_file():
    shown = re.search(r"<!-- benchmark of latents -->\n(.*?)<!-- /benchmark", README, re.DOTALL).group(1)
    assert shown == (ROOT / "benchmarks" / "results" / "latents-cpu.md").read_text()


def test_the_benchmark_of_scores_is_that_of_its_file():
    content = json.loads((ROOT / "benchmarks" / "results" / "score-cpu.json").read_text())
    shown = re.search(r"<!-- benchmark of scores -->\n(.*?)<!-- /benchmark", README, re.DOTALL).group(1)
    assert content["rows"]
    for row in content["rows"]:
        expected = f"| {row['what']} | {row['peer']} | {row['seconds']:.2f} s | {row['rdm_seconds']:.2f} s | "
        assert f"{expected}{1 / row['ratio']:.2f} |" in shown, expected


def test_every_path_it_names_exists():
    for path in re.findall(r"`((?:params|src|results/example|tests|workflow|benchmarks)/[\w./]*)`", README):
        assert path.endswith("/mine.py") or (ROOT / path).exists(), path  # what a reader would add
