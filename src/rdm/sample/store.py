"""Stored images and clips. No torch here, so that reading them is fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rdm import paths
from rdm.params import Experiment
from rdm.params.dependencies import make_sample, make_train, of_sample, of_train
from rdm.provenance.manifest import Artefact, check_input, read


@dataclass(frozen=True)
class Samples:
    """Generated items. images: uint8 (N, [T,] H, W, C). labels: int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray
    artefact: Artefact


def find(experiment: Experiment, name: str, sampler: str) -> Artefact:
    """What one run drew with a sampler, verified: whole, under these parameters, and by the weights that are there."""
    artefact = read(paths.sample(name, sampler), make_sample(name), of_sample(experiment, name, sampler))
    trained = read(paths.train(name), make_train(name), of_train(experiment, name), only=())
    check_input(artefact, trained, "train", make_sample(name))
    return artefact


def load(experiment: Experiment, name: str, sampler: str) -> Samples:
    """The items of one run and sampler, verified."""
    artefact = find(experiment, name, sampler)
    shards = [np.load(path) for path in sorted(artefact.folder.glob("*.npz"))]
    images = np.concatenate([shard["arr_0"] for shard in shards])
    return Samples(images, np.concatenate([shard["arr_1"] for shard in shards]), artefact)
