"""From one process to several: `rdm train`, `latents` and `sample` become torchrun when they may use several GPUs.

On several machines of a Slurm job, srun starts one torchrun on each.
"""

from __future__ import annotations

import os
import socket
import sys

from rdm.devices import claim_gpus, handed_out, visible_gpus
from rdm.errors import UsageError


def spread(device: str, gpus: int | None) -> None:
    """Take the GPUs of this job; with several, start again as one process per GPU (and do not return).

    device: as the parameter file has it; where that names one device, one process, and nothing is taken here.
    gpus: on all machines of the job together. None: all that a cluster has given, elsewhere one.
    Raises UsageError if there are not so many, or if they cannot be dealt evenly to the machines.
    """
    if device not in ("auto", "cuda"):
        if gpus is not None and gpus > 1:
            raise UsageError(f"--gpus {gpus}: device: {device} is a single one; set device: cuda, or leave --gpus out.")
        return
    if "LOCAL_RANK" in os.environ:
        return
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    wanted = gpus or (visible_gpus() * nodes if handed_out() else 1)
    if wanted % nodes:
        raise UsageError(f"{wanted} GPUs cannot be dealt evenly to {nodes} machines; ask for a multiple.")
    claim_gpus(wanted // nodes)
    if wanted > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        command = torchrun(wanted // nodes, nodes, sys.argv[1:])
        os.execvp(command[0], command)


def torchrun(per_node: int, nodes: int, arguments: list[str]) -> list[str]:
    """The command that runs `rdm ARGUMENTS` once per GPU."""
    run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={per_node}"]
    if nodes == 1:
        return [*run, "--standalone", "-m", "rdm", *arguments]
    # the first machine is this one; jobs that share it must not share the port
    port = 20000 + int(os.environ["SLURM_JOB_ID"]) % 10000
    meet = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={socket.gethostname()}:{port}"]
    each = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    return [*each, *run, *meet, f"--rdzv-id={os.environ['SLURM_JOB_ID']}", "-m", "rdm", *arguments]
