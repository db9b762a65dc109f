"""`rdm data`: one data set, as four arrays and a manifest.

Of photographs that are not stored there is an index of their files in the place of pixels, and of clips that are made
anew whenever they are read the manifest alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rdm import paths
from rdm.data.images import Source, Split
from rdm.data.photographs import Photographs, write_index
from rdm.params import Experiment
from rdm.params.captions import CocoData, JourneyDBData
from rdm.params.dependencies import make_data, of_data
from rdm.params.schema import (
    INDEXED,
    DigitsData,
    FashionData,
    ImageData,
    MovingDigitsData,
    VideosData,
    files_of,
)
from rdm.progress import progress
from rdm.provenance.files import canonical_json, require_disk
from rdm.provenance.manifest import Artefact, Recipe, build, is_current, read


@dataclass(frozen=True)
class Dataset:
    """One split of a data set: images, uint8 (N, H, W, C), or clips, uint8 (N, T, H, W, C); labels, int64 (N,).

    images: memory-mapped, or decoded or made when they are read.
    classes: none for an unconditional set, whose labels are all 0.
    kinds: the labels that a classifier learns, each int64 (N,): the digit, and of moving digits the motion, too.
    """

    images: Any
    labels: np.ndarray
    classes: list[str]
    kinds: list[np.ndarray]
    artefact: Artefact


def run(experiment: Experiment, name: str, overwrite: bool = False) -> Path:
    """Store the data set `name`; returns its folder. Raises RdmError if the source is missing or damaged."""
    folder = paths.data(name)
    recipe = Recipe("data", of_data(experiment, name))
    if is_current(folder, recipe, make_data(name), overwrite):
        return folder
    parameters = experiment.data[name]
    if isinstance(parameters, MovingDigitsData):
        return _note_moving_digits(parameters, folder, recipe)
    source = _open(parameters, experiment.threads)
    shape: tuple[int, ...] = (parameters.image_size, parameters.image_size, source.channels)
    if isinstance(parameters, VideosData):
        shape = (parameters.frames, *shape)
    files, count = files_of(parameters), len(source.train.labels) + len(source.test.labels)
    require_disk(folder, count * (8 + (INDEXED if files else math.prod(shape))))
    with build(folder, recipe) as (scratch, facts):
        for split_name, split in (("train", source.train), ("test", source.test)):
            _store_labels(scratch, split_name, split)
            if files:
                write_index(scratch / f"{split_name}_images.csv", split.photographs, Path(files), experiment.threads)
            else:
                _store_pixels(scratch, split_name, split, shape)
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
    parameters = experiment.data[name]
    if isinstance(parameters, MovingDigitsData):
        from rdm.data.moving_digits import open_moving_digits

        clips, digits, motions = open_moving_digits(parameters, split)
        labels = digits if parameters.labelled else np.zeros_like(digits)
        return Dataset(clips, labels, artefact.facts["classes"], [digits, motions], artefact)
    labels = np.load(artefact.folder / f"{split}_labels.npy")
    images: Any
    if files := files_of(parameters):
        index = artefact.folder / f"{split}_images.csv"
        images = Photographs(index, Path(files), parameters.image_size, experiment.threads)
    else:
        images = np.load(artefact.folder / f"{split}_images.npy", mmap_mode="r")
    return Dataset(images, labels, artefact.facts["classes"], [labels], artefact)


def read_manifest(experiment: Experiment, name: str) -> Artefact:
    """What is said of a stored data set, whose files are not verified."""
    return read(paths.data(name), make_data(name), of_data(experiment, name), only=())


def load_captions(experiment: Experiment, name: str, split: Literal["train", "test"]) -> list[list[str]]:
    """The captions of each item of a stored split, verified; of a data set that has some."""
    file = f"{split}_captions.json"
    folder = read(paths.data(name), make_data(name), of_data(experiment, name), only=[file]).folder
    found: list[list[str]] = json.loads((folder / file).read_text(encoding="utf-8"))
    return found


def load_labels(experiment: Experiment, name: str, split: Literal["train", "test"]) -> np.ndarray:
    """The labels alone of a stored split of images, verified: int64 (N,)."""
    file = f"{split}_labels.npy"
    folder = read(paths.data(name), make_data(name), of_data(experiment, name), only=[file]).folder
    labels: np.ndarray = np.load(folder / file)
    return labels


class Frames:
    """The frames of clips (N, T, H, W, C) as images (N * T, H, W, C), those of a clip beside each other."""

    def __init__(self, clips: Any) -> None:
        self._clips = clips
        self.shape = (clips.shape[0] * clips.shape[1], *clips.shape[2:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """The images of these numbers, uint8 (n, H, W, C)."""
        numbers = np.arange(len(self))[index]
        needed, position = np.unique(numbers // self._clips.shape[1], return_inverse=True)
        frames: np.ndarray = self._clips[needed][position, numbers % self._clips.shape[1]]
        return frames


def as_images(items: Any) -> Any:
    """Images as they are, clips as their frames."""
    return Frames(items) if len(items.shape) == 5 else items


def _note_moving_digits(parameters: MovingDigitsData, folder: Path, recipe: Recipe) -> Path:
    """Nothing is stored but what the clips are: they are made anew whenever they are read."""
    from rdm.data.digits import CLASSES, LICENCE, ORIGIN
    from rdm.data.moving_digits import open_moving_digits

    with build(folder, recipe) as (scratch, facts):
        content = {}
        for split in ("train", "test"):
            clips, digits, motions = open_moving_digits(parameters, split)
            whole = hashlib.sha256(digits.tobytes() + motions.tobytes())
            for start in range(0, len(clips), 100):
                whole.update(clips[start : start + 100].tobytes())
            content[split] = {"clips": len(clips), "sha256": whole.hexdigest()}
        (scratch / "clips.json").write_text(canonical_json(content), encoding="utf-8")
        facts |= {
            "origin": f"{ORIGIN}; moving",
            "licence": LICENCE,
            "classes": CLASSES if parameters.labelled else [],
            "counts": {split: said["clips"] for split, said in content.items()},
            "skipped": {},
        }
    return folder


def _open(parameters: ImageData | VideosData, threads: int) -> Source:
    # imported here: every later stage reads stored data, and none should wait a second for scikit-learn
    if isinstance(parameters, DigitsData):
        from rdm.data.digits import open_digits

        return open_digits(parameters)
    if isinstance(parameters, FashionData):
        from rdm.data.fashion import open_fashion

        return open_fashion(parameters)
    from rdm.data.published import require_place

    if isinstance(parameters, VideosData):
        from rdm.data.videos import open_videos_source

        for place in filter(None, (parameters.train, parameters.test)):
            require_place(Path(place))
        return open_videos_source(parameters)
    if isinstance(parameters, CocoData | JourneyDBData):
        from rdm.data.captioned import open_captioned

        require_place(Path(parameters.folder))
        return open_captioned(parameters, threads)
    from rdm.data.folder import open_folder

    require_place(Path(parameters.folder))
    return open_folder(parameters, threads)


def _store_labels(folder: Path, name: str, split: Split) -> None:
    """And captions, if there are some."""
    if split.captions is not None:
        text = json.dumps(split.captions, ensure_ascii=False, indent=0)
        (folder / f"{name}_captions.json").write_text(text, encoding="utf-8")
    np.save(folder / f"{name}_labels.npy", split.labels)


def _store_pixels(folder: Path, name: str, split: Split, shape: tuple[int, ...]) -> None:
    """Write images as an npy file, one by one: a data set may be larger than memory."""
    count = len(split.labels)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    with (folder / f"{name}_images.npy").open("wb") as stream, progress(f"{name} images", count) as bar:
        np.lib.format.write_array_header_1_0(stream, header)
        for image in split.pixels:
            stream.write(image.tobytes())
            bar.update()
