"""Downloads of published files: interrupted ones go on where they stopped, and only what is whole gets its name."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from rdm.errors import RdmError
from rdm.progress import progress
from rdm.provenance.files import file_digest, require_disk, whole_file

CHUNK = 1 << 16  # bytes: what a broken line loses at most


def fetch(url: str, target: Path, sha256: str | None) -> str:
    """Download a file unless it is there; returns its sha256, which is the one given, or is recorded beside it.

    What an interrupted download got lies in TARGET.part, and is gone on with. Without a published digest the first
    download's is kept in TARGET.sha256, and holds from then on.
    Raises RdmError if the download fails, the disk is too small, or the file has another digest: then a file that was
    there stays, and one that came is not kept.
    """
    record = target.with_name(f"{target.name}.sha256")
    if sha256 is None and record.is_file():
        sha256 = record.read_text(encoding="ascii").partition(" ")[0].strip() or None
    fresh = not target.is_file()
    if fresh:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _download(url, target)
        except OSError as error:  # requests' are, too
            raise RdmError(f"Downloading {url} stopped ({error}); the same command goes on from there.") from None
    found = file_digest(target)
    if sha256 is not None and found != sha256:
        wrong = f"{target} has sha256 {found}, not {sha256}: it was changed or damaged"
        if fresh:
            target.unlink()
            raise RdmError(f"{wrong}, and was not kept; try again, or get it elsewhere and put it there.")
        raise RdmError(f"{wrong}; remove it and try again.")
    with whole_file(record) as temporary:
        temporary.write_text(f"{found}  {target.name}\n", encoding="ascii")
    return found


def _download(url: str, target: Path) -> None:
    """Fetch `url`, the rest of it if a part is there; of two at a time, one is refused."""
    part = target.with_name(f"{target.name}.part")
    with part.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RdmError(f"Another process is downloading {part}; wait for it.") from None
        except OSError:
            pass  # a disk that knows no locks
        try:
            _receive(url, part, stream)
        finally:
            stream.flush()
            if not part.stat().st_size:
                part.unlink()
        part.replace(target)


def _receive(url: str, part: Path, stream: IO[bytes]) -> None:
    import requests

    have = stream.tell()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        if answer.status_code == requests.codes.range_not_satisfiable:  # there is no more of it
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if size.isdecimal() and int(size) != have:
                stream.truncate(0)
                raise ConnectionError(f"{part} held {have} bytes of a file of {size}, and was removed")
            return
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:  # a server that begins anew
            stream.truncate(0)
            have = 0
        coming = int(answer.headers.get("Content-Length", 0))  # 0: the server does not say
        require_disk(part.with_suffix(""), coming, "name another --folder")
        with progress("download", have + coming, have) as bar:
            for chunk in answer.iter_content(CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))
    stream.flush()
    if coming and part.stat().st_size != have + coming:
        raise ConnectionError(f"{part.stat().st_size} of {have + coming} bytes came")
