"""Photographs in ImageNet's layout: `folder/{train,val}/<class>/<image>`, or its official archives in `folder`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rdm.data.imagenet import ARCHIVES, list_archive
from rdm.data.images import Photograph, Source, Split, split_photographs
from rdm.errors import RdmError
from rdm.params.schema import FolderData

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp"}


def open_folder(parameters: FolderData, threads: int = 1) -> Source:
    """Both splits, labels by sorted class (torchvision's ImageFolder order), images sorted by name.

    threads: so many decode images, in the same order whatever their number.
    Raises RdmError if a split is missing or has no images, if the splits' classes differ, or are not as many as the
    parameters say, and, when its pixels are read, if an image is damaged.
    """
    root = Path(parameters.folder)
    skipped: dict[str, str] = {}
    train, val = (_list_split(root, split, skipped) for split in ("train", "val"))
    if list(train) != list(val):
        odd = sorted(train.keys() ^ val.keys())
        some = ", ".join(odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
        raise RdmError(
            f"{root}/train and {root}/val hold different class folders, only one of them {some}; check that both are "
            "complete."
        )
    if parameters.classes not in (None, len(train)):
        raise RdmError(
            f"{root}/train and {root}/val hold {len(train)} classes, and the parameters say {parameters.classes}; "
            "unpack what is missing, or change `classes`."
        )
    return Source(
        train=_split(train, parameters.image_size, threads),
        test=_split(val, parameters.image_size, threads),
        channels=3,
        classes=list(train),
        origin=f"local folder {root}",
        licence="that of the files in the folder",
        skipped=skipped,
    )


def _list_split(root: Path, split: str, skipped: dict[str, str]) -> dict[str, list[Photograph]]:
    """The photographs of each class, in a folder or in an archive."""
    place = root / split
    if not place.is_dir() and (root / ARCHIVES[split]).is_file():
        return list_archive(root, split)
    classes = sorted(p.name for p in place.iterdir() if p.is_dir()) if place.is_dir() else []
    if not classes:
        raise RdmError(
            f"{place} holds no class folders; put images there as {place}/<class>/<image>, or ImageNet's official "
            f"{ARCHIVES[split]} into {root}."
        )
    found = {}
    for name in classes:
        files = sorted((place / name).iterdir())
        skipped |= {str(f.relative_to(root)): "not an image suffix" for f in files if f.suffix.lower() not in SUFFIXES}
        found[name] = [Photograph(str(file), file) for file in files if file.suffix.lower() in SUFFIXES]
    if not any(found.values()):
        raise RdmError(f"{place} holds no images; put images there as {place}/<class>/<image>.")
    return found


def _split(classes: dict[str, list[Photograph]], size: int, threads: int) -> Split:
    labels = [label for label, photographs in enumerate(classes.values()) for _ in photographs]
    photographs = [photograph for own in classes.values() for photograph in own]
    return split_photographs(photographs, np.array(labels, np.int64), size, threads)
