"""In what an artefact was made, and when: kept beside its recipe and never part of it, so that it re-runs nothing."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from rdm import __version__
from rdm.provenance.code import LIBRARIES
from rdm.provenance.files import file_digest
from rdm.provenance.image import CHECKOUT, LOCK


def environment() -> dict[str, Any]:
    """commit and lock of the checkout (None where there is none), versions, device, and the time now (UTC)."""
    lock = CHECKOUT / LOCK
    versions = {"rdm": __version__, **{name: importlib.metadata.version(name) for name in LIBRARIES}}
    return {
        "commit": commit(),
        "lock": file_digest(lock) if lock.is_file() else None,
        "versions": {"python": platform.python_version(), **versions},
        "device": _device(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def commit() -> str | None:
    """The checkout's commit, with `-dirty` behind it if tracked files differ from it; None outside a checkout.

    In a container without git, what RDM_COMMIT says: the workflow and `rdm container run` set it.
    """
    if (CHECKOUT / ".git").exists():
        command = ["git", "--no-optional-locks", "-C", str(CHECKOUT), "describe"]
        options = ["--always", "--dirty", "--abbrev=40", "--exclude=*"]
        try:
            done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
            return done.stdout.strip()
        except (OSError, subprocess.CalledProcessError):  # no git, or a checkout that it does not trust
            pass
    return os.environ.get("RDM_COMMIT") or None


def _device() -> str:
    """The GPU's name if this process has used one, else the kind of CPU."""
    torch = sys.modules.get("torch")  # not imported for this: most verbs that only plan do without
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return f"cpu {platform.machine()}"
