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
from rdm.score.evaluate import Estimate, evaluate, remarks_on
from rdm.score.extractors import build_extractor
from rdm.score.features import Items, extract, layers_of
from rdm.score.inputs import check_admitted, describe, open_items
from rdm.score.pair import references_of
from rdm.score.reference import Reference, measure_items

FLOOR = "floor"  # scored like a run: the real images of the other split


@dataclass(frozen=True)
class InMemory:
    """Images as `features` wants them: uint8 (N, H, W, C), in this order."""

    images: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray) -> InMemory:
        """Images in the order in which they are stored."""
        return cls(images, np.arange(len(images)))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return self.images.shape

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images start to stop."""
        batch: np.ndarray = self.images[self.order[start:stop]]
        return batch


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

    def _reference(self) -> Reference:
        """Of the file that the parameters name, or of the data set's split."""
        score = self.experiment.score
        if score.reference is not None:
            [found] = references_of(Path(score.reference), {score.protocol: self.protocol}, self.extractor).values()
        else:
            facts = {
                "path": f"{paths.data(score.data)} ({self.protocol.reference})",
                "sha256": self.images.artefact.digest,
            }
            items = InMemory.of(self.images.images)
            [found] = measure_items(items, [self.protocol], self.extractor, facts)
        return found

    def score(self, items: Items, labels: np.ndarray | None) -> tuple[dict[str, Estimate], list[str]]:
        """The protocol's metrics of the first items, as many as it scores, and remarks on them."""
        count = min(items.shape[0], self.protocol.samples)
        labels = None if labels is None else labels[:count]
        wanted = layers_of([self.protocol])
        [layers] = extract(items, self.extractor, [self.protocol.pixels], wanted, 0, count, "samples")
        remarks = remarks_on(self.protocol, layers, labels)
        return evaluate(self.protocol, self.reference, layers, labels, self.device), remarks

    def write(
        self, target: Path, recipe: Recipe, items: Items, labels: np.ndarray | None, remarks: list[str], **facts: Any
    ) -> Path:
        """Score, and write one file: the values, and everything they depend on; no times, so that it repeats itself."""
        estimates, more = self.score(items, labels)
        count = min(items.shape[0], self.protocol.samples)
        content = {
            **describe(self.protocol, self.experiment.score.protocol, self.extractor, self.reference),
            "values": {metric: estimate.as_dict() for metric, estimate in estimates.items()},
            "samples": {"sha256": recipe.inputs["samples"], "items": count, **facts},
            "remarks": remarks + more,
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
        written.append(scorer.write(path, recipe, InMemory.of(samples.images), samples.labels, [], **facts))
    return written


def _score_published(scorer: Scorer, name: str) -> Path:
    experiment, protocol = scorer.experiment, scorer.protocol
    source = open_items(Path(experiment.find_samples(name)), protocol.clips, "samples")
    where = f"score.samples.{name}: {source.path}"
    remarks = check_admitted(where, source.shape[0], source.labels, protocol, experiment.score.protocol)
    if source.shape[1:] != scorer.images.images.shape[1:]:
        sizes = ("x".join(map(str, shape[1:])) for shape in (source.shape, scorer.images.images.shape))
        raise UsageError("{}: images of {}, the reference's are {}; scale them first.".format(where, *sizes))
    recipe = Recipe("score", of_samples_score(experiment, name), {**scorer.inputs, "samples": source.digest})
    path = paths.samples_score(name, experiment.score.protocol)
    return scorer.write(path, recipe, source, source.labels, remarks, path=str(source.path))


def _score_floor(scorer: Scorer) -> Path:
    """Score the real images of the other split: what a perfect generator would get."""
    experiment, protocol = scorer.experiment, scorer.protocol
    other = data.load(experiment, experiment.score.data, "train" if protocol.reference == "test" else "test")
    # shuffled: a data set may be stored class by class, and IS takes its parts in file order
    order = torch.randperm(len(other.labels), generator=generator("floor")).numpy()
    path = paths.floor(experiment.score.data, experiment.score.protocol)
    recipe = Recipe("score", of_scoring(experiment), {**scorer.inputs, "samples": other.artefact.digest})
    few = f"{len(order)} items, where the protocol scores {protocol.samples}: a little more bias"
    remarks = [few] if len(order) < protocol.samples else []
    items = InMemory(other.images, order)
    return scorer.write(path, recipe, items, other.labels[order], remarks, path=str(other.artefact.folder))
