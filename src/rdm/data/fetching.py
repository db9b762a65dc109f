"""A published data set fetched, as far as it may be, and verified: whether what lies there is all of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdm.data import imagenet
from rdm.data.packs import Pack, verify_pack
from rdm.data.published import Archive, Part, Published, find
from rdm.downloads import fetch
from rdm.errors import RdmError
from rdm.progress import progress


def fetch_dataset(name: str, folder: Path | None) -> list[str]:
    """Download what may be downloaded; returns the steps that are left: none, if all is in its place.

    Where no digest was published, that of the first download is kept beside the file, and holds from then on.
    Raises RdmError if the download fails or is another file, or if what is in its place is not the whole of it.
    """
    dataset = find(name)
    place = folder or Path(dataset.folder)
    for pack in dataset.packs:
        place.mkdir(parents=True, exist_ok=True)
        fetch(pack.url, place / pack.file, None)
    if place.is_dir() and any(place.iterdir()) and not _halves(dataset, place):
        verify_dataset(name, folder)
        return []
    place.parent.mkdir(parents=True, exist_ok=True)
    for download in dataset.downloads:
        fetch(download.url, place.parent / download.file, download.sha256)
    return [step.format(folder=place) for step in dataset.steps]


def verify_dataset(name: str, folder: Path | None) -> list[dict[str, Any]]:
    """Count what lies there; returns a row per part. Raises RdmError at the first number that is another.

    Of archives that are read as they are, sizes and digests are compared.
    """
    dataset = find(name)
    place = folder or Path(dataset.folder)
    for half in _halves(dataset, place):
        raise RdmError(f"{half} is half a download; `rdm datasets fetch {name}` goes on with it.")
    if dataset.archives and (place / dataset.archives[0].name).is_file():
        listed = {imagenet.DEVKIT} if (place / imagenet.SYNSETS).is_file() else set()  # labels from elsewhere
        return [_verify_archive(place, archive, name) for archive in dataset.archives if archive.name not in listed]
    return [
        verify_pack(place, part, name) if isinstance(part, Pack) else _verify(place, part, name)
        for part in dataset.parts
    ]


def _halves(dataset: Published, place: Path) -> list[Path]:
    """What interrupted downloads left beside its folder."""
    halves = [place.parent / f"{download.file}.part" for download in dataset.downloads]
    return [half for half in halves if half.is_file()]


def _verify_archive(place: Path, archive: Archive, name: str) -> dict[str, Any]:
    file = place / archive.name
    if not file.is_file():
        raise RdmError(f"{file} is not there; `rdm datasets fetch {name}` says where it is from.")
    size = file.stat().st_size
    if archive.size is not None and size != archive.size:
        raise RdmError(f"{file} has {size} bytes, not {archive.size}; download it again, or the rest of it.")
    found = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream, progress(f"verifying {archive.name}", size) as bar:
        while block := stream.read(1 << 22):
            found.update(block)
            bar.update(len(block))
    if found.hexdigest() != archive.md5:
        raise RdmError(f"{file} has md5 {found.hexdigest()}, not {archive.md5}: it is damaged; download it again.")
    return {"folder": str(file), "classes": 1000, "files": archive.files}


def _verify(place: Path, part: Part, name: str) -> dict[str, Any]:
    folder = place / part.folder
    if not folder.is_dir():
        raise RdmError(f"{folder} is not there; `rdm datasets fetch {name}` says how it gets there.")
    if part.classes == 0:
        files = sum(1 for entry in os.scandir(folder) if entry.is_file() and entry.name.endswith(part.suffixes))
        if files != part.files:
            what = " or ".join(part.suffixes)
            raise RdmError(f"{folder} has {files} {what} files, {name} has {part.files}; unpack it anew.")
        return {"folder": str(folder), "classes": 0, "files": files}
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    counts = {own: sum(1 for file in _files(folder / own) if file.lower().endswith(part.suffixes)) for own in classes}
    if part.classes is not None and len(classes) != part.classes:
        raise RdmError(f"{folder} has {len(classes)} folders, {name} has {part.classes}; unpack it anew.")
    empty = [own for own, count in counts.items() if not count]
    if empty or not classes:
        what = f"{folder / empty[0]} (and {len(empty) - 1} more) holds" if empty else f"{folder} has no folders with"
        raise RdmError(f"{what} no {' or '.join(part.suffixes)} files; unpack it anew, or remove what is empty.")
    files = sum(counts.values())
    if part.files is not None and files != part.files:
        raise RdmError(f"{folder} has {files} files, {name} has {part.files}; unpack it anew.")
    return {"folder": str(folder), "classes": len(classes), "files": files}


def _files(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names
