"""The Slurm profile, on a real Slurm, in containers: where jobs run, and what becomes of one that is cancelled."""

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rdm import paths
from rdm.provenance.image import sif_file
from tests.conftest import ROOT, snakemake
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


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def checkout(image, tmp_path):
    """A clone of this one, with an image."""
    folder = tmp_path / "checkout"
    succeed(["git", "clone", "--quiet", ROOT, folder])
    shutil.copy(image, sif_file(folder))
    return folder


@contextlib.contextmanager
def submitted(checkout, environment, folder, parameters, *targets):
    """Snakemake with the profile, running; interrupted at the end, so that nothing of it stays."""
    profile = checkout / "workflow" / "profiles" / "slurm"
    command = ["snakemake", *targets, "--workflow-profile", profile, *OPTIONS]
    command += ["--directory", folder, "--configfile", parameters]
    with (folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def handles_sigterm(run):
    """Whether a process trains this run and has come so far that it saves its state when it is asked to stop."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if {b"train", run.encode()} <= set((folder / "cmdline").read_bytes().split(b"\0")):
                caught = (folder / "status").read_text().partition("SigCgt:")[2].split()[0]
                return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return False


def test_a_cancelled_training_goes_on_where_it_was(cluster, apptainer, checkout, tmp_path, write_params):
    def change(content):
        content["device"] = "auto"  # asks for GPUs, and takes the CPU where there is none in truth
        content["train"]["baselines"]["dit"]["steps"] = 2000

    parameters, folder, local = write_params(change), tmp_path / "slurm", tmp_path / "local"
    folder.mkdir()
    targets = [str(paths.train(run) / paths.MANIFEST) for run in ("ci-dit-s0", "ci-ldm4-s0")]
    with submitted(checkout, apptainer, folder, parameters, *targets) as process:
        while not handles_sigterm("ci-dit-s0"):
            assert process.poll() is None, (folder / "snakemake.log").read_text()
            time.sleep(0.1)
        (first,) = cluster.jobs("train_wildcards_ci-dit-s0")
        subprocess.run(["scancel", first["JobId"]], check=True)
        snakemake(local, "--cores", "2", *targets, configfile=parameters)
        assert process.wait() == 0, (folder / "snakemake.log").read_text()

    first, second = cluster.jobs("train_wildcards_ci-dit-s0")
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert "Going on from step" in (folder / "logs" / "train" / "ci-dit-s0.log").read_text()
    assert not list((folder / ".rdm" / "train").iterdir())
    assert digests(folder) == digests(local)

    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("32000M", "62.50G")  # of 1024 MB
    (other,) = cluster.jobs("train_wildcards_ci-ldm4-s0")
    assert {cluster.devices(first), cluster.devices(other)} == {"0", "1"}
    (data,) = cluster.jobs("data_wildcards_tiny")
    assert [job["Partition"] for job in (data, first, second, other)] == ["cpu", "gpu", "gpu", "gpu"]
    assert cluster.devices(data) == ""
