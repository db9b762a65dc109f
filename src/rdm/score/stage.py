"""`rdm score RUN...`: every sample set of a run, in every way in which the parameter file scores its data set."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rdm import paths
from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.params import FLOOR, Experiment
from rdm.params.dependencies import make_extractor, of_extractor, of_published_score, of_score, of_scoring
from rdm.params.evaluation import Classifier
from rdm.params.schema import VideosData
from rdm.parts import Part
from rdm.provenance.files import write_json
from rdm.provenance.manifest import Input, Recipe, noted, read
from rdm.randomness import generator, proportional
from rdm.runtime import prepare
from rdm.sample import store
from rdm.sample.dealing import deal_items
from rdm.score import parts
from rdm.score.evaluate import Estimate, evaluate, remarks_on
from rdm.score.extractors import build_extractor
from rdm.score.features import Items, Layers, extract, layers_of, preparation
from rdm.score.inputs import check_admitted, describe, open_items
from rdm.score.pair import references_of
from rdm.score.reference import Reference, measure_items


@dataclass(frozen=True)
class InMemory:
    """Images as `features` wants them: uint8 (N, [T,] H, W, C), sliced as an array is, in this order."""

    images: Any
    order: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, [T,] H, W, C)."""
        return len(self.order), *self.images.shape[1:]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images start to stop."""
        batch: np.ndarray = self.images[self.order[start:stop]]
        return batch


class Scorer:
    """One score of an experiment: a reference, its features, and the protocol under which items are compared."""

    def __init__(self, experiment: Experiment, name: str) -> None:
        self.experiment, self.name = experiment, name
        self.parameters, self.protocol = experiment.score[name], experiment.protocols[name]
        parameters, judge = experiment.extractor(name), experiment.judge(name)
        self.device = prepare(experiment)
        if isinstance(parameters, Classifier):
            weights = paths.extractor(experiment.score[judge].data, judge)
            made = read(weights, make_extractor(judge), of_extractor(experiment, name)).as_input
        else:
            weights, made = Path(parameters.weights), None
        self.extractor = build_extractor(parameters.kind, weights, self.device, self.protocol.weights)
        self.real = data.load(experiment, self.parameters.data, self.protocol.reference)
        self.reference = self._reference()
        named = self.parameters.reference
        self.inputs = {
            "reference": Input(Path(named), self.reference.facts["sha256"]) if named else self.real.artefact.as_input,
            "extractor": made or Input(weights, self.extractor.digest),
        }

    def items(self, images: Any, order: np.ndarray) -> InMemory:
        """Images or clips in this order, as the protocol sees them: clips perhaps as their frames."""
        if self.protocol.frames == 1:
            return InMemory(images, order)
        frames = self.protocol.frames
        return InMemory(data.as_images(images), (order[:, None] * frames + np.arange(frames)).reshape(-1))

    def _reference(self) -> Reference:
        """Of the file that the parameters name, or of the data set's split."""
        name, protocol = self.parameters.protocol, self.protocol
        if self.parameters.reference is not None:
            [found] = references_of(Path(self.parameters.reference), {name: protocol}, self.extractor).values()
            return found
        if self.protocol.labels == "captions":  # the images whose captions the samples are drawn with
            return self.measured(np.sort(deal_items(self.protocol, self.real.labels)))
        return self.measured(self.chosen(np.arange(self.videos)))

    @property
    def videos(self) -> int:
        """How many videos the reference's split holds; an image counts as one."""
        return len(self.real.labels) // self.clips_per_video

    @property
    def clips_per_video(self) -> int:
        """How many neighbouring clips are of one video."""
        parameters = self.experiment.data[self.parameters.data]
        return parameters.clips_per_video if isinstance(parameters, VideosData) else 1

    def chosen(self, videos: np.ndarray) -> np.ndarray:
        """Of these videos those that the protocol takes for its reference, one clip of each: its index."""
        clips = self.protocol.clips
        if clips is not None:
            if clips.reference.videos == "random":
                videos = np.random.default_rng(clips.seed).permutation(videos)
            videos = videos[: clips.reference_videos]
        return videos * self.clips_per_video

    def measured(self, order: np.ndarray) -> Reference:
        """The moments of these items of the reference's split."""
        where = f"{paths.data(self.parameters.data)} ({self.protocol.reference})"
        facts = {"path": where, "sha256": self.real.artefact.digest}
        items = self.items(self.real.images, order)
        [found] = measure_items(items, [self.protocol], self.extractor, facts)
        return replace(found, facts=found.facts | {"items": len(order)})

    def count(self, items: Items) -> int:
        """How many of these items (of a protocol for frames: clips) are scored: the first ones."""
        return min(items.shape[0] // self.protocol.frames, self.protocol.samples)

    def features(self, items: Items, start: int, stop: int) -> Layers:
        """What the extractor makes of items (frames) start to stop."""
        wanted = layers_of([self.protocol])
        [layers] = extract(items, self.extractor, [self.protocol.pixels], wanted, start, stop, "samples")
        return layers

    def write_part(self, recipe: Recipe, items: Items, part: Part) -> Path:
        """Extract a part's features, which wait for the score of this recipe; returns their folder."""
        total, folder = self.count(items) * self.protocol.frames, paths.score_state(recipe.digest)
        start, stop = parts.bounds(total, part, self.extractor.batch)
        if start == stop:
            return folder
        prepared = preparation(self.protocol, "samples", self.extractor)
        layers = self.features(items, start, stop)
        parts.save(folder, layers, None, start, total, recipe.inputs["samples"].digest, prepared)
        return folder

    def score(
        self, layers: Layers, labels: np.ndarray | None, reference: Reference, rule: str | None = None
    ) -> tuple[dict[str, Estimate], list[str]]:
        """The protocol's metrics, and remarks on what was scored. rule: how labels were dealt; None: as it says."""
        protocol = self.protocol.model_copy(update={"labels": rule or self.protocol.labels})
        remarks = remarks_on(protocol, layers, labels)
        return evaluate(protocol, reference, layers, labels, self.device), remarks

    def write(
        self,
        target: Path,
        recipe: Recipe,
        items: Items,
        labels: np.ndarray | None,
        remarks: list[str],
        reference: Reference | None = None,
        rule: str | None = None,
        **facts: Any,
    ) -> Path:
        """Score, and write one file: the values, and everything they depend on; no times, so that it repeats itself.

        rule: as of `score`. Features that several jobs extracted are taken, and removed.
        """
        reference, count, waiting = reference or self.reference, self.count(items), paths.score_state(recipe.digest)
        with noted(target):
            if parts.is_parts(waiting):
                layers = parts.open_parts(waiting).layers()
            else:
                layers = self.features(items, 0, count * self.protocol.frames)
            labels = None if labels is None else labels[:count]
            estimates, more = self.score(layers, labels, reference, rule)
            content = {
                **describe(self.protocol, self.parameters.protocol, self.extractor, reference),
                "values": {metric: estimate.as_dict() for metric, estimate in estimates.items()},
                "samples": {"sha256": recipe.inputs["samples"].digest, "items": count, **facts},
                "remarks": remarks + more,
                "recipe": recipe.as_dict(),
                "sources": recipe.sources,
            }
            write_json(target, content)
        shutil.rmtree(waiting, ignore_errors=True)
        return target


def run(experiment: Experiment, names: list[str], part: Part | None = None) -> list[Path]:
    """Score the sample sets of runs, published sample sets, or floors; returns the score files.

    Of a part (of runs), only the features are extracted, and wait for the call without a part; returns their folders.
    """
    if part and (other := [name for name in names if name not in experiment.runs]):
        raise UsageError(f"--part: {other[0]!r} is no run; only runs are scored in parts.")
    jobs = [(score, name) for name in names for score in _scores_of(experiment, name)]
    written = []
    for score in dict.fromkeys(score for score, _ in jobs):
        scorer = Scorer(experiment, score)
        for name in [name for other, name in jobs if other == score]:
            if name in experiment.runs:
                written += _score_run(scorer, name, part)
            elif name.startswith(FLOOR):
                written.append(_score_floor(scorer))
            else:
                written.append(_score_published(scorer, name))
    return written


def _scores_of(experiment: Experiment, name: str) -> list[str]:
    """The scores in which something is scored. Raises UsageError for what is not there."""
    if name in experiment.runs:
        system, _ = experiment.runs[name]
        if not experiment.samplers_of(system):
            raise UsageError(f"No table or figure samples {name!r}, so there is nothing to score; add a row to tables.")
    return experiment.scored_in(name)


def _score_run(scorer: Scorer, name: str, part: Part | None) -> list[Path]:
    experiment = scorer.experiment
    system, seed = experiment.find_run(name)
    written = []
    for sampler in experiment.samplers_of(system):
        samples = store.load(experiment, name, sampler)
        inputs = {**scorer.inputs, "samples": samples.artefact.as_input}
        recipe = Recipe("score", of_score(experiment, name, sampler, scorer.name), inputs)
        path = paths.score(name, sampler, scorer.parameters.protocol)
        order = np.arange(len(samples.labels))
        items = scorer.items(samples.images, order)
        if part:
            written.append(scorer.write_part(recipe, items, part))
            continue
        facts = {"path": str(samples.artefact.folder), "nfe": samples.artefact.facts["nfe"], "seed": seed}
        rule, declared = experiment.label_rule(system, sampler), scorer.protocol.labels
        remarks = [f"labels were {rule}, as the system's own; the protocol says {declared}"] if rule != declared else []
        written.append(scorer.write(path, recipe, items, samples.labels, remarks, rule=rule, **facts))
    return written


def _score_published(scorer: Scorer, name: str) -> Path:
    experiment, protocol = scorer.experiment, scorer.protocol
    source = open_items(Path(experiment.find_samples(name).path), protocol.clips, "samples")
    where = f"published.{name}: {source.path}"
    count = source.shape[0] // protocol.frames
    remarks = check_admitted(where, count, source.labels, protocol, scorer.parameters.protocol)
    wanted = scorer.items(scorer.real.images, np.arange(1)).shape[1:]
    if source.shape[1:] != wanted:
        sizes = ("x".join(map(str, shape)) for shape in (source.shape[1:], wanted))
        raise UsageError("{}: items of {}, the reference's are {}; scale them first.".format(where, *sizes))
    inputs = {**scorer.inputs, "samples": Input(source.path, source.digest)}
    recipe = Recipe("score", of_published_score(experiment, name, scorer.name), inputs)
    path = paths.published_score(name, scorer.parameters.protocol)
    return scorer.write(path, recipe, source, source.labels, remarks, path=str(source.path))


def _score_floor(scorer: Scorer) -> Path:
    """Score real items against real items: what a perfect generator would get."""
    experiment, protocol = scorer.experiment, scorer.protocol
    real, order, reference = floor_items(scorer)
    path = paths.floor(scorer.parameters.data, scorer.parameters.protocol)
    inputs = {**scorer.inputs, "samples": real.artefact.as_input}
    recipe = Recipe("score", of_scoring(experiment, scorer.name), inputs)
    few = f"{len(order)} items, where the protocol scores {protocol.samples}: a little more bias"
    remarks = [few] if len(order) < protocol.samples else []
    if reference is not scorer.reference:
        remarks.append("no held-out split: one half of the training split's videos against the other")
    items, where = scorer.items(real.images, order), str(real.artefact.folder)
    return scorer.write(path, recipe, items, real.labels[order], remarks, reference, path=where)


def floor_items(scorer: Scorer) -> tuple[data.Dataset, np.ndarray, Reference]:
    """Real items, which of them are scored, and what they are compared with.

    Those of the other split, as many as the protocol scores, one clip of each video; if there is none, of one half of
    the only split's videos, against the other half. In random order: a data set may be stored class by class, and IS
    takes parts in file order.
    """
    experiment, dataset = scorer.experiment, scorer.parameters.data
    other = data.load(experiment, dataset, "train" if scorer.protocol.reference == "test" else "test")
    if len(other.labels):
        videos = len(other.labels) // scorer.clips_per_video
        order = torch.randperm(videos, generator=generator("floor")).numpy() * scorer.clips_per_video
        return other, order[proportional(other.labels[order], scorer.protocol.samples)], scorer.reference
    shuffled = torch.randperm(scorer.videos, generator=generator("floor")).numpy()
    half = scorer.videos // 2
    order = shuffled[:half] * scorer.clips_per_video
    reference = scorer.measured(scorer.chosen(np.sort(shuffled[half:])))
    return scorer.real, order[proportional(scorer.real.labels[order], scorer.protocol.samples)], reference
