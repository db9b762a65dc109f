"""Progress of long work on stderr: rate and time left; silent when stderr is not a terminal."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def progress(what: str, total: int, done: int = 0) -> tqdm[Any]:
    """A bar that counts from `done` to `total`."""
    return tqdm(total=total, initial=done, desc=what, disable=None, dynamic_ncols=True)
