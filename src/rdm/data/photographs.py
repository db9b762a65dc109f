"""Photographs that stay where they are: an index of their files, and their pixels, decoded whenever they are read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rdm.ahead import ahead
from rdm.data.images import Photograph
from rdm.progress import progress


def write_index(path: Path, photographs: list[Photograph], root: Path, threads: int) -> None:
    """A line for each: its file below `root`, where in it (of an archive) it begins, how long it is, and its sha256.

    Raises RdmError for one that cannot be read or does not begin as an image does.
    """
    with path.open("w", encoding="utf-8") as stream, progress(f"index of {root}", len(photographs)) as bar:
        stream.write("file,start,size,sha256\n")
        digests = ahead(Photograph.digest, photographs, threads)
        for photograph, digest in zip(photographs, digests, strict=True):
            file = str(photograph.file.relative_to(root)).replace('"', '""')
            stream.write(f'"{file}",{photograph.start},{photograph.size},{digest}\n')
            bar.update()


class Photographs:
    """Photographs as an array would give them: uint8 (N, size, size, 3), each decoded when it is asked for.

    threads: so many decode, in the same order whatever their number.
    """

    def __init__(self, index: Path, root: Path, size: int, threads: int) -> None:
        import pandas as pd  # takes half a second, and stored data need none

        self._index = pd.read_csv(index, dtype={"file": str, "sha256": str}, keep_default_na=False)
        self._root, self._size = root, size
        self._pool = ThreadPoolExecutor(threads)
        self.shape = (len(self._index), size, size, 3)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """The photographs of these numbers, uint8 (n, size, size, 3).

        Raises RdmError if one is no longer the file that was indexed.
        """
        rows = self._index.iloc[index].itertuples(index=False, name=None)
        photographs = [self._photograph(*row) for row in rows]
        pixels = list(self._pool.map(lambda photograph: photograph.read(self._size), photographs))
        return np.stack(pixels) if pixels else np.empty((0, *self.shape[1:]), np.uint8)

    def _photograph(self, file: str, start: int, size: int, sha256: str) -> Photograph:
        path = self._root / file
        return Photograph(str(path) if size < 0 else f"{path}: from byte {start}", path, start, size, sha256)
