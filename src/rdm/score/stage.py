"""`rdm score RUN...`: every sample set of a run, in every way in which the parameter file scores its data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rdm import paths
from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.params import FLOOR, Experiment
from rdm.params.dependencies import of_published_score, of_score, of_scoring
from rdm.parts import Part
from rdm.provenance.manifest import Input, Recipe
from rdm.randomness import generator, proportional
from rdm.sample import store
from rdm.score.inputs import check_admitted, open_items
from rdm.score.pair import of_labels
from rdm.score.reference import Reference
from rdm.score.scorer import Scorer


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
            raise UsageError(
                f"No table or figure samples {name!r}, so there is nothing to score; name a run that one of them shows."
            )
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
    named = f"published.{name}: {source.path}"
    count = source.shape[0] // protocol.frames
    remarks = check_admitted(named, count, source.labels, protocol, scorer.parameters.protocol)
    wanted = scorer.items(scorer.real.images, np.arange(1)).shape[1:]
    if source.shape[1:] != wanted:
        sizes = ("x".join(map(str, shape)) for shape in (source.shape[1:], wanted))
        raise UsageError("{}: items of {}, the reference's are {}; scale them first.".format(named, *sizes))
    unlike = of_labels(protocol, source.labels, scorer.real.labels)
    inputs = {**scorer.inputs, "samples": Input(source.path, source.digest)}
    recipe = Recipe("score", of_published_score(experiment, name, scorer.name), inputs)
    path = paths.published_score(name, scorer.parameters.protocol)
    rule, where = "random" if unlike else None, str(source.path)
    return scorer.write(path, recipe, source, source.labels, remarks + unlike, rule=rule, path=where)


def _score_floor(scorer: Scorer) -> Path:
    """Score real items against real items: what a perfect generator would get."""
    experiment, protocol = scorer.experiment, scorer.protocol
    real, order, reference = floor_items(scorer)
    path = paths.floor(scorer.parameters.data, scorer.parameters.protocol)
    inputs = {**scorer.inputs, "samples": real.artefact.as_input}
    recipe = Recipe("score", of_scoring(experiment, scorer.name), inputs)
    remarks, unseen = [], None
    if len(order) < protocol.samples:
        times = f"{protocol.samples / len(order):.2g} times"
        remarks.append(f"{len(order)} items, where the protocol scores {protocol.samples}: {times} their bias")
    if reference is not scorer.reference:
        remarks.append("no held-out split: one half of the training split's videos against the other")
    elif protocol.extractor == "classifier" and protocol.reference == "test":
        unseen = unseen_items(scorer)
        remarks.append(
            f"what needs no reference is of {len(unseen)} of its items: on the others the classifier learned"
        )
    items, where = scorer.items(real.images, order), str(real.artefact.folder)
    return scorer.write(path, recipe, items, real.labels[order], remarks, reference, unseen=unseen, path=where)


def unseen_items(scorer: Scorer) -> np.ndarray:
    """Items of the held-out split, as many as the protocol scores, one clip of each video, in random order."""
    order = scorer.chosen(torch.randperm(scorer.videos, generator=generator("floor", "unseen")).numpy())
    chosen: np.ndarray = order[proportional(scorer.real.labels[order], scorer.protocol.samples)]
    return chosen


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
