"""What a set of images or videos offers, and what its readers share."""

from __future__ import annotations

import os
import re
import struct
import tokenize
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

import av
import numpy as np
from PIL import Image
from safetensors import SafetensorError

from rdm.errors import UsageError
from rdm.provenance.files import digest, file_digest

# whatever the libraries raise on bytes that are not what they should be
DAMAGED = (
    *(
        OSError,
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        MemoryError,
        RuntimeError,
        EOFError,
        SyntaxError,
        tokenize.TokenError,
        struct.error,
    ),
    *(zlib.error, zipfile.BadZipFile, SafetensorError, av.FFmpegError, Image.DecompressionBombError),
)


class Source(ABC):
    """A set at `path`. files: if that is a folder, the relative names of what belongs to the set, else empty.

    labels: int64 (N,), or None if the set has none.
    """

    path: Path
    files: list[str]
    labels: np.ndarray | None

    @cached_property
    def digest(self) -> str:
        """sha256 of the file's bytes; of a folder, of the names and digests of its files."""
        if not self.files:
            return file_digest(self.path)
        return digest({name: file_digest(self.path / name) for name in self.files})


class Images(Source):
    """A set of N images. shape: (N, H, W, C), where C is 3 (RGB) or 1 (grey)."""

    shape: tuple[int, int, int, int]

    @abstractmethod
    def read(self, start: int, stop: int) -> np.ndarray:
        """Images start to stop, of 0 <= start < stop <= N: uint8 (stop - start, H, W, C), perhaps not writeable.

        May be called from several threads at once.
        """


class Videos(Source):
    """A set of `count` videos. frame_shape: (H, W, C) of every frame, where C is 3 (RGB) or 1 (grey)."""

    count: int
    frame_shape: tuple[int, int, int]

    @abstractmethod
    def length(self, index: int) -> int:
        """How many frames video `index` has."""

    @abstractmethod
    def read(self, index: int, frames: Sequence[int]) -> np.ndarray:
        """Those frames of video `index`, in that order: uint8 (len(frames), H, W, C).

        May be called from several threads at once.
        """

    def each(self, index: int, frames: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Number and pixels, uint8 (H, W, C), of each of those frames of video `index`, once, from its start on.

        Holds one frame at a time, where `read` holds all.
        """
        for number in sorted(set(frames)):
            yield number, self.read(index, [number])[0]


def is_class_sorted(labels: np.ndarray) -> bool:
    """Whether `labels`, int64 (N,), are sorted by class: several classes, each in one unbroken run of the set.

    One item of each class, in whatever order, does not count as sorted.
    """
    classes = len(np.unique(labels))
    runs = 1 + int(np.count_nonzero(np.diff(labels)))
    return 2 <= classes == runs < len(labels)


def list_files(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Relative POSIX names of the files below `folder` with one of `suffixes`, sorted; hidden ones are skipped."""
    found = [place / name for place, _, files in _walk(folder) for name in files]
    return sorted(f.as_posix() for f in found if f.suffix.lower() in suffixes and (folder / f).is_file())


def list_leaves(folder: Path) -> list[str]:
    """Relative POSIX names of the folders below `folder` that hold no folder, sorted; hidden ones are skipped."""
    return sorted(place.as_posix() for place, folders, _ in _walk(folder) if not folders and place.parts)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Of `folder` and each below it: its path relative to `folder`, its folders and its files, but no hidden ones."""
    seen = set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        again = real in seen  # a link to where we have been
        seen.add(real)
        folders[:] = [] if again else [name for name in folders if not name.startswith(".")]
        if not again:
            yield Path(place).relative_to(folder), folders, [name for name in files if not name.startswith(".")]


def folder_labels(names: Sequence[str]) -> np.ndarray | None:
    """int64 (N,): the number of each name's outermost folder among the sorted folders; None unless all are in one."""
    parts = [PurePosixPath(name).parts for name in names]
    if any(len(p) == 1 for p in parts):
        return None
    return np.unique([p[0] for p in parts], return_inverse=True)[1].astype(np.int64)


@contextmanager
def readable(where: str | Path, kind: str) -> Iterator[None]:
    """Turn what a library raises on a damaged file into a UsageError that names it."""
    try:
        yield
    except DAMAGED as error:
        # Pillow names the object it read from by its address, which differs each time
        reason = re.sub(r" <[^<>]* at 0x\w+>", "", str(error)) or type(error).__name__
        raise UsageError(f"{where} cannot be read as {kind} ({reason}); replace or remove it.") from None


def require_size(where: str | Path, shape: Sequence[int], first: str | Path, expected: Sequence[int]) -> None:
    """Raise UsageError unless `where` has the (H, W, C) of the set's `first` image or video."""
    if tuple(shape) != tuple(expected):
        here, there = ("x".join(map(str, s)) for s in (shape, expected))
        raise UsageError(f"{where} is {here} (H x W x C) but {first} is {there}; give all of the set the same size.")
