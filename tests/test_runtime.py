"""The settings under which everything numerical runs."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from rdm.runtime import keep_memory
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
