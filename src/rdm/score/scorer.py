"""One score of an experiment: its reference, its extractor, and the file that it writes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rdm import paths
from rdm.data import stage as data
from rdm.params import Experiment
from rdm.params.dependencies import make_extractor, of_extractor
from rdm.params.evaluation import Classifier
from rdm.params.schema import VideosData
from rdm.parts import Part
from rdm.provenance.files import write_json
from rdm.provenance.manifest import Input, Recipe, noted, read
from rdm.runtime import prepare
from rdm.sample.dealing import deal_items
from rdm.score import parts
from rdm.score.evaluate import Estimate, evaluate, evaluate_alone, remarks_on
from rdm.score.extractors import build_extractor
from rdm.score.features import Items, Layers, extract, layers_of, preparation
from rdm.score.inputs import describe
from rdm.score.pair import digest_of, references_of
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
        named, real = self.parameters.reference, self.real.artefact
        self.inputs = {
            "reference": Input(Path(named), digest_of(Path(named), self.protocol.clips)) if named else real.as_input,
            "extractor": made or Input(weights, self.extractor.digest),
        }

    def items(self, images: Any, order: np.ndarray) -> InMemory:
        """Images or clips in this order, as the protocol sees them: clips perhaps as their frames."""
        if self.protocol.frames == 1:
            return InMemory(images, order)
        frames = self.protocol.frames
        return InMemory(data.as_images(images), (order[:, None] * frames + np.arange(frames)).reshape(-1))

    @cached_property
    def reference(self) -> Reference:
        """Of the file that the parameters name, or of the data set's split. Parts of samples do not need it."""
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
        shape, digest = (total, *items.shape[1:]), recipe.inputs["samples"].digest
        start, stop = parts.bounds(total, part, self.extractor.batch)
        if start == stop:
            return folder
        prepared = preparation(self.protocol, "samples", self.extractor)
        layers = self.features(items, start, stop)
        parts.save(folder, layers, None, start, shape, digest, prepared)
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
        unseen: np.ndarray | None = None,
        **facts: Any,
    ) -> Path:
        """Score, and write one file: the values, and everything they depend on; no times, so that it repeats itself.

        rule: as of `score`. unseen: which items of the reference's split the metrics are of that need no reference;
        None: of the same items as the others. Features that several jobs extracted are taken, and removed.
        """
        reference, count, waiting = reference or self.reference, self.count(items), paths.score_state(recipe.digest)
        with noted(target):
            if parts.is_parts(waiting):
                layers = parts.open_parts(waiting).layers()
            else:
                layers = self.features(items, 0, count * self.protocol.frames)
            labels = None if labels is None else labels[:count]
            estimates, more = self.score(layers, labels, reference, rule)
            if unseen is not None:
                estimates |= self._alone(unseen)
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

    def _alone(self, order: np.ndarray) -> dict[str, Estimate]:
        """The metrics that need no reference, of these items of the reference's split."""
        layers = self.features(self.items(self.real.images, order), 0, len(order) * self.protocol.frames)
        return evaluate_alone(self.protocol, layers, self.real.labels[order])
