"""A real Slurm on one machine, on loopback: two nodes with two GPUs each, which are none. For root of a Debian."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
CONFIGURATION = Path("/etc/slurm")  # a job step forgets SLURM_CONF, and looks here
MARK = "# made by tests/workflow/slurm.py, which removes it again\n"
NODES = ("one", "two")


@dataclass(frozen=True)
class Cluster:
    """A running cluster, and the folder that holds all of it."""

    folder: Path

    def jobs(self, rule):
        """What Slurm remembers of the jobs of a rule, oldest first: its own names of fields, and their values."""
        listed = _run("scontrol", "show", "job", "--oneliner").stdout
        jobs = [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in listed.splitlines()]
        return sorted((job for job in jobs if job.get("Comment") == f"rule_{rule}"), key=lambda job: int(job["JobId"]))

    def devices(self, job):
        """CUDA_VISIBLE_DEVICES, as the processes of a job saw it, by node."""
        return {file.name: file.read_text().strip() for file in (self.folder / "devices" / job["JobId"]).iterdir()}


@contextlib.contextmanager
def running_cluster():
    """Start Slurm, and take it down whatever happens."""
    _install()
    with tempfile.TemporaryDirectory(prefix="rdm-slurm-") as name, contextlib.ExitStack() as cleanup:
        folder = Path(name)
        folder.chmod(0o755)  # munge wants its socket in a folder that all may enter
        files = _configuration(folder)
        for path in files:
            if path.exists() and (MARK not in path.read_text() or _run("scontrol", "ping").returncode == 0):
                _refuse(f"{path} belongs to another Slurm of this machine")
        for path, text in files.items():
            cleanup.callback(path.unlink)
            path.write_text(MARK + text)
        for command in _daemons(folder):
            cleanup.enter_context(_running(command, folder / f"{command[0]}.out"))
        _await_idle(folder)
        cleanup.callback(subprocess.run, ["scancel", "--user=root"], check=False)
        yield Cluster(folder)


def _refuse(reason):
    pytest.fail(f"The tests of Slurm cannot run: {reason}. `pytest -m 'not slurm'` leaves them out.", pytrace=False)


def _install():
    """Debian's own packages, unless they are there."""
    if all(shutil.which(program) for program in ("slurmctld", "slurmd", "sbatch", "munged")):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _refuse(f"install {', '.join(PACKAGES)}, or be root of a Debian")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # starts no service
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=True)


def _configuration(folder):
    """Slurm's files. The nodes claim more cores and memory than there are, so that the profile's requests fit."""
    host, ports = socket.gethostname().split(".")[0], _free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory=1000000 Gres=gpu:2"
        for node, port in zip(NODES, ports[1:], strict=True)
    )
    settings = f"""
        ClusterName=test
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={ports[0]}
        CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
        SlurmUser=root
        AuthInfo=socket={folder}/munge.socket
        StateSaveLocation={folder}/state
        SlurmdSpoolDir={folder}/spool-%n
        SlurmctldPidFile={folder}/slurmctld.pid
        SlurmdPidFile={folder}/slurmd-%n.pid
        SlurmdParameters=config_overrides
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core_Memory
        SchedulerParameters=batch_sched_delay=0,sched_interval=1
        GresTypes=gpu
        ProctrackType=proctrack/pgid
        TaskPlugin=task/none
        TaskProlog={folder}/task-prolog
        PropagateResourceLimits=NONE
        MpiDefault=none
        MinJobAge=3600
        MessageTimeout=60
    """
    partitions = "PartitionName=cpu Nodes=ALL Default=YES\nPartitionName=gpu Nodes=ALL\n"
    return {
        CONFIGURATION / "slurm.conf": f"{settings.replace('        ', '')}{nodes}\n{partitions}",
        CONFIGURATION / "gres.conf": f"NodeName={','.join(NODES)} Name=gpu File={folder}/gpu[0-1]\n",
        # version 1 is never looked for, as version 2 would be
        CONFIGURATION / "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
    }


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [opened.getsockname()[1] for opened in sockets]


def _daemons(folder):
    """What the daemons find in the folder, and the commands that start them."""
    for name in ("state", "devices", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    for number in (0, 1):
        os.mknod(folder / f"gpu{number}", 0o020666, os.makedev(1, 3))  # slurmd wants character devices: /dev/null
    prolog = folder / "task-prolog"
    seen = f"{folder}/devices/$SLURM_JOB_ID"
    prolog.write_text(f'#!/bin/sh\nmkdir -p {seen}\necho "$CUDA_VISIBLE_DEVICES" > {seen}/$SLURMD_NODENAME\n')
    prolog.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    files = {name: f"{folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")}
    yield ["munged", "--foreground", f"--key-file={key}", *(f"--{name}={path}" for name, path in files.items())]
    yield ["slurmctld", "-D"]
    for node in NODES:
        yield ["slurmd", "-D", "-N", node]


@contextlib.contextmanager
def _running(command, log):
    """A daemon, which also ends if the tests are killed."""
    with (
        log.open("a") as output,
        subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdout=output, stderr=output) as daemon,
    ):
        try:
            yield
        finally:
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _await_idle(folder):
    for _ in range(150):
        states = _run("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%t").stdout.split()
        if states == ["idle"] * len(NODES):
            return
        time.sleep(0.2)
    said = "".join(f"\n== {log.name}\n{log.read_text()}" for log in sorted(folder.glob("*.out")))
    pytest.fail(f"Slurm's nodes did not become idle within 30 seconds.{said}", pytrace=False)


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)
