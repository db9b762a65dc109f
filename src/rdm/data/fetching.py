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
        fetch(pack.url, place / pack.file, None)
    if _in_place(dataset, place) and not _halves(dataset, place):
        verify_dataset(name, folder)
        return []
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
    archives = _archives(dataset, place)
    for archive in archives:  # all of them, before the first is read: that takes minutes
        _check_size(place, archive, name)
    if archives:
        return [_verify_archive(place, archive) for archive in archives]
    return [
        verify_pack(place, part, name) if isinstance(part, Pack) else _verify(place, part, name)
        for part in dataset.parts
    ]


def _halves(dataset: Published, place: Path) -> list[Path]:
    """What interrupted downloads left beside its folder."""
    halves = [place.parent / f"{download.file}.part" for download in dataset.downloads]
    return [half for half in halves if half.is_file()]


def _in_place(dataset: Published, place: Path) -> bool:
    """Whether something of every part is where it belongs, whole or not."""
    archives = _archives(dataset, place)
    if archives:
        return all((place / archive.name).is_file() for archive in archives)
    return all(_is_there(place, part) for part in dataset.parts)


def _is_there(place: Path, part: Part | Pack) -> bool:
    if isinstance(part, Pack):
        return (place / part.file).is_file()
    if not (place / part.folder).is_dir():
        return False
    with os.scandir(place / part.folder) as found:
        return any(entry.name.endswith(part.suffixes) if part.classes == 0 else entry.is_dir() for entry in found)


def _archives(dataset: Published, place: Path) -> list[Archive]:
    """The archives that are needed, if the first of them is there: else the data set is read from folders."""
    if not dataset.archives or not (place / dataset.archives[0].name).is_file():
        return []
    listed = {imagenet.DEVKIT} if (place / imagenet.SYNSETS).is_file() else set()  # labels from elsewhere
    return [archive for archive in dataset.archives if archive.name not in listed]


def _check_size(place: Path, archive: Archive, name: str) -> None:
    file = place / archive.name
    if not file.is_file():
        raise RdmError(f"{file} is not there; `rdm datasets fetch {name}` says where it is from.")
    size = file.stat().st_size
    if archive.size is not None and size != archive.size:
        raise RdmError(f"{file} has {size} bytes, not {archive.size}; download it again, or the rest of it.")


def _verify_archive(place: Path, archive: Archive) -> dict[str, Any]:
    file = place / archive.name
    found = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream, progress(f"verifying {archive.name}", file.stat().st_size) as bar:
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
