"""Progress of long work on stderr: rate and time left; silent when stderr is not a terminal."""

from __future__ import annotations

import os
from typing import Any

from tqdm import tqdm


def is_first() -> bool:
    """Whether this is the first of the processes that torchrun started, which speaks and writes for all; or alone."""
    return os.environ.get("RANK", "0") == "0"


def progress(what: str, total: int, done: int = 0) -> tqdm[Any]:
    """A bar that counts from `done` to `total`."""
    return tqdm(total=total, initial=done, desc=what, disable=None if is_first() else True, dynamic_ncols=True)
