"""Files that are whole or not there: written under a temporary name, renamed when complete."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rdm.errors import RdmError


def canonical_json(value: Any) -> str:
    """JSON whose bytes depend on the value alone: keys sorted, no spaces that vary."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def digest(value: Any) -> str:
    """sha256 of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds, delete it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; it replaces `folder` if the block succeeds, and vanishes otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(folder)
    outgoing = temporary.with_name(f"{_stem(folder)}old.{os.getpid()}.partial")
    try:
        temporary.mkdir()
        yield temporary
        if folder.exists():
            folder.replace(outgoing)
        temporary.replace(folder)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(outgoing, ignore_errors=True)


def share_file(file: Path, folder: Path) -> None:
    """Give a file a second name in `folder`; on another disk, copy it there."""
    try:
        os.link(file, folder / file.name)
    except OSError:
        shutil.copy(file, folder)


# not a link in the place of results/: .rdm/ grows, too, and git keeps results/example
LARGER_DISK = "work in a folder on a larger disk (`snakemake --directory FOLDER`, or `rdm` run there)"


def require_disk(place: Path, needed: int, remedy: str = LARGER_DISK) -> None:
    """Raise RdmError unless the disk on which `place` is, or will be, has so many bytes free."""
    there = next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise RdmError(
            f"{place} needs {needed / 1e9:.1f} GB more, and its disk has {free / 1e9:.1f} GB; make room, or {remedy}."
        )


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other living process uses; what killed processes of this host left is removed.

    What those of other hosts left stays: on a disk that is shared they cannot be told from living ones.
    """
    stem = _stem(path)
    for leftover in path.parent.glob(f"{stem}*.partial"):
        process = leftover.name.removeprefix(stem).removesuffix(".partial").removeprefix("old.")
        if process.isdecimal() and not _alive(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)
            leftover.unlink(missing_ok=True)
    return path.with_name(f"{stem}{os.getpid()}.partial")


def _stem(path: Path) -> str:
    """How the names of temporary files and folders of `path` begin on this host."""
    return f".{path.name}.{platform.node()}."


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return process != os.getpid()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as canonical JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(canonical_json(value), encoding="utf-8")
