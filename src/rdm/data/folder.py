"""Photographs in ImageNet's layout: `folder/{train,val}/<class>/<image>`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rdm.data.images import Source, Split, read_photograph
from rdm.errors import RdmError
from rdm.params.schema import FolderData

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp"}


def open_folder(parameters: FolderData) -> Source:
    """Both splits, labels by sorted class folder (torchvision's ImageFolder order), images sorted by name.

    Raises RdmError if a split is missing, has no images, or the splits' classes differ.
    """
    root = Path(parameters.folder)
    classes = _classes(root / "train")
    if _classes(root / "val") != classes:
        raise RdmError(f"{root}/train and {root}/val hold different class folders; check that both are complete.")
    skipped: dict[str, str] = {}
    return Source(
        train=_split(root / "train", classes, parameters.image_size, skipped),
        test=_split(root / "val", classes, parameters.image_size, skipped),
        channels=3,
        classes=classes,
        origin=f"local folder {root}",
        licence="that of the files in the folder",
        skipped=skipped,
    )


def _classes(split: Path) -> list[str]:
    classes = sorted(p.name for p in split.iterdir() if p.is_dir()) if split.is_dir() else []
    if not classes:
        raise RdmError(f"{split} holds no class folders; put images there as {split}/<class>/<image>.")
    return classes


def _split(root: Path, classes: list[str], size: int, skipped: dict[str, str]) -> Split:
    files = [(file, label) for label, name in enumerate(classes) for file in sorted((root / name).iterdir())]
    for file, _ in files:
        if file.suffix.lower() not in SUFFIXES:
            skipped[str(file.relative_to(root.parent))] = "not an image suffix"
    images = [(file, label) for file, label in files if file.suffix.lower() in SUFFIXES]
    if not images:
        raise RdmError(f"{root} holds no images; put images there as {root}/<class>/<image>.")
    pixels = (read_photograph(file, size) for file, _ in images)
    return Split(pixels, np.array([label for _, label in images], np.int64))
