"""ImageNet's official archives, read where they lie: of training images a tar of one tar per class, of the others one.

Labels of the validation images: the development kit's, or a list of one wnid a line, in the order of the images.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from rdm.errors import RdmError
from rdm.progress import progress

ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
SYNSETS = "imagenet_2012_validation_synset_labels.txt"  # as TensorFlow publishes it


@dataclass(frozen=True)
class Photograph:
    """An image file, or `size` bytes from `start` on of an archive. name: for messages, and what it is sorted by."""

    name: str
    file: Path
    start: int = 0
    size: int = -1

    def read(self) -> bytes:
        """The bytes of the image file."""
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.size)


def list_archive(root: Path, split: str) -> dict[str, list[Photograph]]:
    """A split's photographs by wnid, both sorted. Raises RdmError if an archive is damaged, or labels are missing."""
    archive = root / ARCHIVES[split]
    with archive.open("rb") as stream, progress(f"looking into {archive.name}", archive.stat().st_size) as bar:
        members = list(_members(archive, stream))
        if split == "val":
            return _by_label(root, [Photograph(f"{archive}: {n}", archive, start, size) for n, start, size in members])
        found = {}
        for name, start, size in members:
            inner = _members(archive, stream, start)
            found[PurePosixPath(name).stem] = [Photograph(f"{archive}: {n}", archive, at, s) for n, at, s in inner]
            bar.update(size)
    return {wnid: sorted(found[wnid], key=lambda photograph: photograph.name) for wnid in sorted(found)}


def _members(archive: Path, stream: IO[bytes], start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each file in the tar that begins at `start`."""
    stream.seek(start)
    with _readable(archive), tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            if member.isfile():
                yield member.name, member.offset_data, member.size


def _by_label(root: Path, photographs: list[Photograph]) -> dict[str, list[Photograph]]:
    labels, found = _validation_labels(root), dict[str, list[Photograph]]()
    if len(labels) != len(photographs):
        raise RdmError(
            f"{root} holds labels of {len(labels)} validation images, and {len(photographs)} of these in "
            f"{ARCHIVES['val']}; `rdm datasets verify imagenet` says which file is damaged."
        )
    for photograph, wnid in zip(sorted(photographs, key=lambda p: p.name), labels, strict=True):
        found.setdefault(wnid, []).append(photograph)
    return {wnid: found[wnid] for wnid in sorted(found)}


def _validation_labels(root: Path) -> list[str]:
    """The wnid of each validation image, in order of their names."""
    if (root / SYNSETS).is_file():
        with _readable(root / SYNSETS):
            return (root / SYNSETS).read_text(encoding="ascii").split()
    if not (root / DEVKIT).is_file():
        raise RdmError(
            f"{root} holds {ARCHIVES['val']} without its labels; put {DEVKIT} or {SYNSETS} beside it "
            "(`rdm datasets fetch imagenet` says where they are from)."
        )
    from scipy.io import loadmat

    with _readable(root / DEVKIT), tarfile.open(root / DEVKIT, "r:gz") as kit:
        files = {PurePosixPath(name).name: name for name in kit.getnames()}
        numbers = kit.extractfile(files["ILSVRC2012_validation_ground_truth.txt"])
        synsets = kit.extractfile(files["meta.mat"])
        assert numbers is not None
        assert synsets is not None
        table = loadmat(synsets, squeeze_me=True)["synsets"]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
        return [wnids[int(number)] for number in numbers.read().split()]


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError, ValueError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise RdmError(f"{archive} cannot be read ({reason}); download it again.") from None
