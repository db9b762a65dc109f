"""`rdm score`: FID, sFID and IS of every sample set of a run, from one pass of the extractor over each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

from rdm import paths
from rdm.data import stage as data
from rdm.params import Experiment
from rdm.params.dependencies import MAKE_EXTRACTOR, of_extractor, of_samples_score, of_score, of_scoring
from rdm.params.schema import Classifier, Inception
from rdm.provenance.files import digest, file_digest, write_json
from rdm.provenance.manifest import Recipe, read
from rdm.randomness import generator
from rdm.runtime import prepare
from rdm.sample import store
from rdm.score.extractors import build_extractor, extract

FLOOR = "floor"  # scored like a run: the real images of the other split


class Scorer:
    """A reference, its features, and the protocol under which images are compared with it."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.protocol = experiment.protocol
        device = prepare(experiment)
        self.device = device if device.type == "cuda" else torch.device("cpu")  # what torch-fidelity knows
        self.reference = data.load(experiment, experiment.score.data, self.protocol.reference)
        parameters = experiment.score.extractor
        folder = paths.extractor(experiment.score.data)
        self.inputs = {"reference": self.reference.artefact.digest}
        if isinstance(parameters, Classifier):
            self.inputs["extractor"] = read(folder, MAKE_EXTRACTOR, of_extractor(experiment)).digest
        self.extractor: FeatureExtractorBase = build_extractor(parameters, folder, self.device)
        if isinstance(parameters, Inception):
            self.inputs["extractor"] = file_digest(Path(parameters.weights))
        self.statistics = self._statistics(self._features(self.reference.images))

    def score(self, images: np.ndarray, labels: np.ndarray | None = None) -> dict[str, float]:
        """fid, sfid, is of uint8 (N, H, W, C) images; with a classifier and labels, also how often it agrees."""
        features = self._features(images)
        statistics = self._statistics(features)
        values = {
            name: fid_statistics_to_metric(statistics[layer], self.statistics[layer], False)[KEY_METRIC_FID]
            for name, layer in (("fid", "pool"), ("sfid", "spatial"))
        }
        splits = self.protocol.inception_score_splits
        values["is"] = isc_features_to_metric(features["logits"], splits, shuffle=False)[KEY_METRIC_ISC_MEAN]
        if isinstance(self.experiment.score.extractor, Classifier) and labels is not None:
            values["accuracy"] = float((features["logits"].argmax(1).numpy() == labels).mean())
        return values

    def write(self, path: Path, recipe: Recipe, values: dict[str, float], facts: dict[str, Any]) -> None:
        """One score file: the values, and everything they depend on."""
        dimensions = {layer: len(statistics["mu"]) for layer, statistics in self.statistics.items()}
        content = {
            "values": values,
            "protocol": self.experiment.score.protocol,
            "protocol_digest": digest(of_scoring(self.experiment)),
            "dimensions": dimensions,
            "reference_items": len(self.reference.labels),
            **facts,
            "device": self.device.type,
            "recipe": recipe.as_dict(),
        }
        write_json(path, content)

    def _features(self, images: np.ndarray) -> dict[str, Tensor]:
        return extract(self.extractor, images, self.device)

    def _statistics(self, features: dict[str, Tensor]) -> dict[str, dict[str, np.ndarray]]:
        return {layer: fid_features_to_statistics(features[layer].double()) for layer in ("pool", "spatial")}


def run(experiment: Experiment, names: list[str]) -> list[Path]:
    """Score the sample sets of runs, published sample sets, or the floor; returns the score files."""
    for name in names:
        if name not in {*experiment.runs, FLOOR}:
            experiment.find_samples(name)
    scorer = Scorer(experiment)
    written = []
    for name in names:
        if name == FLOOR:
            written.append(_score_floor(scorer))
        elif name in experiment.runs:
            written += _score_run(scorer, name)
        else:
            written.append(_score_published(scorer, name))
    return written


def _score_run(scorer: Scorer, name: str) -> list[Path]:
    experiment = scorer.experiment
    system, seed = experiment.find_run(name)
    written = []
    for sampler in experiment.samplers_of(system):
        samples = store.load(experiment, name, sampler)
        inputs = {**scorer.inputs, "samples": samples.artefact.digest}
        recipe = Recipe("score", of_score(experiment, name, sampler), inputs)
        path = paths.score(name, sampler, experiment.score.protocol)
        facts = {"items": len(samples.labels), "nfe": samples.artefact.facts["nfe"], "seed": seed}
        scorer.write(path, recipe, scorer.score(samples.images, samples.labels), facts)
        written.append(path)
    return written


def _score_published(scorer: Scorer, name: str) -> Path:
    experiment = scorer.experiment
    file = Path(experiment.find_samples(name))
    images = store.load_published(name, file, experiment.protocol.samples, scorer.reference.images)
    recipe = Recipe("score", of_samples_score(experiment, name), {**scorer.inputs, "samples": file_digest(file)})
    path = paths.samples_score(name, experiment.score.protocol)
    scorer.write(path, recipe, scorer.score(images), {"items": len(images), "nfe": None, "seed": None})
    return path


def _score_floor(scorer: Scorer) -> Path:
    """Score the real images of the other split: what a perfect generator would get."""
    experiment = scorer.experiment
    other = data.load(experiment, experiment.score.data, "train" if scorer.protocol.reference == "test" else "test")
    # shuffled: a data set may be stored class by class, and IS takes its parts in file order
    order = torch.randperm(len(other.labels), generator=generator("floor")).numpy()
    path = paths.floor(experiment.score.data, experiment.score.protocol)
    recipe = Recipe("score", of_scoring(experiment), scorer.inputs)
    facts = {"items": len(other.labels), "nfe": None, "seed": None}
    scorer.write(path, recipe, scorer.score(other.images[order], other.labels[order]), facts)
    return path
