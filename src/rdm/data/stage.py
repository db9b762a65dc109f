"""`rdm data`: one data set, as four arrays and a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rdm import paths
from rdm.data.images import Source, Split
from rdm.params import Experiment
from rdm.params.dependencies import make_data, of_data
from rdm.params.schema import DigitsData, FashionData
from rdm.progress import progress
from rdm.provenance.manifest import Artefact, Recipe, build, is_current, read


@dataclass(frozen=True)
class Dataset:
    """One split of a stored data set. images: uint8 (N, H, W, C), memory-mapped. labels: int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    artefact: Artefact


def run(experiment: Experiment, name: str, overwrite: bool = False) -> Path:
    """Store the data set `name`; returns its folder. Raises RdmError if the source is missing or damaged."""
    folder = paths.data(name)
    recipe = Recipe("data", of_data(experiment, name))
    if is_current(folder, recipe, make_data(name), overwrite):
        return folder
    source = _open(experiment, name)
    size = experiment.data[name].image_size
    with build(folder, recipe) as (scratch, facts):
        for split_name, split in (("train", source.train), ("test", source.test)):
            _store(scratch, split_name, split, (size, size, source.channels))
        facts |= {
            "origin": source.origin,
            "licence": source.licence,
            "classes": source.classes,
            "counts": {"train": len(source.train.labels), "test": len(source.test.labels)},
            "skipped": source.skipped,
        }
    return folder


def load(experiment: Experiment, name: str, split: Literal["train", "test"]) -> Dataset:
    """A stored split, verified against its manifest and the parameters."""
    artefact = read(paths.data(name), make_data(name), of_data(experiment, name))
    images = np.load(artefact.folder / f"{split}_images.npy", mmap_mode="r")
    labels = np.load(artefact.folder / f"{split}_labels.npy")
    return Dataset(images, labels, artefact.facts["classes"], artefact)


def _open(experiment: Experiment, name: str) -> Source:
    # imported here: every later stage reads stored data, and none should wait a second for scikit-learn
    parameters = experiment.data[name]
    if isinstance(parameters, DigitsData):
        from rdm.data.digits import open_digits

        return open_digits(parameters)
    if isinstance(parameters, FashionData):
        from rdm.data.fashion import open_fashion

        return open_fashion(parameters)
    from rdm.data.folder import open_folder

    return open_folder(parameters)


def _store(folder: Path, name: str, split: Split, shape: tuple[int, int, int]) -> None:
    """Write labels and images as npy files, the images one by one: a data set may be larger than memory."""
    count = len(split.labels)
    np.save(folder / f"{name}_labels.npy", split.labels)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    with (folder / f"{name}_images.npy").open("wb") as stream, progress(f"{name} images", count) as bar:
        np.lib.format.write_array_header_1_0(stream, header)
        for image in split.pixels:
            stream.write(image.tobytes())
            bar.update()
