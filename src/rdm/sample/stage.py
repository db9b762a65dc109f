"""`rdm sample`: the images of one run, as uint8 npz shards that the ADM evaluator reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from rdm import paths
from rdm.data import stage as data
from rdm.diffusion.sampling import draw_latents, network_calls
from rdm.latents import stage as latents
from rdm.latents.codec import LatentCodec
from rdm.params import Experiment
from rdm.params.dependencies import make_sample, of_sample
from rdm.params.schema import Baseline, Sampler
from rdm.progress import progress
from rdm.provenance.files import whole_file
from rdm.provenance.manifest import Recipe, build, is_current
from rdm.randomness import generator
from rdm.runtime import prepare
from rdm.train import stage as train

SHARD_BATCHES = 8  # network batches per file: a killed run loses at most one file


def run(experiment: Experiment, name: str, overwrite: bool = False) -> list[Path]:
    """Draw the images of run `name` with each sampler that the table asks for; returns their folders."""
    system, seed = experiment.find_run(name)
    device = prepare(experiment)
    trained = train.load(experiment, name, device)
    baseline = experiment.baseline(system)
    encoded = latents.read_manifest(experiment, baseline.latents)
    codec = latents.load_codec(experiment, baseline.latents, device)
    labels = deal_labels(experiment, trained.classes, seed)
    folders = []
    for sampler_name in experiment.samplers_of(system):
        inputs = {"train": trained.artefact.digest, "latents": encoded.digest}
        recipe = Recipe("sample", of_sample(experiment, name, sampler_name), inputs)
        folder = paths.sample(name, sampler_name)
        folders.append(folder)
        if is_current(folder, recipe, make_sample(name), overwrite):
            continue
        sampler = experiment.sample[sampler_name]
        shards = paths.sample_state(name, sampler_name, recipe.digest)
        with build(folder, recipe) as (scratch, facts):
            _draw(shards, trained, codec, baseline, sampler, labels, seed, device)
            for shard in sorted(shards.glob("*.npz")):
                shutil.copy(shard, scratch)
            facts |= {"seed": seed, "samples": len(labels), "nfe": network_calls(sampler), "device": device.type}
        shutil.rmtree(shards)
    return folders


def deal_labels(experiment: Experiment, classes: int, seed: int) -> np.ndarray:
    """The label of every sample, int64 (N,); each is a function of its index (and, if random, of the seed).

    reference: the reference split's own labels, over and over: its exact class proportions, and no sorting by class.
    balanced: 0, 1, ..., classes - 1, over and over. random: uniform.
    """
    protocol = experiment.protocol
    indices = np.arange(protocol.samples)
    if protocol.labels == "reference":
        reference = data.load(experiment, experiment.score.data, protocol.reference).labels
        return reference[indices % len(reference)]
    if protocol.labels == "balanced":
        return indices % classes
    return torch.randint(classes, (protocol.samples,), generator=generator(seed, "labels")).numpy()


def _draw(
    folder: Path,
    trained: train.TrainedRun,
    codec: LatentCodec,
    baseline: Baseline,
    sampler: Sampler,
    labels: np.ndarray,
    seed: int,
    device: torch.device,
) -> None:
    """Fill `folder` with shards; those that an interrupted run left are kept.

    The network always sees whole batches (the last is filled up), at the same indices: an image depends on its index
    alone, to the last bit, whatever else is drawn with it.
    """
    per_shard = sampler.batch * SHARD_BATCHES
    with progress(f"sample {folder.parent.name}", len(labels)) as bar:
        for number, first in enumerate(range(0, len(labels), per_shard)):
            last = min(first + per_shard, len(labels))
            path = folder / f"{number:05d}.npz"
            if not path.exists():
                images = [
                    draw_batch(trained, codec, baseline, sampler, labels, start, seed, device)
                    for start in range(first, last, sampler.batch)
                ]
                with whole_file(path) as temporary, temporary.open("wb") as stream:
                    shard = {"arr_0": np.concatenate(images), "arr_1": labels[first:last]}
                    np.savez(stream, **shard, index=np.arange(first, last), allow_pickle=False)
            bar.update(last - first)


def draw_batch(
    trained: train.TrainedRun,
    codec: LatentCodec,
    baseline: Baseline,
    sampler: Sampler,
    labels: np.ndarray,
    start: int,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Images `start` to `start + sampler.batch` (or the last), uint8 (n, H, W, C)."""
    indices = np.arange(start, start + sampler.batch)
    wanted = min(sampler.batch, len(labels) - start)
    drawn = draw_latents(
        trained.network,
        baseline.diffusion,
        sampler,
        trained.latent_shape,
        torch.from_numpy(labels[indices % len(labels)]).to(device),
        trained.classes,
        [(seed, int(index)) for index in indices],
    )
    return codec.decode(drawn)[:wanted]
