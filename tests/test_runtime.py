"""The settings under which everything numerical runs."""

import subprocess
import sys

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from rdm.runtime import choose_device, prepare
from tests.conftest import altered

PROGRAM = """
import ctypes, resource, torch
from rdm.runtime import keep_memory
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of 4 KiB, whatever the machine prefers
{call}
faults = []
for _ in range(10):
    torch.ones(2**24)  # 64 MiB, 16,384 pages
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[4])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_is_kept():
    """What was used once is used again without a page fault."""
    faults = {
        call: int(subprocess.run([sys.executable, "-c", PROGRAM.format(call=call)], capture_output=True).stdout)
        for call in ("", "keep_memory()")
    }
    assert faults[""] > 5 * 16_000
    assert faults["keep_memory()"] < 1_000


def test_a_gpu_is_named_with_its_number(monkeypatch):
    """torch.cuda.set_device takes no `cuda` alone, as an H200 showed; of a GPU that is not here, a stand-in."""
    made, chosen = torch.empty, []

    class There:
        device = torch.device("cuda", 0)

    monkeypatch.setattr(torch, "empty", lambda *size, device=None: There() if device == "cuda" else made(*size))
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: chosen.append(torch.cuda._utils._get_device_index(device))
    )
    assert choose_device("cuda") == torch.device("cuda", 0)
    assert chosen == [0]


def test_threads_are_those_of_the_parameter_file(experiment):
    """torch's and BLAS's, on whose number the last bits of a sum depend."""
    try:
        for threads in (2, 1):
            prepare(altered(experiment, threads=threads, device="cpu"))
            assert torch.get_num_threads() == threads
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {threads}
    finally:
        threadpool_limits(1)
        torch.set_num_threads(1)


def test_what_does_not_repeat_itself_is_off():
    """Attention's backward passes in cuDNN and in memory-efficient kernels; and TF32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    choose_device("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cuda.mem_efficient_sdp_enabled()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
