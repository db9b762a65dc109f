"""The Slurm profile, on a real Slurm, in containers: where jobs run, and what becomes of one that is cancelled."""

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from rdm import paths
from rdm.provenance.image import sif_file
from tests.conftest import CI, ROOT, snakemake
from tests.workflow.conftest import succeed
from tests.workflow.slurm import running_cluster
from tests.workflow.test_snakemake import digests

pytestmark = [pytest.mark.slurm, pytest.mark.containers]

# Slurm here has no accounts, keeps jobs in memory alone, and is asked again at once
OPTIONS = [
    "--slurm-no-account",
    *("--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "1"),
    *("--seconds-between-status-checks", "1"),
]
TRAINED = [str(paths.train(run) / paths.MANIFEST) for run in ("ci-dit-s0", "ci-ldm4-s0")]


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def checkout(image, tmp_path_factory):
    """A clone of this one, with an image; `params/ci.yaml` asks for GPUs, and takes the CPU where there is none."""
    folder = tmp_path_factory.mktemp("checkout")
    succeed(["git", "clone", "--quiet", ROOT, folder])
    shutil.copy(image, sif_file(folder))
    content = yaml.safe_load(CI.read_text())
    content["device"] = "auto"
    content["train"]["baselines"]["dit"]["steps"] = 600  # seconds, to be cancelled in
    (folder / "params" / "ci.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


@contextlib.contextmanager
def submitted(checkout, environment, folder, *arguments):
    """Snakemake with the profile, running; interrupted at the end, so that nothing of it stays."""
    profile = checkout / "workflow" / "profiles" / "slurm"
    command = ["snakemake", *arguments, "--workflow-profile", profile, *OPTIONS]
    command += ["--directory", folder, "--configfile", checkout / "params" / "ci.yaml"]
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def handles_sigterm(run):
    """Whether a job of Slurm trains this run and has come so far that it saves its state when it is asked to stop."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            trains = {b"train", run.encode()} <= set((folder / "cmdline").read_bytes().split(b"\0"))
            if trains and b"\0SLURM_JOB_ID=" in (folder / "environ").read_bytes():
                caught = (folder / "status").read_text().partition("SigCgt:")[2].split()[0]
                return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return False


@pytest.fixture(scope="module")
def cancelled(cluster, apptainer, checkout, tmp_path_factory):
    """A folder in which two networks have been trained, side by side; the first one was cancelled on the way."""
    folder = tmp_path_factory.mktemp("slurm")
    with submitted(checkout, apptainer, folder, *TRAINED) as process:
        while not handles_sigterm("ci-dit-s0"):
            assert process.poll() is None, (folder / "snakemake.log").read_text()
            time.sleep(0.1)
        (job,) = cluster.jobs("train_wildcards_ci-dit-s0")
        subprocess.run(["scancel", job["JobId"]], check=True)
        assert process.wait() == 0, (folder / "snakemake.log").read_text()
    return folder


def test_a_cancelled_training_goes_on_where_it_was(cluster, cancelled, checkout, tmp_path):
    """In a new job, to the same bytes as without Slurm, a container, and the interruption."""
    first, second = cluster.jobs("train_wildcards_ci-dit-s0")
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert "Going on from step" in (cancelled / "logs" / "train" / "ci-dit-s0.log").read_text()
    assert not list((cancelled / ".rdm" / "train").iterdir())
    snakemake(tmp_path, "--cores", "2", *TRAINED, configfile=checkout / "params" / "ci.yaml")
    assert digests(cancelled) == digests(tmp_path)


@pytest.mark.usefixtures("cancelled")
def test_a_job_that_failed_gets_more_memory(cluster):
    memory = [job["MinMemoryNode"] for job in cluster.jobs("train_wildcards_ci-dit-s0")]
    assert memory == ["32000M", "62.50G"]  # 64,000 of 1,024


@pytest.mark.usefixtures("cancelled")
def test_jobs_run_in_their_partition_with_a_gpu_each(cluster):
    (data,) = cluster.jobs("data_wildcards_tiny")
    assert (data["Partition"], cluster.devices(data)) == ("cpu", {"one": ""})
    first, second = cluster.jobs("train_wildcards_ci-dit-s0")
    (beside,) = cluster.jobs("train_wildcards_ci-ldm4-s0")
    assert {job["Partition"] for job in (first, second, beside)} == {"gpu"}
    assert {cluster.devices(first)["one"], cluster.devices(beside)["one"]} == {"0", "1"}
