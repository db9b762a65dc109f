"""Downloads of published files: interrupted ones go on where they stopped, and only what is whole gets its name."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Any

from rdm.errors import RdmError
from rdm.progress import progress
from rdm.provenance.files import file_digest, require_disk

CHUNK = 1 << 16  # bytes: what a broken line loses at most


def fetch(url: str, target: Path, sha256: str | None) -> str:
    """Download a file unless it is there; returns its sha256, which is the one given, or is recorded beside it.

    What an interrupted download got lies in TARGET.part, and is gone on with. Without a published digest the first
    download's is kept in TARGET.sha256, and holds from then on.
    Raises RdmError if the download fails, the disk is too small, or the file has another digest: then a file that was
    there stays, and one that came is not kept.
    """
    import pooch

    record = target.with_name(f"{target.name}.sha256")
    if sha256 is None and record.is_file():
        sha256 = record.read_text(encoding="ascii").split()[0]
    fresh = not target.is_file()
    if fresh:
        try:
            pooch.retrieve(url, known_hash=None, fname=target.name, path=target.parent, downloader=_Resuming(target))
        except RdmError:
            raise
        except Exception as error:  # pooch lets through whatever the network stack raises
            raise RdmError(f"Downloading {url} stopped ({error}); the same command goes on from there.") from None
    found = file_digest(target)
    if sha256 is not None and found != sha256:
        wrong = f"{target} has sha256 {found}, not {sha256}: it was changed or damaged"
        if fresh:
            target.unlink()
            raise RdmError(f"{wrong}, and was not kept; try again, or get it elsewhere and put it there.")
        raise RdmError(f"{wrong}; remove it and try again.")
    record.write_text(f"{found}  {target.name}\n", encoding="ascii")
    return found


class _Resuming:
    """pooch's downloader, which begins anew each time, but for a part that is kept."""

    def __init__(self, target: Path) -> None:
        self.part = target.with_name(f"{target.name}.part")

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        """Fetch `url` into `output_file`, the rest of it if a part is there; of two at a time, one is refused."""
        with self.part.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RdmError(f"Another process is downloading {self.part}; wait for it.") from None
            except OSError:
                pass  # a disk that knows no locks
            try:
                self._fetch(url, stream)
            finally:
                stream.flush()
                if not self.part.stat().st_size:
                    self.part.unlink()
            self.part.replace(output_file)

    def _fetch(self, url: str, stream: IO[bytes]) -> None:
        import requests

        have = stream.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
            if answer.status_code == requests.codes.range_not_satisfiable:  # there is no more of it
                size = answer.headers.get("Content-Range", "").rpartition("/")[2]
                if size.isdecimal() and int(size) != have:
                    stream.truncate(0)
                    raise ConnectionError(f"{self.part} held {have} bytes of a file of {size}, and was removed")
                return
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:  # a server that begins anew
                stream.truncate(0)
                have = 0
            total = have + int(answer.headers.get("Content-Length", 0))
            require_disk(self.part.with_suffix(""), total - have, "name another --folder")
            with progress("download", total, have) as bar:
                for chunk in answer.iter_content(CHUNK):
                    stream.write(chunk)
                    bar.update(len(chunk))
        stream.flush()
        if total and self.part.stat().st_size != total:
            raise ConnectionError(f"{self.part.stat().st_size} of {total} bytes came")
