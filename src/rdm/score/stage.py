"""`rdm score RUN...`: every sample set of a run under the parameter file's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rdm import paths
from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.params import Experiment
from rdm.params.dependencies import MAKE_EXTRACTOR, of_extractor, of_samples_score, of_score, of_scoring
from rdm.params.schema import Classifier
from rdm.provenance.files import digest, write_json
from rdm.provenance.manifest import Recipe, read
from rdm.randomness import generator
from rdm.runtime import prepare
from rdm.sample import store
from rdm.score import reference
from rdm.score.evaluate import Estimate, evaluate, remarks_on
from rdm.score.extractors import build_extractor
from rdm.score.features import extract
from rdm.score.inputs import check_admitted, describe, open_items
from rdm.score.pair import references_of

FLOOR = "floor"  # scored like a run: the real images of the other split


@dataclass(frozen=True)
class InMemory:
    """Images as `features` wants them: uint8 (N, H, W, C)."""

    images: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return self.images.shape

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images start to stop."""
        return self.images[start:stop]


class Scorer:
    """A reference, its features, and the protocol under which images are compared with it."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.protocol = experiment, experiment.protocol
        parameters, name = experiment.score.extractor, experiment.score.data
        self.device = prepare(experiment)
        if isinstance(parameters, Classifier):
            weights = paths.extractor(name)
            made = read(weights, MAKE_EXTRACTOR, of_extractor(experiment)).digest
        else:
            weights, made = Path(parameters.weights), None
        self.extractor = build_extractor(parameters.kind, weights, self.device, self.protocol.weights)
        self.images = data.load(experiment, name, self.protocol.reference)
        self.reference = self._reference()
        self.inputs = {"reference": self.reference.facts["sha256"], "extractor": made or self.extractor.digest}

    def _reference(self) -> reference.Reference:
        """Of the file that the parameters name, or of the data set's split."""
        score = self.experiment.score
        if score.reference is not None:
            [found] = references_of(Path(score.reference), {score.protocol: self.protocol}, self.extractor).values()
        else:
            facts = {
                "path": f"{paths.data(score.data)} ({self.protocol.reference})",
                "sha256": self.images.artefact.digest,
            }
            [found] = reference.measure(InMemory(self.images.images), [self.protocol], self.extractor, facts)
        return found

    def score(self, images: np.ndarray, labels: np.ndarray | None = None) -> tuple[dict[str, Estimate], list[str]]:
        """The protocol's metrics of uint8 (N, H, W, C) images, and remarks on them."""
        [layers] = extract(InMemory(images), self.extractor, [self.protocol.pixels], 0, len(images), "samples")
        remarks = remarks_on(self.protocol, layers)
        return evaluate(self.protocol, self.reference, layers, labels, self.device), remarks

    def write(self, target: Path, recipe: Recipe, images: np.ndarray, labels: np.ndarray | None, **facts: Any) -> Path:
        """Score, and write one file: the values, and everything they depend on; no times, so that it repeats itself."""
        estimates, remarks = self.score(images, labels)
        content = {
            **describe(self.protocol, self.experiment.score.protocol, self.extractor, self.reference),
            "values": {metric: estimate.as_dict() for metric, estimate in estimates.items()},
            "samples": {
                "sha256": recipe.inputs["samples"],
                "items": len(images),
                **facts,
            },
            "remarks": remarks,
            "scoring_sha256": digest(of_scoring(self.experiment)),
            "recipe": recipe.as_dict(),
        }
        write_json(target, content)
        return target


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
        facts = {"path": str(samples.artefact.folder), "nfe": samples.artefact.facts["nfe"], "seed": seed}
        written.append(scorer.write(path, recipe, samples.images, samples.labels, **facts))
    return written


def _score_published(scorer: Scorer, name: str) -> Path:
    experiment, protocol = scorer.experiment, scorer.protocol
    source = open_items(Path(experiment.find_samples(name)), protocol.clips, "samples")
    where = f"score.samples.{name}: {source.path}"
    check_admitted(where, source.shape[0], source.labels, protocol, experiment.score.protocol)
    if source.shape[1:] != scorer.images.images.shape[1:]:
        sizes = ("x".join(map(str, shape[1:])) for shape in (source.shape, scorer.images.images.shape))
        raise UsageError("{}: images of {}, the reference's are {}; scale them first.".format(where, *sizes))
    images = source.read(0, protocol.samples)
    labels = None if source.labels is None else source.labels[: protocol.samples]
    recipe = Recipe("score", of_samples_score(experiment, name), {**scorer.inputs, "samples": source.digest})
    path = paths.samples_score(name, experiment.score.protocol)
    return scorer.write(path, recipe, images, labels, path=str(source.path))


def _score_floor(scorer: Scorer) -> Path:
    """Score the real images of the other split: what a perfect generator would get."""
    experiment = scorer.experiment
    other = data.load(experiment, experiment.score.data, "train" if scorer.protocol.reference == "test" else "test")
    # shuffled: a data set may be stored class by class, and IS takes its parts in file order
    order = torch.randperm(len(other.labels), generator=generator("floor")).numpy()
    path = paths.floor(experiment.score.data, experiment.score.protocol)
    recipe = Recipe("score", of_scoring(experiment), {**scorer.inputs, "samples": other.artefact.digest})
    return scorer.write(path, recipe, other.images[order], other.labels[order], path=str(other.artefact.folder))
