"""README and docs show what the last run gave, name commands and paths that exist, and link to what is there."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import click
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

PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "cli.md")]
BOOK = "\n".join(page.read_text() for page in PAGES)
EXAMPLE = ROOT / "results" / "example"


def block(name):
    """The code below the comment that names it."""
    return re.search(rf"<!-- runs in tests/test_readme.py: {name} -->\n```\w+\n(.*?)```", BOOK, re.DOTALL).group(1)


EXAMPLES = runpy.run_path(str(ROOT / "workflow" / "scripts" / "example.py"))


@pytest.mark.parametrize("part", EXAMPLES["PARTS"])
def test_the_table_is_that_of_the_example(part):
    [shown] = re.findall(rf"<!-- {part} -->\n(.*?)<!-- /{part} -->", BOOK, re.DOTALL)
    assert shown.strip() == EXAMPLES["shown"](part, EXAMPLE)


def test_the_example_is_written_into_the_pages_that_show_it(tmp_path, monkeypatch):
    """Into a table that was emptied, and nowhere else."""
    shutil.copytree(ROOT / "results" / "example", tmp_path / "results" / "example")
    (tmp_path / "docs").mkdir()
    names = ("README.md", "docs/results.md")
    for name in names:
        emptied = re.sub(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", r"\1\3", (ROOT / name).read_text(), flags=re.DOTALL)
        (tmp_path / name).write_text(emptied)
    monkeypatch.chdir(tmp_path)
    EXAMPLES["show"]()
    for name in names:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()


def cells(markdown):
    """Of each row the cell below each heading."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(heading, row, strict=True)) for row in rows]


@pytest.mark.parametrize("part", ["table1", "text", "table2"])
def test_a_narrower_table_is_the_whole_one_without_controls(part):
    name, columns = EXAMPLES["PARTS"][part]
    main, _, text = (EXAMPLE / f"{name}.md").read_text().partition("\nText-to-image")
    whole = [row for row in cells(text if part == "text" else main) if "control" not in row["Method"]]
    expected = [{column: row[column] for column in columns.split("|") if column in row} for row in whole]
    assert cells(EXAMPLES["shown"](part, EXAMPLE)) == expected


# what runs the commands that are neither of make nor of rdm
RUN_BY = {
    "snakemake --cores all --use-singularity results/table1.csv": (
        "workflow/test_containers.py: test_the_promised_command"
    ),
    "snakemake results/table1.csv --configfile params/paper.yaml --workflow-profile workflow/profiles/slurm": (
        "workflow/test_slurm.py: test_jobs_run_in_their_partition_with_a_gpu_each"
    ),
    "snakemake results/table1.csv --configfile params/paper.yaml --workflow-profile workflow/profiles/kubernetes": (
        "workflow/test_kubernetes.py: test_the_profile_plans_the_same_jobs"
    ),
    "export": "workflow/test_kubernetes.py: bucket",
    "dvc repro --all-pipelines": "workflow/test_dvc.py: test_dvc_repro_is_table_1",
    "dvc repro": "workflow/test_dvc.py: test_dvc_repro_is_table_1",
    "dvc exp run": "workflow/test_dvc.py: test_what_snakemake_made_is_made_no_more",
    "dvc metrics diff": "workflow/test_dvc.py: test_what_snakemake_made_is_made_no_more",
    "dvc plots show": "workflow/test_dvc.py: test_what_snakemake_made_is_made_no_more",
    "dvc remote": "workflow/test_dvc.py: test_an_s3_compatible_remote",
    "dvc push": "workflow/test_dvc.py: test_an_s3_compatible_remote",
    "pip install -e .[tensorboard]": None,  # over the network
    "tensorboard": "train/test_trackers.py: test_tensorboard_shows_log_rates_and_gates",
    "source .venv/bin/activate": None,
}


def commands():
    """Every command of the blocks that no test runs as they are: the words of each."""
    for named, text in re.findall(r"(<!-- runs in .*-->\n)?```sh\n(.*?)```", BOOK, re.DOTALL):
        lines = [] if named else text.replace("\\\n", " ").splitlines()
        yield from filter(None, (tuple(shlex.split(line, comments=True)) for line in lines))


@pytest.mark.parametrize("words", dict.fromkeys(commands()), ids=" ".join)
def test_every_command_is_one(words, tmp_path, monkeypatch):
    """Those of rdm are read, option by option; those of make are planned; the others are run by other tests."""
    program, *arguments = words
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program == "rdm":
        command, context = main, click.Context(main, info_name="rdm", **main.context_settings)
        while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
            _, command, arguments = command.resolve_command(context, arguments)
        if arguments != ["--help"]:
            command.make_context(" ".join(words), arguments, parent=context)
        experiment = params.load(ROOT / "params" / "digits.yaml")
        assert all(word in experiment.runs for word in words if re.fullmatch(r"digits-\S+-s\d", word))
    else:
        [where] = [test for start, test in RUN_BY.items() if " ".join(words).startswith(start)][:1]
        if where is not None:
            file, name = where.split(": ")
            assert f"def {name}" in (ROOT / "tests" / file).read_text()


def test_what_the_paper_costs_is_what_the_plan_says(tmp_path, monkeypatch):
    """In a folder without results, in round numbers."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["plan", "--json", "--params", str(ROOT / "params" / "paper.yaml")])
    planned = json.loads(done.stdout)
    *stages, whole = planned["stages"]
    assert {"stage": "in all", "jobs": sum(stage["jobs"] for stage in stages)}.items() <= whole.items()
    *_, downloads = planned["downloads"]
    for said in (
        f"{whole['jobs']} jobs",
        f"{round(whole['GPU hours'], -2):,.0f} hours of an H100",
        f"{whole['disk GB'] / 1000:.1f} TB, and {downloads['GB'] / 1000:.1f} TB of downloads",
        f"{whole['GB on a GPU']:.0f} GB on each of one to {whole['GPUs a job']}",
    ):
        assert said.replace("to 4", "to four") in " ".join(BOOK.split())


def test_its_pieces_of_parameter_files_are_valid(write_params):
    """Put into the smallest experiment, whose clips are called ucf and have no row DIGAN yet."""
    [performance, published] = re.findall(r"```yaml\n(.*?)```", BOOK, re.DOTALL)

    def change(content):
        content.update(yaml.safe_load(performance))
        more = yaml.safe_load(published.replace("ucf101", "ucf"))
        content["published"] = more["published"]
        content["tables"]["table2"]["rows"] += more["tables"]["table2"]["rows"]

    experiment = params.load(write_params(change))
    assert experiment.performance.compile
    assert "digan" in experiment.published


def test_the_benchmark_is_that_of_its_file():
    """Ratios to the ungated network, eager and compiled, as benchmarks/gates.py wrote them."""
    content = json.loads((ROOT / "benchmarks" / "results" / "gates-cpu.json").read_text())
    ratio = {(row["what"], row["network"], row["compiled"]): row["ratio"] for row in content["rows"]}
    shown = re.search(r"<!-- benchmark -->\n(.*?)<!-- /benchmark -->", BOOK, re.DOTALL).group(1)
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


def test_the_short_example_runs():
    """On a model that is not trained: its output is what it was."""
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (16,)}
    model = UNet2DModel(sample_size=8, layers_per_block=1, norm_num_groups=8, **blocks).eval()
    inputs = torch.randn(2, 3, 8, 8), torch.tensor([5, 900])
    with torch.no_grad():
        before = model(*inputs).sample
        exec(block("gates in short"), {"model": model})
        assert torch.equal(model(*inputs).sample, before)


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
    table = BOOK.partition("\nmetric ")[2].partition("\n\n")[0]
    shown = re.findall(r"^(\w+) +([\d.]+) +[\d.]+ ", table, re.MULTILINE)
    example = json.loads((EXAMPLE / "score" / "digits-dit-s0" / "plain" / "digits.json").read_text())
    assert dict(shown) == {name: f"{found['value']:.6g}" for name, found in example["values"].items()}


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
    shown = re.search(r"<!-- benchmark of latents -->\n(.*?)<!-- /benchmark", BOOK, re.DOTALL).group(1)
    assert shown == (ROOT / "benchmarks" / "results" / "latents-cpu.md").read_text()


def test_the_benchmark_of_scores_is_that_of_its_file():
    content = json.loads((ROOT / "benchmarks" / "results" / "score-cpu.json").read_text())
    shown = re.search(r"<!-- benchmark of scores -->\n(.*?)<!-- /benchmark", BOOK, re.DOTALL).group(1)
    assert content["rows"]
    for row in content["rows"]:
        expected = f"| {row['what']} | {row['peer']} | {row['seconds']:.2f} s | {row['rdm_seconds']:.2f} s | "
        assert f"{expected}{1 / row['ratio']:.2f} |" in shown, expected


def test_the_benchmark_of_a_gpu_is_that_of_its_file():
    content = json.loads((ROOT / "benchmarks" / "results" / "gpu-h200.json").read_text())
    shown = re.search(r"<!-- benchmark of a GPU -->\n(.*?)<!-- /benchmark", BOOK, re.DOTALL).group(1)
    measured = [row for row in content["rows"] if not row["failed"]]
    wanted = {target["work"]: f"{target['target']:g}" for target in content["targets"]}
    wanted |= {"gates": "", "supervision": ""}  # of these it is a share of a step
    assert shown.splitlines()[2:] == [
        f"| {'DiT, gated' if ours['work'] == 'gates' else ours['work']} | {ours['batch']} | {ours['per_second']:.1f} "
        f"| {peer['contestant']} | {peer['batch']} | {peer['per_second']:.1f} | {1 / ours['time_ratio']:.2f} "
        f"| {wanted[ours['work']]} |"
        for ours, peer in zip(measured[::2], measured[1::2], strict=True)
    ]


def test_every_path_they_name_exists():
    for path in re.findall(r"`((?:params|src|results/example|tests|workflow|benchmarks|docs)/[\w./]*)`", BOOK):
        assert path.endswith("/mine.py") or (ROOT / path).exists(), path  # what a reader would add


def anchors(page):
    """Where a link may point to within a page: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if not path.startswith("https://"):
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
