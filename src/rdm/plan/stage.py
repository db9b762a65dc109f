"""`rdm plan`: jobs, GPU-hours, disk and memory of an experiment, stage by stage, and what was measured so far."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rdm import paths
from rdm.diffusion.sampling import network_calls
from rdm.errors import UsageError, nearest
from rdm.params import Experiment, schema
from rdm.params.evaluation import Classifier
from rdm.plan.cost import Cost, of_autoencoder, of_network

GIGA = 1e9
# float32 without TF32, as rdm computes: teraFLOP/s and gigabytes, from NVIDIA's data sheets
GPUS = {"a100": (19.5e12, 80 * GIGA), "h100": (66.9e12, 80 * GIGA), "h200": (66.9e12, 141 * GIGA)}
COPIES = 5  # of the weights in training: themselves, gradients, Adam's two moments, EMA
IMAGES = {"digits": 1437, "fashion": 60_000}
CHANNELS = {"digits": 1, "fashion": 1, "moving_digits": 1}  # of other sources 3
# FLOPs of one item: Inception at 299 pixels (11.4 GFLOP); I3D on 16 frames of 224 (107.9 GMAC for 64 frames)
EXTRACTORS = {"inception": 11.4e9, "i3d": 54e9}


@dataclass(frozen=True)
class Work:
    """One job. path: where its result will lie. memory: bytes on a GPU, of the smallest number of GPUs that hold it."""

    stage: str
    path: Path
    flops: float
    disk: float
    memory: float = 0
    gpus: int = 1


class Plan:
    """The jobs of an experiment. items: how many training items a data set has, where its source does not say."""

    def __init__(self, experiment: Experiment, items: Mapping[str, int], capacity: float) -> None:
        if unknown := items.keys() - experiment.data.keys():
            name = min(unknown)
            raise UsageError(f"--items {name}: there is no such data set; {nearest(name, experiment.data)}")
        self.experiment, self.given, self.capacity = experiment, items, capacity
        self._costs: dict[str, Cost] = {}

    def jobs(self) -> Iterator[Work]:
        """All of them, in the order of the stages."""
        systems = list(self.systems)
        names = list(dict.fromkeys(self.experiment.baseline(system).latents for system in systems))
        sets = list(dict.fromkeys(self.experiment.latents[name].data for name in names))
        yield from (self._data(name) for name in sets)
        yield from (job for name in names for job in self._latents(name))
        yield from (self._train(system, seed) for system in systems for seed in self.experiment.seeds_of(system))
        for system in systems:
            for seed in self.experiment.seeds_of(system):
                yield from self._sample_and_score(system, seed)

    @property
    def systems(self) -> Iterable[str]:
        """Those that tables and figures show, and what they start from."""
        experiment, wanted = self.experiment, dict[str, None]()
        pending = [s for table in ("table1", "table2") for s in experiment.shown_systems(table)]
        pending += [s for figure in ("figure5", *experiment.curves) for s in experiment.figure_systems(figure)]
        while pending:
            system = pending.pop(0)
            start = experiment.systems[system].start
            pending += [start] if start else []
            wanted[system] = None
        return sorted(wanted, key=list(experiment.systems).index)

    def items(self, dataset: str) -> int:
        """Training items of a data set. Raises UsageError where nothing says how many there are."""
        data = self.experiment.data[dataset]
        if dataset in self.given:
            return self.given[dataset]
        if isinstance(data, schema.MovingDigitsData):
            return data.clips
        if data.source in IMAGES:
            return IMAGES[data.source]
        raise UsageError(f"How many items {dataset!r} has is not known before it is read; say it: --items {dataset}=N.")

    @cached_property
    def _frames(self) -> dict[str, int]:
        return {name: getattr(data, "frames", 1) for name, data in self.experiment.data.items()}

    def _pixels(self, dataset: str) -> int:
        """Bytes of one item."""
        data = self.experiment.data[dataset]
        return self._frames[dataset] * data.image_size**2 * CHANNELS.get(data.source, 3)

    def _data(self, dataset: str) -> Work:
        stored = 0 if isinstance(self.experiment.data[dataset], schema.MovingDigitsData) else self.items(dataset)
        return Work("data", paths.data(dataset), 0, stored * self._pixels(dataset))

    def _latents(self, name: str) -> Iterator[Work]:
        autoencoder = self.experiment.latents[name]
        dataset = autoencoder.data
        data = self.experiment.data[dataset]
        cost, encoder, _ = of_autoencoder(autoencoder, CHANNELS.get(data.source, 3), data.image_size)
        images = self.items(dataset) * self._frames[dataset]
        memory, gpus = self._fit(cost, autoencoder.batch)
        flops = cost.training_flops * autoencoder.batch * autoencoder.steps
        weights = 4 * cost.parameters
        yield Work("autoencoder", paths.autoencoder(dataset, name), flops, weights, memory, gpus)
        stored = 4 * images * math.prod(self._shape(name)[-3:])
        yield Work("latents", paths.latents(dataset, name), encoder * images, stored, weights)

    def _shape(self, name: str) -> list[int]:
        """Of one item's latents."""
        autoencoder = self.experiment.latents[name]
        size = self.experiment.data[autoencoder.data].image_size // 2 ** (len(autoencoder.block_channels) - 1)
        frames = self._frames[autoencoder.data]
        return [*([frames] if frames > 1 else []), autoencoder.latent_channels, size, size]

    def _cost(self, system: str) -> Cost:
        baseline = self.experiment.baseline(system)
        shape = self._shape(baseline.latents)
        if not isinstance(baseline.network, schema.Latte):
            shape = shape[-3:]
        key = f"{baseline.network!r} {shape}"
        if key not in self._costs:
            self._costs[key] = of_network(baseline.network, shape, 1000)
        return self._costs[key]

    def _fit(self, cost: Cost, batch: int) -> tuple[float, int]:
        """Bytes on each of the fewest GPUs that hold a training with its batch, and how many those are."""
        state = 4 * COPIES * cost.parameters
        for gpus in (n for n in range(1, batch + 1) if batch % n == 0):
            memory = state + cost.kept_bytes * batch / gpus
            if memory <= self.capacity:
                return memory, gpus
        return state + cost.kept_bytes, batch

    def _train(self, system: str, seed: int) -> Work:
        entry, cost = self.experiment.systems[system], self._cost(system)
        memory, gpus = self._fit(cost, entry.batch)
        flops = cost.training_flops * entry.batch * entry.steps
        disk = 4 * cost.parameters * (1 + len(entry.snapshots))
        return Work("train", paths.train(paths.run_name(self.experiment.name, system, seed)), flops, disk, memory, gpus)

    def _sample_and_score(self, system: str, seed: int) -> Iterator[Work]:
        experiment, cost = self.experiment, self._cost(system)
        run, name = paths.run_name(experiment.name, system, seed), experiment.baseline(system).latents
        dataset = experiment.latents[name].data
        data = experiment.data[dataset]
        for sampler_name in experiment.samplers_of(system):
            sampler, samples = experiment.samplers[sampler_name], experiment.dealing(dataset).samples
            _, _, decoder = of_autoencoder(experiment.latents[name], CHANNELS.get(data.source, 3), data.image_size)
            flops = samples * (network_calls(sampler) * cost.forward_flops + self._frames[dataset] * decoder)
            folder = paths.sample(run, sampler_name)
            yield Work("sample", folder, flops, samples * self._pixels(dataset), 4 * cost.parameters)
            for score in experiment.scores_of(dataset):
                kind = experiment.score[score].extractor
                per_item = 0 if isinstance(kind, Classifier) else EXTRACTORS[kind.kind]
                path = paths.score(run, sampler_name, experiment.score[score].protocol)
                yield Work("score", path, samples * per_item, 0)


def table(experiment: Experiment, items: Mapping[str, int], gpu: str, utilisation: float) -> list[dict[str, Any]]:
    """A row per stage, and one in all. utilisation: the share of the GPU's peak that is reached."""
    peak, capacity = GPUS[gpu]
    jobs = list(Plan(experiment, items, capacity).jobs())
    stages = {job.stage: [other for other in jobs if other.stage == job.stage] for job in jobs}
    return [_row(name, some, peak * utilisation) for name, some in {**stages, "in all": jobs}.items()]


def _row(name: str, jobs: list[Work], speed: float) -> dict[str, Any]:
    seconds = [found for job in jobs if (found := _measured(job.path)) is not None]
    return {
        "stage": name,
        "jobs": len(jobs),
        "exaFLOP": sum(job.flops for job in jobs) / 1e18,
        "GPU hours": sum(job.flops for job in jobs) / speed / 3600,
        "disk GB": sum(job.disk for job in jobs) / GIGA,
        "GB on a GPU": max(job.memory for job in jobs) / GIGA,
        "GPUs a job": max(job.gpus for job in jobs),
        "done": len(seconds),
        "hours so far": sum(seconds) / 3600,
    }


def _measured(path: Path) -> float | None:
    """Seconds that a finished artefact took, None if it is not there."""
    try:
        manifest = json.loads((path / paths.MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return 0.0 if path.is_file() else None
    return float(manifest["seconds"])
