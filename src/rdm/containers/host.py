"""What a command in an image needs of the host: folders and variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rdm.provenance.environment import commit


def folders(checkout: Path, *others: Path) -> list[Path]:
    """The working folder, the checkout, those that are named elsewhere, and others; none that lies in one before it."""
    found: list[Path] = []
    for folder in map(_whole, (Path.cwd(), checkout, *_named(), *others)):
        if folder.is_dir() and not any(folder.is_relative_to(known) for known in found):
            found.append(folder)
    return found


def variables() -> dict[str, str]:
    """What rdm finds out on the host alone: a container has another home, and no git."""
    cache, sha = _cache(), commit()
    return {
        **({"RDM_CACHE": str(cache)} if cache.is_dir() else {}),
        **({"RDM_COMMIT": sha} if sha else {}),
    }


def _named() -> Iterator[Path]:
    """The folders that variables name, and those that links in the working folder lead to."""
    yield _cache()
    if locks := os.environ.get("RDM_LOCK_DIR"):
        yield Path(locks)
    if parameters := os.environ.get("RDM_PARAMS"):
        yield Path(parameters).parent
    yield from (Path(name).readlink() for name in ("results", ".rdm", "data") if Path(name).is_symlink())


def _cache() -> Path:
    """Where published weights lie; made if it is named, since in a container it could not be."""
    import pooch

    named = os.environ.get("RDM_CACHE")
    folder = _whole(Path(named or pooch.os_cache("rdm")))
    if named:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _whole(path: Path) -> Path:
    """Absolute and without `..`; links stay, since a container must have the folder under the name that they use."""
    return Path(os.path.normpath(path.absolute()))
