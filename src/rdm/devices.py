"""GPUs that this process may use, without torch: how many, and one for each of several processes on a machine.

Snakemake counts GPUs and does not hand them out, so the processes agree among themselves: by a lock per GPU.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rdm.errors import UsageError

ASSIGNED = ("SLURM_JOB_ID", "LOCAL_RANK", "KUBERNETES_SERVICE_HOST")  # somebody else hands the GPUs out
DRIVER = Path("/dev")
_held: list[IO[str]] = []  # open until the process ends, and with it the lock


def gpu_names() -> list[str]:
    """What CUDA_VISIBLE_DEVICES lists; if it is not set, numbers from 0, as many as the driver has device files.

    The files' own numbers are the host's: a container that is given the third GPU alone has /dev/nvidia2, CUDA a GPU 0.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [str(number) for number, _ in enumerate(DRIVER.glob("nvidia[0-9]*"))]
    names = [name.strip() for name in listed.split(",")]
    hidden = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
    return names[:hidden]  # as CUDA reads it: nothing after the first that is none


def visible_gpus() -> int:
    """How many GPUs this process may use."""
    return len(gpu_names())


def claim_gpus(count: int = 1) -> None:
    """Take so many of the GPUs for this process alone, and hide the others; waits while too many of them are taken.

    Does nothing where there is no choice, and where torchrun hands the GPUs out. The locks lie in RDM_LOCK_DIR
    (default: the system's temporary folder). Raises UsageError if there are not so many.
    """
    names = gpu_names()
    if count > max(1, len(names)):
        raise UsageError(f"{count} GPUs are asked for, and there are {len(names)}; ask for fewer.")
    if _held or len(names) <= count or "LOCAL_RANK" in os.environ:
        return
    told = False
    while True:
        taken = dict(itertools.islice(_lock_free(names), count))
        if len(taken) == count:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
            _held.extend(taken.values())
            return
        for lock in taken.values():
            lock.close()
        if not told:
            print(f"Waiting for {count} of {len(names)} GPUs: others hold them.", file=sys.stderr)
            told = True
        time.sleep(1)


def handed_out() -> bool:
    """Whether a cluster or torchrun has chosen this process's GPUs."""
    return any(name in os.environ for name in ASSIGNED)


def _lock_free(names: list[str]) -> Iterator[tuple[str, IO[str]]]:
    """The GPUs that nobody holds, with their locks; each is locked when it is asked for."""
    folder = Path(os.environ.get("RDM_LOCK_DIR") or tempfile.gettempdir())
    job = os.environ.get("SLURM_JOB_ID")  # its GPUs have numbers of their own
    for name in names:
        lock = _lock(folder / (f"rdm-gpu-{job}-{name}.lock" if job else f"rdm-gpu-{name}.lock"))
        if lock is not None:
            yield name, lock


def _lock(path: Path) -> IO[str] | None:
    """This lock, held as long as the file is open, or None if somebody else holds it; the file itself stays."""
    import fcntl

    try:
        # for all users: a lock that only its first user may open would give the GPU away to the second
        handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "w")
        path.chmod(0o666)
    except PermissionError:
        handle = path.open()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    os.set_inheritable(handle.fileno(), True)  # what becomes torchrun keeps its GPUs
    return handle
