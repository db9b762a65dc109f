"""`rdm plan`: jobs, GPU-hours, disk and memory of an experiment, stage by stage, and what was measured so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rdm.errors import UsageError, nearest
from rdm.params import Experiment, schema
from rdm.params.autoencoder import Autoencoder, Pixels
from rdm.params.captions import CocoData
from rdm.params.evaluation import Classifier
from rdm.params.performance import Precision
from rdm.params.protocol import Protocol
from rdm.params.sampler import Sampler
from rdm.params.schema import channels
from rdm.plan.counted import AutoencoderCost, Cost, NetworkCost, of_autoencoder, of_classifier, of_network
from rdm.plan.finished import seconds_of
from rdm.plan.text import of_text
from rdm.provenance import graph
from rdm.provenance.graph import Job

GIGA = 1e9


@dataclass(frozen=True)
class Gpu:
    """memory: bytes. peaks: FLOP/s without sparsity. From NVIDIA's data sheets."""

    memory: float
    peaks: Mapping[Precision, float]


HOPPER: Mapping[Precision, float] = {"float32": 66.9e12, "tf32": 494.7e12, "bfloat16": 989.4e12}
GPUS = {
    "a100": Gpu(80 * GIGA, {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}),
    "h100": Gpu(80 * GIGA, HOPPER),
    "h200": Gpu(141 * GIGA, HOPPER),
}
COPIES = 5  # of the weights in training: themselves, gradients, Adam's two moments, EMA
# images or videos for training, and held out: by source, by year, by the folder that params/paper.yaml names
IMAGES = {"digits": (1437, 360), "fashion": (60_000, 10_000), "journeydb": (4_189_737, 234_156)}
COCO = {2014: (82_783, 40_504), 2017: (118_287, 5_000)}
FOLDERS = {
    "data/imagenet": (1_281_167, 50_000),
    "data/UCF-101": (13_320, 0),
    "data/sky_timelapse/sky_train": (2_500, 0),  # about
    "data/taichi-hd/frames/train": (3_049, 0),
}
ENCODED = 100  # images or frames that `rdm latents` gives an autoencoder at a time
SHARD = 8192  # and whose latents stay on a GPU until a file is full
# FLOPs of one item: Inception at 299 pixels (11.4 GFLOP); I3D on 16 frames of 224 (107.9 GMAC for 64 frames)
EXTRACTORS = {"inception": 11.4e9, "i3d": 54e9}


@dataclass(frozen=True)
class Work:
    """What a job costs. memory: bytes on each of the fewest GPUs that hold it, and how many those are."""

    flops: Sequence[tuple[Precision, float]] = ()
    disk: float = 0
    memory: float = 0
    gpus: int = 1


class Plan:
    """The jobs of an experiment. items: how many training images or videos a data set has, where nothing else says."""

    def __init__(self, experiment: Experiment, items: Mapping[str, int], capacity: float) -> None:
        if unknown := items.keys() - experiment.data.keys():
            name = min(unknown)
            raise UsageError(f"--items {name}: there is no such data set; {nearest(name, experiment.data)}")
        self.experiment, self.given, self.capacity = experiment, items, capacity

    def jobs(self) -> list[tuple[Job, Work]]:
        """All that the tables and figures need, as Snakemake would run them, each of which it may cut into parts."""
        works: dict[str, Callable[[Job], Work]] = {
            "data": self._data,
            "autoencoder": self._autoencoder,
            "latents": self._latents,
            "train": self._train,
            "sample": self._sample,
            "score": self._score,
        }
        jobs = graph.jobs(self.experiment, graph.targets(self.experiment))
        return [(job, works[job.verb](job) if job.verb in works else Work()) for job in jobs]

    def items(self, dataset: str) -> int:
        """Training images or clips of a data set. Raises UsageError where nothing says how many there are."""
        return self._splits(dataset)[0]

    def _splits(self, dataset: str) -> tuple[int, int]:
        """Images or clips for training, and held out."""
        data, clips = self.experiment.data[dataset], 1
        if isinstance(data, schema.MovingDigitsData):
            known: tuple[int, int] | None = data.clips, data.test_clips
        elif isinstance(data, CocoData):
            known = COCO[data.year]
        elif isinstance(data, schema.FolderData):
            known = FOLDERS.get(data.folder)
        elif isinstance(data, schema.VideosData):
            known, clips = FOLDERS.get(data.train), data.clips_per_video
        else:
            known = IMAGES.get(data.source)
        if known is None and dataset not in self.given:
            raise UsageError(
                f"How many items {dataset!r} has is not known before it is read; say it: --items {dataset}=N."
            )
        train, held_out = known or (0, 0)
        return self.given.get(dataset, train) * clips, held_out * clips

    @cached_property
    def _frames(self) -> dict[str, int]:
        return {name: getattr(data, "frames", 1) for name, data in self.experiment.data.items()}

    def _pixels(self, dataset: str) -> int:
        """Bytes of one item."""
        data = self.experiment.data[dataset]
        return self._frames[dataset] * data.image_size**2 * channels(data)

    def _data(self, job: Job) -> Work:
        [dataset] = job.names
        data, each = self.experiment.data[dataset], self._pixels(dataset)
        if isinstance(data, schema.MovingDigitsData):
            return Work()
        return Work(disk=sum(self._splits(dataset)) * (schema.INDEXED if schema.files_of(data) else each))

    def _autoencoder(self, job: Job) -> Work:
        parameters = self.experiment.autoencoder(job.names[0])
        cost = self.codec_cost(job.names[0])
        if not isinstance(parameters, Autoencoder):
            return Work(disk=4 * cost.parameters)
        flops = cost.training_flops() * parameters.batch * parameters.steps
        memory = self._fit(4 * COPIES * cost.parameters, cost.kept_bytes, parameters.batch)
        return Work([("float32", flops)], 4 * cost.parameters, *memory)

    def _latents(self, job: Job) -> Work:
        [name] = job.names
        if isinstance(self.experiment.autoencoder(name), Pixels):
            return Work()  # they are those of the data set
        dataset = self.experiment.latents[name].data
        cost = self.codec_cost(name)
        images = self.items(dataset) * self._frames[dataset]
        numbers = images * math.prod(self._shape(name)[-3:])
        copies = 2 if self.experiment.is_mirrored(name) else 1
        # means and deviations in two bytes each, or latents in four
        flops = [(self.experiment.performance.autoencoder, cost.encoder_flops * images * copies)]
        disk = 4 * numbers * copies
        memory = 4 * cost.parameters + min(ENCODED, images) * cost.encoder_live_bytes
        return Work(flops, disk, memory + disk / max(images / SHARD, 1))

    def codec_cost(self, name: str) -> AutoencoderCost:
        """An entry's autoencoder on an image of its data set."""
        data = self.experiment.data[self.experiment.latents[name].data]
        return of_autoencoder(self.experiment.autoencoder(name), channels(data), data.image_size)

    def _shape(self, name: str) -> list[int]:
        """Of one item's latents."""
        dataset = self.experiment.latents[name].data
        size = self.experiment.data[dataset].image_size // self.experiment.autoencoder(name).factor
        frames = self._frames[dataset]
        return [*([frames] if frames > 1 else []), self.experiment.latent_channels(name), size, size]

    def cost_of(self, system: str) -> NetworkCost:
        """A system's network on one item."""
        return of_network(self.experiment.baseline(system).network, self.shape_of(system), self.classes_of(system))

    def shape_of(self, system: str) -> list[int]:
        """Of one item that a system's network takes."""
        baseline = self.experiment.baseline(system)
        shape = self._shape(baseline.latents)
        return shape if isinstance(baseline.network, schema.Latte) else shape[-3:]

    def classes_of(self, system: str) -> int:
        """Labels of a system's data set; before photographs or videos are read, ImageNet's and UCF-101's."""
        data = self.experiment.data[self.experiment.data_of(system)]
        return {"folder": 1000, "videos": 101}.get(data.source, 10) if getattr(data, "labelled", True) else 0

    def _fit(self, state: float, kept: float, batch: int) -> tuple[float, int]:
        """Bytes on each of the fewest GPUs that hold a training with its batch, and how many those are.

        state: bytes that each holds. kept: of one item.
        """
        for gpus in (n for n in range(1, batch + 1) if batch % n == 0):
            memory = state + kept * batch / gpus
            if memory <= self.capacity:
                return memory, gpus
        return state + kept, batch

    def _train(self, job: Job) -> Work:
        system, _ = self.experiment.find_run(job.names[0])
        entry, cost = self.experiment.systems[system], self.cost_of(system)
        if isinstance(entry, schema.PublishedBaseline):
            return Work(disk=4 * cost.parameters)
        precision = self.experiment.performance.train
        text = of_text(self.experiment.baseline(system).network)
        flops = (cost.training_flops(entry.checkpointing) + text.flops) * entry.batch * entry.steps
        # autocast keeps the weights in bfloat16, too
        cast = 2 if precision == "bfloat16" else 0
        state = (4 * COPIES + cast) * cost.parameters + (4 + cast) * text.parameters
        memory = self._fit(state, cost.kept(precision, entry.checkpointing), entry.batch)
        return Work([(precision, flops)], 4 * cost.parameters * (1 + len(entry.snapshots)), *memory)

    def _sample(self, job: Job) -> Work:
        experiment, (system, _) = self.experiment, self.experiment.find_run(job.names[0])
        dataset, cost = experiment.data_of(system), self.cost_of(system)
        text = of_text(experiment.baseline(system).network)
        samples = experiment.dealing(dataset).samples
        decoder = self.codec_cost(experiment.baseline(system).latents).decoder_flops
        samplers = [experiment.samplers[name] for name in experiment.samplers_of(system)]
        calls = sum(sampler.network_calls for sampler in samplers)
        # read once for all steps, with guidance the empty one, too
        captions = sum(1 if sampler.guidance == 1 else 2 for sampler in samplers)
        guides = sum(self._guide(system, sampler) for sampler in samplers)
        flops = [
            (experiment.performance.sample, samples * (calls * cost.forward_flops + guides + captions * text.flops)),
            (experiment.performance.autoencoder, samples * len(samplers) * self._frames[dataset] * decoder),
        ]
        memory = max(self._held(system, sampler) for sampler in samplers)
        return Work(flops, len(samplers) * samples * self._pixels(dataset), memory)

    def _held(self, system: str, sampler: Sampler) -> float:
        """Bytes that a sampler holds: weights, and the most that a batch needs of network, decoder or classifier."""
        baseline, cost = self.experiment.baseline(system), self.cost_of(system)
        decoder, text = self.codec_cost(baseline.latents), of_text(baseline.network)
        rows = sampler.batch * (1 if sampler.guidance == 1 else 2)
        decoded = sampler.batch * self._frames[self.experiment.data_of(system)]
        weights = cost.parameters + text.parameters + decoder.parameters
        needed = [rows * cost.live_bytes, decoded * decoder.decoder_live_bytes]
        if (guide := self._classifier(system, sampler)) is not None:
            weights += guide.parameters
            needed.append(sampler.batch * guide.kept_bytes)
        return 4 * weights + max(needed)

    def _classifier(self, system: str, sampler: Sampler) -> Cost | None:
        """What guides a sample, on one item."""
        if sampler.classifier is None:
            return None
        return of_classifier(sampler.classifier.network, self.shape_of(system), self.classes_of(system))

    def _guide(self, system: str, sampler: Sampler) -> int:
        """FLOPs of the classifier that guides a sample: at each step forward, and back to its input."""
        cost = self._classifier(system, sampler)
        return 0 if cost is None else 2 * (sampler.steps - sampler.unguided_steps) * cost.forward_flops

    def _score(self, job: Job) -> Work:
        flops = 0.0
        for name in self.experiment.scored_in(job.names[0]):
            score, protocol = self.experiment.score[name], self.experiment.protocols[name]
            files = [path for path in job.makes if path.stem == score.protocol]
            extractor = self.experiment.extractor(name)
            if not isinstance(extractor, Classifier):
                items = len(files) * protocol.samples + (0 if score.reference else self._compared(score.data, protocol))
                flops += items * protocol.frames * EXTRACTORS[extractor.kind]
        return Work([("float32", flops)])

    def _compared(self, dataset: str, protocol: Protocol) -> int:
        """Items of the reference, which every job measures anew where no file has its statistics."""
        if protocol.labels == "captions":
            return protocol.samples
        split = self._splits(dataset)[protocol.reference != "train"]
        return min(split, (protocol.clips and protocol.clips.reference_videos) or split)


def table(experiment: Experiment, items: Mapping[str, int], gpu: str, utilisation: float) -> list[dict[str, Any]]:
    """A row per stage, and one in all. utilisation: the share of the GPU's peak that is reached."""
    chosen = GPUS[gpu]
    speeds = {precision: peak * utilisation for precision, peak in chosen.peaks.items()}
    jobs = Plan(experiment, items, chosen.memory).jobs()
    stages = {verb: [(job, work) for job, work in jobs if job.verb == verb] for verb in (job.verb for job, _ in jobs)}
    return [_row(name, some, speeds) for name, some in {**stages, "in all": jobs}.items()]


def _row(name: str, jobs: list[tuple[Job, Work]], speeds: Mapping[Precision, float]) -> dict[str, Any]:
    done = [job for job, _ in jobs if all(Path(graph.declared(path)).is_file() for path in job.makes)]
    flops = [part for _, work in jobs for part in work.flops]
    return {
        "stage": name,
        "jobs": len(jobs),
        "exaFLOP": sum(count for _, count in flops) / 1e18,
        "GPU hours": sum(count / speeds[precision] for precision, count in flops) / 3600,
        "disk GB": sum(work.disk for _, work in jobs) / GIGA,
        "GB on a GPU": max(work.memory for _, work in jobs) / GIGA,
        "GPUs a job": max(work.gpus for _, work in jobs),
        "done": len(done),
        "hours so far": sum(seconds_of(path) for job in done for path in job.makes) / 3600,
    }
