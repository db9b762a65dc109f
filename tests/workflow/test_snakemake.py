"""The whole DAG: end to end, repeatable, interruptible, and re-run exactly where something changed."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rdm import paths
from tests.conftest import CI, FIGURES, ROOT, TARGETS, snakemake


def digests(folder):
    """sha256 of every result but manifests, notes and lists of runs, which hold seconds."""
    results = Path(folder) / "results"
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file()
        and path.name != "manifest.json"
        and not path.stem.endswith("-runs")
        and not path.is_relative_to(results / "provenance")
    }


def planned(folder, *targets, **options):
    """The jobs that a dry run would do."""
    output = snakemake(folder, *(targets or TARGETS), "--dry-run", "--quiet", "progress", **options).stdout
    return set(re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE))


def test_everything_is_there(finished):
    names = digests(finished)
    tables = {f"{table}.{suffix}" for table in ("table1", "table2") for suffix in ("csv", "md", "tex", "html")}
    curves = {f"figures/{figure}.{suffix}" for figure in FIGURES for suffix in ("csv", "png")}
    pictures = {f"figures/{name}.png" for name in ("samples", "clips", "moving-clips")}
    assert tables | curves | pictures <= names.keys()
    assert "train/ci-rdm-u-s0/gates.safetensors" in names
    assert "train/ci-rdm-u-control-s0/gates.safetensors" not in names
    assert "train/ci-dit-resnet-s0/model-step2.safetensors" in names
    assert "sample/ci-dit-resnet-s0/plain-step2/00000.npz" in names
    assert "train/ci-rdm-u-rate10-s0/gates.safetensors" in names
    assert "train/ci-dit-depth1-s0/gates.safetensors" not in names
    assert "train/ci-dit-depth1-gated-s0/gates.safetensors" in names
    assert not any("unsupervised" in name for name in names)  # Figure 5's alone
    for protocol in ("ci_clips", "ci_frames"):
        assert {f"score/ci-ucf-rdm-s0/clips-guided/{protocol}.json", f"score/floor/ucf/{protocol}.json"} <= names.keys()
    assert not list(finished.rglob("*.partial"))
    assert not (finished / ".rdm" / "train").exists() or not list((finished / ".rdm" / "train").iterdir())


def test_a_finished_tree_has_nothing_to_do(finished):
    assert planned(finished) == set()
    assert "Nothing to be done" in snakemake(finished, "--cores", "1", *TARGETS).stderr


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
    made, expected = digests(tmp_path), digests(finished)
    assert {"table1.csv", "table1.md", "table1.tex", "figures/samples.png", "data/tiny/test_images.npy"} <= made.keys()
    assert made == {name: digest for name, digest in expected.items() if name in made}
    assert not any("ucf" in name or "sky" in name or "depth" in name for name in made)  # Table 1 shows none of them


def test_a_comment_or_a_copy_of_the_parameters_re_runs_nothing(finished, tmp_path, write_params):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    copied = write_params()
    copied.write_text("# a comment\n" + copied.read_text())
    assert planned(folder, configfile=copied) == set()


def jobs(*systems, train=True, sample=True):
    """Of systems with seed 0, from training to scores."""
    verbs = ["train"] * train + ["sample"] * sample
    return {f"{verb} ci-{system}-s0" for verb in verbs for system in systems} | {f"score {name}" for name in systems}


VARIANTS = [f"dit-{variant}" for variant in ("rdm", "adaln", "skip", "resnet", "rezero")]
BY_DEPTH = [f"dit-depth{depth}{gated}" for depth in (1, 2) for gated in ("", "-gated")]
FROM_LABELS = ["dit", "ldm4", "rdm-f", "rdm-f-control", "rdm-u", "rdm-u-control"]
FROM_TEXT = ["dit-text", "ldm4-text", "rdm-f-text", "rdm-f-text-control", "rdm-u-text", "rdm-u-text-control"]
OF_IMAGES = [*FROM_LABELS, *FROM_TEXT, *VARIANTS, *BY_DEPTH, "rdm-u-rate10"]
DRAWN = {f"draw {name}" for name in FIGURES}
GUIDED = ["ucf-latte", "ucf-rdm", "ucf-rdm-control"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["train"]["gated"]["rdm-f"].update(steps=5), jobs("rdm-f", "rdm-f-control") | {"table 1"}),
        (lambda c: c["train"]["gated"]["rdm-f"]["gates"].update(learning_rate=0.5), jobs("rdm-f") | {"table 1"}),
        (
            lambda c: c["train"]["gated"]["rdm-u"]["gates"].update(learning_rate=0.5),
            jobs("rdm-u", "rdm-u-rate10") | {"table 1", "draw rates"},
        ),
        (lambda c: c["figures"]["rates"].update(factors=[20]), jobs("rdm-u-rate20") | DRAWN),
        (lambda c: c["sample"]["guided"].update(guidance=2.0), jobs("dit", "dit-text", train=False) | {"table 1"}),
        (
            lambda c: c["train"]["baselines"]["dit-text"]["network"]["text"].update(seed=1),
            jobs("dit-text", "rdm-f-text", "rdm-f-text-control") | {"table 1"},
        ),
        (lambda c: c["tables"].update(tolerance=0.04), {"table 1", "table 2"}),
        (lambda c: c["tables"].update(scale="tiny"), {"table 1", "table 2", *DRAWN}),
        (
            lambda c: c["score"]["images"]["extractor"].update(epochs=2),
            {"train the classifier that scores images", "score real items: the floor of images"}
            | jobs(*OF_IMAGES, train=False, sample=False)
            | {"table 1", *DRAWN},
        ),
        (
            lambda c: c["score"]["ucf-frames"]["extractor"].update(epochs=2),
            {"train the classifier that scores ucf-frames", "score real items: the floor of ucf-frames"}
            | jobs(*GUIDED, train=False, sample=False)
            | {"table 2"},
        ),
        (lambda c: c["sample"]["clips-guided"].update(guidance=2.0), jobs(*GUIDED, train=False) | {"table 2"}),
        (
            lambda c: c["train"]["baselines"]["ucf-frames"].update(steps=5),
            {"train ci-ucf-frames-s0"} | jobs(*GUIDED) | {"table 2"},
        ),
        (
            lambda c: c["data"]["sky"].update(seed=1),
            {"data set sky", "encode sky as sky-f4"}  # by an autoencoder that knows nothing of it
            | {"score real items: the floor of sky-clips"}
            | jobs("sky-latte", "sky-rdm", "sky-rdm-control")
            | {"table 2"},
        ),
        (
            lambda c: c["figures"]["figure6"].update(steps=[1, 4]),
            jobs(*VARIANTS) | DRAWN,
        ),
        (
            lambda c: c["figures"]["figure7"].update(steps=5),
            jobs(*BY_DEPTH) | DRAWN,
        ),
    ],
    ids=[
        *(
            "steps",
            "gates",
            "gates trained faster",
            "rates",
            "sampler",
            "text",
            "tables",
            "scale",
            "extractor",
            "extractor of frames",
            "sampler of clips",
            "start",
        ),
        *("clips", "figure6", "figure7"),
    ],
)
def test_a_changed_value_re_runs_what_depends_on_it(finished, write_params, change, expected):
    assert planned(finished, configfile=write_params(change)) == expected


def test_a_changed_protocol_re_runs_its_scores(finished, write_params):
    """Of the clips scored under it, nothing else."""
    changed = write_params()
    protocols = changed.with_name("protocols.yaml")
    content = yaml.safe_load(protocols.read_text())
    content["ci_frames"]["ddof"] = 0
    protocols.write_text(yaml.safe_dump(content))
    again = {"score real items: the floor of ucf-frames", *jobs(*GUIDED, train=False, sample=False), "table 2"}
    assert planned(finished, configfile=changed) == again


def trained(content, *targets):
    """The runs that these tables and figures show, with what they start from: in the parameter file's own words."""
    baselines, gated = content["train"]["baselines"], content["train"]["gated"]
    figures, wanted = content["figures"], set()
    for target in targets:
        if target.startswith("table"):
            rows = content["tables"][target]["rows"]
            cells = [
                cell for row in rows for cell in row.get("cells", [row, *([row["text"]] if "text" in row else [])])
            ]
            shown = {cell["system"] for cell in cells if "system" in cell}
            wanted |= shown | {f"{name}-control" for name in shown & gated.keys()}
        elif target == "figure6":
            base = figures[target]["base"]
            wanted |= {f"{base}-{variant}" for variant in ("rdm", "adaln", "skip", "resnet", "rezero")}
        elif target == "figure7":
            names = [f"{figures[target]['base']}-depth{depth}" for depth in figures[target]["depths"]]
            wanted |= {*names, *(f"{name}-gated" for name in names)}
        elif target == "rates":
            for name in figures[target]["systems"]:
                control = f"{name.removesuffix('-unsupervised')}-control"
                wanted |= {name, control, *(f"{name}-rate{factor}" for factor in figures[target]["factors"])}
        elif target == "losses":
            wanted |= {twin for name in figures["figure5"]["systems"] for twin in (name, f"{name}-control")}
        else:
            for name in figures["figure5"]["systems"]:
                supervised = gated[name]["gates"].get("supervision", True)
                twins = {f"{name}-control"} | ({f"{name}-unsupervised"} if supervised else set())
                wanted |= {name} if target == "gates" else {name} | twins
    runs, pending = set(), list(wanted)
    while pending:
        system = pending.pop()
        twin = re.sub(r"(-control|-unsupervised)?(-rate\d+)?$", "", system)
        declared = gated.get(twin) or baselines.get(twin) or baselines[re.sub("-[^-]+(-gated)?$", "", twin)]
        own = baselines[declared["start"]] if twin in gated else declared
        runs |= {f"train {content['name']}-{system}-s{seed}" for seed in own.get("seeds") or content["seeds"]}
        pending += [declared["start"]] if "start" in declared else []
    return runs


@pytest.mark.parametrize("name", ["ci", "digits", "fashion", "longer", "paper"])
def test_every_parameter_file_plans(tmp_path, name):
    """Each table and figure alone needs what it shows; what a file leaves out is no target."""
    file = ROOT / "params" / f"{name}.yaml"
    content = yaml.safe_load(file.read_text())
    tables = [table for table in ("table1", "table2") if table in content["tables"]]
    figures = ["gates", "losses", *content["figures"]]
    assert len(tables) + len(figures) == {"fashion": 4, "longer": 5, "paper": 7}.get(name, 8)
    for targets in (["table1"], tables, ["figure5", "gates"], ["losses"], figures, ["claims"]):
        files = [paths.figure(t) if t in figures else paths.table(t, "csv") for t in targets]
        done = planned(tmp_path, *map(str, files), configfile=file)
        assert ("judge the claims" in done) == (targets == ["claims"])
        shown = [*tables, *content["figures"].keys() - {"rates"}] if targets == ["claims"] else targets
        assert {job for job in done if re.match(r"train \S+-s\d+$", job)} == trained(content, *shown)
        named = {f"draw {t}" if t in figures else t.replace("table", "table ") for t in targets} - {"claims"}
        assert {job for job in done if job.startswith(("table", "draw"))} == named
    if name == "fashion":
        missing = snakemake(tmp_path, "results/table2.csv", "--dry-run", configfile=file, check=False)
        assert missing.returncode != 0
        assert "results/table2.csv" in missing.stdout + missing.stderr


def test_published_clips_are_scored_where_a_table_shows_them(finished, tmp_path, write_params):
    """Anything that `rdm score` reads, here a folder of shards; scored under both protocols of its data set."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)

    def publish(content):
        content["published"] = {"theirs": {"data": "ucf", "path": "theirs"}}
        content["tables"]["table2"]["rows"].append({"row": "LVDM", "cells": [{"samples": "theirs"}]})

    changed = write_params(publish)
    again = {"score published samples theirs", "table 2"}
    assert planned(folder, "results/table2.csv", configfile=changed) == again  # before they are there
    missing = snakemake(folder, "--cores", "1", "results/table2.csv", configfile=changed, check=False)
    assert missing.returncode != 0
    assert "theirs is not there" in (folder / "logs" / "score" / "published" / "theirs.log").read_text()
    (folder / "theirs").mkdir()
    for shard in (folder / paths.sample("ci-ucf-latte-s0", "clips")).glob("*.npz"):
        shutil.copy(shard, folder / "theirs")
    assert planned(folder, "results/table2.csv", configfile=changed) == again
    for protocol in ("ci_clips", "ci_frames"):
        target = str(paths.published_score("theirs", protocol))
        assert planned(folder, target, configfile=changed) == {"score published samples theirs"}


def test_parts_give_the_same_bytes(finished, tmp_path, write_params):
    """Sampling and scoring cut into jobs: of images, and of clips with several scores."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    for system in ("dit", "ucf-rdm"):
        shutil.rmtree(folder / "results" / "sample" / f"ci-{system}-s0")
        shutil.rmtree(folder / "results" / "score" / f"ci-{system}-s0")
    changed = write_params(lambda content: content.update(parts={"sample": 2, "score": 3}))
    score = paths.score("ci-dit-s0", "plain", "ci")
    clips = paths.score("ci-ucf-rdm-s0", "clips-guided", "ci_clips")
    done = snakemake(folder, "--cores", "2", score, clips, configfile=changed)
    for system in ("dit", "ucf-rdm"):
        for part in (1, 2):
            assert f"sample ci-{system}-s0, part {part}" in done.stderr
        for part in (1, 2, 3):
            assert f"extract features of {system}, part {part}" in done.stderr
    assert {n: d for n, d in digests(folder).items() if not n.startswith("parts/")} == digests(finished)
    assert not list((folder / ".rdm").rglob("*.npz"))
    assert not list((folder / ".rdm").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "order"), [((), ["starts", "ends"] * 2), (("--resources", "gpu=2"), ["starts"] * 2 + ["ends"] * 2)]
)
def test_as_many_gpu_jobs_at_a_time_as_there_are_gpus(tmp_path, write_params, monkeypatch, arguments, order):
    """With one GPU, one, unless more are asked for; each says when it starts and ends, in the order of that."""
    real = shutil.which("rdm")
    program = tmp_path / "bin" / "rdm"
    program.parent.mkdir()
    lines = ("#!/bin/sh", f'echo "$1 starts" >> {tmp_path}/jobs', f'{real} "$@"', f'echo "$1 ends" >> {tmp_path}/jobs')
    program.write_text("\n".join(lines))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    changed = write_params(lambda content: content.update(device="auto"))
    autoencoders = [paths.autoencoder("tiny", "f4"), paths.autoencoder("ucf", "ucf-f4")]
    targets = [folder / paths.MANIFEST for folder in autoencoders]
    snakemake(tmp_path, *arguments, "--cores", "4", *targets, configfile=changed)
    jobs = [line for line in (tmp_path / "jobs").read_text().splitlines() if "autoencoder" in line]
    assert jobs == [f"autoencoder {what}" for what in order]


def test_jobs_are_told_how_many_gpus_they_may_use(tmp_path, write_params, monkeypatch):
    """As many as the parameter file says, and no more than there are; or as many as the command line says."""
    changed = write_params(lambda content: content.update(device="auto", gpus={"dit": 4}))
    samples = paths.sample("ci-dit-s0", "plain") / paths.MANIFEST
    several = ("--set-resources", "latents:gpu=3", "train:gpu=2", "sample_ci_dit_s0:gpu=2")
    for visible, wanted, encoding, training, sampling in (
        ("", (), "", "", ""),
        ("0", (), " --gpus 1", " --gpus 1", " --gpus 1"),
        ("0,1,2", (), " --gpus 1", " --gpus 3", " --gpus 1"),
        ("0,1,2,3,4", (), " --gpus 1", " --gpus 4", " --gpus 1"),
        ("0,1,2", several, " --gpus 3", " --gpus 2", " --gpus 2"),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        planned = snakemake(tmp_path, samples, "-n", "-p", *wanted, configfile=changed).stdout
        assert f"rdm latents f4 --overwrite{encoding} >" in planned
        assert f"rdm train ci-dit-s0 --overwrite{training} >" in planned
        assert f"rdm sample ci-dit-s0 --overwrite{sampling} >" in planned


def test_the_lock_of_a_killed_run_is_removed(tmp_path):
    """In a copy of the checkout: the command works in the folder that holds the Snakefile."""
    for name in ("Snakefile", "workflow", "params", "src", "requirements.lock", "containers"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "results/data/tiny/manifest.json", "--configfile", CI]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while "Job stats" not in (line := running.stderr.readline()):
        assert line, "snakemake ended before it began"
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    again = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    assert "Directory cannot be locked" in subprocess.run(command, **again).stderr
    assert subprocess.run(["rdm", "unlock", "--params", CI], **again).returncode == 0
    assert subprocess.run([*command, "--rerun-incomplete"], **again).returncode == 0
    elsewhere = subprocess.run(["rdm", "unlock"], **{**again, "cwd": tmp_path / "results"})
    assert elsewhere.returncode == 2
    assert "There is no Snakefile here" in elsewhere.stderr


def test_the_workflow_has_no_lints(tmp_path):
    done = snakemake(tmp_path, "--lint", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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
    broken = write_params(lambda content: content["score"]["images"].update(protocoll="x"))
    done = snakemake(tmp_path, "-n", configfile=broken, check=False)
    assert done.returncode != 0
    assert "score.images.protocoll: unknown key; did you mean 'protocol'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    overridden = snakemake(tmp_path, "-n", "--config", "name=other", check=False)
    assert overridden.returncode != 0
    assert "--config is not read here" in overridden.stdout + overridden.stderr
