"""Photographs that stay where they are: an index of their files, and their pixels, decoded whenever they are read."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO, cast

import numpy as np

from rdm.ahead import ahead
from rdm.data.images import Photograph
from rdm.progress import progress


def write_index(path: Path, photographs: list[Photograph], root: Path, threads: int) -> None:
    """A line for each: its file below `root`, where in it (of an archive) it begins, how long it is, and its sha256.

    Raises RdmError for one that is no whole image.
    """
    with _text(path, "w") as stream, progress(f"index of {root}", len(photographs)) as bar:
        table = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(["file", "start", "size", "sha256"])
        digests = ahead(Photograph.digest, photographs, threads)
        for photograph, digest in zip(photographs, digests, strict=True):
            file = photograph.file  # annotations may name one elsewhere
            file = file.relative_to(root) if file.is_relative_to(root) else file
            table.writerow([file, photograph.start, photograph.size, digest])
            bar.update()


def _text(path: Path, mode: str) -> TextIO:
    """Of the index, whatever bytes and line breaks there are in the names of files."""
    return cast(TextIO, path.open(mode, encoding="utf-8", errors="surrogateescape", newline=""))


class Photographs:
    """Photographs as an array would give them: uint8 (N, size, size, 3), each decoded when it is asked for.

    threads: so many decode, in the same order whatever their number.
    """

    def __init__(self, index: Path, root: Path, size: int, threads: int) -> None:
        with _text(index, "r") as stream:
            _, *self._index = csv.reader(stream)
        self._root, self._size = root, size
        self._pool = ThreadPoolExecutor(threads)
        self.shape = (len(self._index), size, size, 3)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """The photographs of these numbers, uint8 (n, size, size, 3).

        Raises RdmError if one is no longer the file that was indexed.
        """
        pixels = list(self._pool.map(self._read, np.arange(len(self))[index]))
        return np.stack(pixels) if pixels else np.empty((0, *self.shape[1:]), np.uint8)

    def _read(self, number: int) -> np.ndarray:
        file, start, size, sha256 = self._index[number]
        path = self._root / file
        name = str(path) if int(size) < 0 else f"{path}: from byte {start}"
        return Photograph(name, path, int(start), int(size), sha256).read(self._size)
