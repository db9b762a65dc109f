"""What a command in an image needs of the host: folders and variables."""

from __future__ import annotations

import os
from pathlib import Path


def folders(checkout: Path, *others: Path) -> list[Path]:
    """The working folder, the checkout, those that variables name, and others; none that lies in one before it."""
    found: list[Path] = []
    for folder in (Path.cwd(), checkout, *_cache(), *_locks(), *others):
        if not any(folder.is_relative_to(known) for known in found):
            found.append(folder)
    return found


def variables() -> dict[str, str]:
    """The environment variables that name places of the host: home is another one in a container."""
    cache = _cache()
    return {"RDM_CACHE": str(cache[0])} if cache else {}


def _cache() -> list[Path]:
    import pooch

    folder = Path(os.environ.get("RDM_CACHE", pooch.os_cache("rdm"))).absolute()
    return [folder] if folder.is_dir() else []


def _locks() -> list[Path]:
    named = os.environ.get("RDM_LOCK_DIR")
    return [Path(named).absolute()] if named and Path(named).is_dir() else []
