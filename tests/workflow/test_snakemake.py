"""The whole DAG: end to end, repeatable, interruptible, and re-run exactly where something changed."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rdm.params import load
from tests.conftest import CI, ROOT, snakemake


def digests(folder):
    """sha256 of every result but the manifests, which hold seconds."""
    results = Path(folder) / "results"
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def planned(folder, **options):
    """The jobs that a dry run would do."""
    output = snakemake(folder, "results/table1.csv", "--dry-run", "--quiet", "progress", **options).stdout
    return set(re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE))


def test_everything_is_there(finished):
    names = digests(finished)
    assert {"table1.csv", "table1.md", "table1.tex", "figures/samples.png"} <= names.keys()
    assert "train/ci-rdm-u-s0/gates.safetensors" in names
    assert "train/ci-rdm-u-control-s0/gates.safetensors" not in names
    assert not list(finished.rglob("*.partial"))
    assert not (finished / ".rdm" / "train").exists() or not list((finished / ".rdm" / "train").iterdir())


def test_a_finished_tree_has_nothing_to_do(finished):
    assert planned(finished) == set()
    assert "Nothing to be done" in snakemake(finished, "--cores", "1", "results/table1.csv").stderr


def test_one_core_and_a_kill_give_the_same_bytes(finished, tmp_path):
    """Started with one core, killed with everything it had started, then started again."""
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--configfile", CI]
    killed = subprocess.Popen(
        [*command, "--cores", "1", "results/table1.csv"],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    waited = tmp_path / "results" / "train" / "ci-dit-s0" / "manifest.json"
    for _ in range(6000):
        if waited.exists() or killed.poll() is not None:
            break
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert waited.exists()
    assert not (tmp_path / "results" / "table1.csv").exists()
    snakemake(tmp_path, "--cores", "1", "results/table1.csv")
    assert digests(tmp_path) == digests(finished)


def test_a_comment_or_a_copy_of_the_parameters_re_runs_nothing(finished, tmp_path, write_params):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    copied = write_params()
    copied.write_text("# a comment\n" + copied.read_text())
    assert planned(folder, configfile=copied) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: c["train"]["gated"]["rdm-f"].update(steps=5),
            {"train ci-rdm-f-s0", "sample ci-rdm-f-s0", "score rdm-f"}
            | {"train ci-rdm-f-control-s0", "sample ci-rdm-f-control-s0", "score rdm-f-control", "table 1"},
        ),
        (
            lambda c: c["train"]["gated"]["rdm-f"]["gates"].update(learning_rate=0.5),
            {"train ci-rdm-f-s0", "sample ci-rdm-f-s0", "score rdm-f", "table 1"},
        ),
        (
            lambda c: c["sample"]["guided"].update(guidance=2.0),
            {"sample ci-dit-s0", "score dit", "table 1"},
        ),
        (lambda c: c["tables"].update(scale="tiny"), {"table 1"}),
        (
            lambda c: c["score"]["extractor"].update(epochs=2),
            {"train the classifier that scores", "score real images: the floor", "table 1"}
            | {f"score {system}" for system in load(CI).systems if not system.endswith("-unsupervised")},
        ),
    ],
    ids=["steps", "gates", "sampler", "tables", "extractor"],
)
def test_a_changed_value_re_runs_what_depends_on_it(finished, write_params, change, expected):
    assert planned(finished, configfile=write_params(change)) == expected


@pytest.mark.parametrize("name", ["ci", "digits", "fashion", "paper"])
def test_every_parameter_file_plans(tmp_path, name):
    jobs = planned(tmp_path, configfile=ROOT / "params" / f"{name}.yaml")
    experiment = load(ROOT / "params" / f"{name}.yaml")
    trained = {job for job in jobs if job.startswith("train ") and "-s" in job}
    # the table shows every system but the twins that only Figure 5 needs
    runs = {run for run, (system, _) in experiment.runs.items() if not system.endswith("-unsupervised")}
    assert trained == {f"train {run}" for run in runs}
    figure = snakemake(
        tmp_path, "results/figures/figure5.png", "--dry-run", configfile=ROOT / "params" / f"{name}.yaml"
    ).stdout
    assert all(run in figure for run, (system, _) in experiment.runs.items() if system.endswith("-unsupervised"))


def test_the_default_is_digits(tmp_path):
    done = subprocess.run(
        ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "-n", "results/table1.csv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "train digits-dit-s0" in done.stdout


def test_bad_parameters_are_one_sentence(tmp_path, write_params):
    broken = write_params(lambda content: content["score"].update(protocoll="x"))
    done = snakemake(tmp_path, "-n", configfile=broken, check=False)
    assert done.returncode != 0
    assert "protocoll: unknown key; did you mean 'protocol'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    overridden = snakemake(tmp_path, "-n", "--config", "name=other", check=False)
    assert overridden.returncode != 0
    assert "--config is not read here" in overridden.stdout + overridden.stderr
