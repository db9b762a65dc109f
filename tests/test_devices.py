"""Which GPUs a process may use, and that no two processes of a machine share one."""

import os
import subprocess
import sys

import pytest
import torch

from rdm import devices
from rdm.errors import UsageError
from rdm.launch import spread
from rdm.runtime import choose_device
from tests.conftest import ROOT
from tests.test_cli import fails, rdm

CLAIM = """
import os, sys
from rdm.devices import claim_gpus
claim_gpus({count})
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(n): a driver that shows n GPUs, nothing that assigns them, and a folder of its own for the locks."""
    for name in ("CUDA_VISIBLE_DEVICES", *devices.ASSIGNED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RDM_LOCK_DIR", str(tmp_path))
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    monkeypatch.setattr(devices, "_held", [])

    def show(count):
        for number in range(count):
            (tmp_path / f"nvidia{number}").touch()
        for other in ("nvidiactl", "nvidia-uvm"):
            (tmp_path / other).touch()

    return show


@pytest.mark.parametrize(
    ("listed", "names"),
    [("", []), ("-1", []), ("2", ["2"]), ("3, 1", ["3", "1"]), ("0,-1,1", ["0"]), ("GPU-a,GPU-b", ["GPU-a", "GPU-b"])],
)
def test_the_list_of_visible_devices_is_read_as_cuda_reads_it(machine, monkeypatch, listed, names):
    machine(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert devices.gpu_names() == names
    assert devices.visible_gpus() == len(names)


def test_without_a_list_the_driver_is_asked(machine):
    assert devices.visible_gpus() == 0
    machine(12)
    assert devices.gpu_names() == [str(number) for number in range(12)]


def test_in_a_container_files_keep_the_hosts_numbers_and_cuda_counts_from_0(machine, tmp_path):
    machine(0)
    for number in (2, 5):
        (tmp_path / f"nvidia{number}").touch()
    assert devices.gpu_names() == ["0", "1"]


def claimant(tmp_path, visible, count=1):
    """A process that claims GPUs, says which, and holds them until its input ends."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "RDM_LOCK_DIR": str(tmp_path)}
    return subprocess.Popen(
        [sys.executable, "-c", CLAIM.format(count=count)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_process_has_a_gpu_of_its_own_and_the_next_one_waits(machine, tmp_path):
    first, second = claimant(tmp_path, "4,7"), claimant(tmp_path, "4,7")
    assert {first.stdout.readline(), second.stdout.readline()} == {"4\n", "7\n"}
    third = claimant(tmp_path, "4,7")
    assert "Waiting for 1 of 2 GPUs" in third.stderr.readline()
    first.communicate()
    freed = third.stdout.readline()
    assert freed in ("4\n", "7\n")
    second.kill()  # a lock ends with its process, however that ends
    second.communicate()
    fourth = claimant(tmp_path, "4,7")
    assert {freed, fourth.stdout.readline()} == {"4\n", "7\n"}
    for process in (third, fourth):
        process.communicate()


def test_several_are_taken_together_or_not_at_all(machine, tmp_path):
    one = claimant(tmp_path, "0,1,2")
    assert one.stdout.readline() == "0\n"
    three = claimant(tmp_path, "0,1,2", count=3)
    assert three.stdout.readline() == "0,1,2\n"  # no choice: all of them, whoever else uses them
    two = claimant(tmp_path, "0,1,2", count=2)
    assert two.stdout.readline() == "1,2\n"
    another = claimant(tmp_path, "0,1,2", count=2)
    assert "Waiting for 2 of 3 GPUs" in another.stderr.readline()
    one.communicate()
    three.communicate()
    two.communicate()
    assert another.stdout.readline() == "0,1\n"
    another.communicate()


def test_no_more_is_locked_than_is_needed(machine, monkeypatch, tmp_path):
    """Another process that asks at the same instant finds the others free."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    lock, locked = devices._lock, []
    monkeypatch.setattr(devices, "_lock", lambda path: locked.append(path.name) or lock(path))
    devices.claim_gpus(2)
    assert locked == ["rdm-gpu-0.lock", "rdm-gpu-1.lock"]


def test_too_few_are_left_to_others(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    held = [devices._lock(tmp_path / f"rdm-gpu-{name}.lock") for name in "02"]

    def others_turn(_):
        held.extend(devices._lock(tmp_path / f"rdm-gpu-{name}.lock") for name in "13")
        for lock in held:
            lock.close()

    monkeypatch.setattr(devices.time, "sleep", others_turn)
    devices.claim_gpus(3)
    assert len(held) == 4
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_gpus_that_torchrun_hands_out_are_left_alone(machine, monkeypatch):
    machine(4)
    monkeypatch.setenv("LOCAL_RANK", "1")
    devices.claim_gpus()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_within_a_job_of_a_cluster_processes_share_its_gpus(machine, monkeypatch, tmp_path):
    """As a Snakemake does that runs on one machine inside an allocation; another job's GPUs have the same numbers."""
    machine(4)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    others = [devices._lock(tmp_path / f"rdm-gpu-{name}.lock") for name in ("0", "7-0", "1", "8-1")]
    devices.claim_gpus()
    assert all(others)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_more_than_there_are_is_refused(machine):
    machine(2)
    with pytest.raises(UsageError, match="3 GPUs are asked for, and there are 2; ask for fewer"):
        devices.claim_gpus(3)


@pytest.fixture
def started(machine, monkeypatch):
    """What `rdm train run` becomes, which goes on here as well: a list that receives the command."""
    commands = []
    monkeypatch.setattr(os, "execvp", lambda file, command: commands.append(command))
    monkeypatch.setattr(sys, "argv", ["rdm", "train", "run"])
    return commands


def test_a_training_is_one_process_unless_it_has_more_gpus(machine, started, monkeypatch):
    spread("auto", None)  # no GPU
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    spread("auto", 2)
    [command] = started
    assert command[1:] == [
        *("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "rdm", "train", "run")
    ]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("LOCAL_RANK", "0")
    spread("auto", 2)
    assert len(started) == 1


def test_a_training_takes_one_gpu_unless_told_otherwise(machine, started, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    spread("auto", None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert not started


def test_a_device_without_choice_is_one_process_and_claims_no_gpu(machine, started, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    for device in ("cpu", "cuda:2"):
        spread(device, 1)
        spread(device, None)
        with pytest.raises(UsageError, match=f"--gpus 2: device: {device} is a single one"):
            spread(device, 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert not started


@pytest.mark.parametrize("verb", [("latents", "f4"), ("train", "ci-dit-s0"), ("sample", "ci-dit-s0")])
def test_encoding_training_and_sampling_ask_for_gpus_alike(verb, machine, started, monkeypatch, write_params, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = write_params(lambda content: content.update(device="auto"))
    fails(rdm(*verb, "--gpus", "9", params=file), 2, "9 GPUs are asked for, and there are 0; ask for fewer")
    refused = rdm(*verb, "--gpus", "0", params=file)
    assert (refused.exit_code, "0 is not in the range x>=1" in refused.stderr) == (2, True)
    fails(rdm(*verb, "--gpus", "1", params=file), 1, "is not there yet; run")
    assert not started
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    rdm(*verb, "--gpus", "2", params=file)
    [command] = started
    assert "--nproc-per-node=2" in command


def test_on_slurm_it_takes_what_it_was_given(machine, started, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_JOB_ID", "12345")
    spread("auto", None)
    assert "--nproc-per-node=2" in started[0]
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    spread("auto", 6)
    assert started[1][:5] == ["srun", "--overlap", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1"]
    assert {"--nnodes=3", "--nproc-per-node=2", "--rdzv-id=12345"} <= set(started[1])
    with pytest.raises(UsageError, match="4 GPUs cannot be dealt evenly to 3 machines"):
        spread("auto", 4)


def test_a_gpu_that_is_not_there_is_said_with_what_to_do():
    with pytest.raises(UsageError, match=r"'cuda:99' is not available here \(torch sees \d+ CUDA GPUs\); run this"):
        choose_device("cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_paper_s_scale_does_not_begin_without_a_gpu(tmp_path, monkeypatch):
    """That is said first, although data and latents are missing, too."""
    monkeypatch.chdir(tmp_path)
    refused = rdm("train", "paper-rdm-f-s0", params=ROOT / "params" / "paper.yaml")
    fails(refused, 2, "device: 'cuda' is not available here", "or `device: cpu` if it may take that long")
    assert not list(tmp_path.iterdir())
