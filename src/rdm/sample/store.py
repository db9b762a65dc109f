"""Stored images: ours, and those that others published. No torch here, so that reading them is fast."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdm import paths
from rdm.errors import RdmError
from rdm.params import Experiment
from rdm.params.dependencies import make_sample, make_train, of_sample, of_train
from rdm.provenance.manifest import Artefact, check_input, read


@dataclass(frozen=True)
class Samples:
    """Generated images. images: uint8 (N, H, W, C). labels: int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray
    artefact: Artefact


def load(experiment: Experiment, name: str, sampler: str) -> Samples:
    """The images of one run and sampler, verified."""
    artefact = read(paths.sample(name, sampler), make_sample(name), of_sample(experiment, name, sampler))
    trained = read(paths.train(name), make_train(name), of_train(experiment, name))
    check_input(artefact, trained, "train", make_sample(name))
    shards = [np.load(path) for path in sorted(artefact.folder.glob("*.npz"))]
    images = np.concatenate([shard["arr_0"] for shard in shards])
    return Samples(images, np.concatenate([shard["arr_1"] for shard in shards]), artefact)


def load_published(name: str, path: Path, samples: int, like: np.ndarray) -> np.ndarray:
    """Somebody else's images, uint8 (samples, H, W, C), from the `arr_0` of an npz as the ADM evaluator reads it.

    like: the reference images, whose size they must have. Raises RdmError for a file of another kind or count.
    """
    where = f"score.samples.{name}: {path}"
    if not path.is_file():
        raise RdmError(f"{where} is not there; download it and name its path.")
    try:
        with np.load(path, allow_pickle=False) as content:
            images: np.ndarray = content["arr_0"]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise RdmError(f"{where} is not a whole npz with an arr_0 ({error}); download it again.") from None
    if images.dtype != np.uint8 or images.shape[1:] != like.shape[1:]:
        expected = "x".join(str(size) for size in like.shape[1:])
        raise RdmError(f"{where} holds {images.dtype} of {images.shape[1:]}; uint8 images of {expected} are needed.")
    if len(images) != samples:
        raise RdmError(f"{where} holds {len(images)} images; the protocol scores {samples}.")
    return images
