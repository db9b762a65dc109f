"""`rdm latents`: encode a data set's training images, or the frames of its clips, into a few large shards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from rdm import paths
from rdm.data import stage as data
from rdm.latents.codec import LatentCodec
from rdm.params import Experiment
from rdm.params.autoencoder import PublishedAutoencoder
from rdm.params.dependencies import make_autoencoder, make_latents, of_autoencoder, of_latents
from rdm.params.performance import Performance
from rdm.performance import compile_blocks, lay_out
from rdm.progress import progress
from rdm.provenance.manifest import Artefact, Recipe, build, check_input, is_current, read
from rdm.runtime import prepare

SHARD = 8192  # images or frames per file: large enough to read fast, small enough to hash and move
BATCH = 100  # images or frames per call


@dataclass(frozen=True)
class Latents:
    """Encoded training images or clips. latents: normalised (N, [T,] C, h, w), float32. labels: int64 (N,).

    spread: of a KL autoencoder the latents' standard deviation around `latents`, which are their means; both float16.
    """

    latents: Tensor
    spread: Tensor | None
    labels: Tensor
    classes: int
    artefact: Artefact


def run(experiment: Experiment, name: str, overwrite: bool = False) -> Path:
    """Encode with the autoencoder `name`; returns the folder.

    The shards hold the latents in the autoencoder's own units. What they are normalised by when they are read stands in
    the manifest: their mean and standard deviation per channel, over all items; of a published autoencoder its scale.
    """
    parameters = experiment.latents[name]
    dataset = parameters.data
    images = data.load(experiment, dataset, "train")
    autoencoder = _read_autoencoder(experiment, name)
    folder = paths.latents(dataset, name)
    inputs = {"data": images.artefact.as_input, "autoencoder": autoencoder.as_input}
    recipe = Recipe("latents", of_latents(experiment, name), inputs)
    if is_current(folder, recipe, make_latents(name), overwrite):
        return folder
    device = prepare(experiment)
    codec = _codec(autoencoder, [0.0], [1.0], device, experiment.performance)
    with build(folder, recipe) as (scratch, facts):
        mirror = isinstance(parameters, PublishedAutoencoder) and parameters.mirror
        shape, mean, std = _write_shards(codec, images, mirror, scratch)
        if isinstance(parameters, PublishedAutoencoder):
            mean, std = torch.zeros_like(mean), torch.full_like(std, 1 / parameters.scale)
        facts |= {
            "kind": "pre-quantised" if parameters.codebook_size else "moments",
            "items": len(images.labels) * (2 if mirror else 1),
            "classes": len(images.classes),
            "shape": [*shape[:-3], parameters.latent_channels, *shape[-2:]],
            "mean": mean[: parameters.latent_channels].tolist(),
            "std": std[: parameters.latent_channels].tolist(),
            "data": {key: images.artefact.facts[key] for key in ("origin", "licence")},
        }
    return folder


def _write_shards(
    codec: LatentCodec, images: data.Dataset, mirror: bool, folder: Path
) -> tuple[list[int], Tensor, Tensor]:
    """Encode everything; returns the shape of one item, and mean and standard deviation per channel in float64.

    mirror: mirrored items stand in the same shard, behind the others. A KL autoencoder's moments are kept in float16.
    """
    moments = isinstance(codec.autoencoder, AutoencoderKL)
    shape, pixels, total, squares = [0], 0, torch.zeros(()), torch.zeros(())
    frames = images.images.shape[1] if len(images.images.shape) == 5 else 1
    in_shard, in_batch = max(SHARD // frames, 1), max(BATCH // frames, 1)
    with progress("latents", len(images.labels)) as bar:
        for number, first in enumerate(range(0, len(images.labels), in_shard)):
            last = min(first + in_shard, len(images.labels))
            encoded, mirrored = [], list[Tensor]()
            for start in range(first, last, in_batch):
                stop = min(start + in_batch, last)
                encoded.append(codec.encode_raw(images.images[start:stop]).cpu())
                if mirror:
                    mirrored.append(codec.encode_raw(images.images[start:stop][..., ::-1, :]).cpu())
                bar.update(stop - start)
            latents = torch.cat(encoded + mirrored)
            latents = latents.half() if moments else latents
            labels = torch.from_numpy(images.labels[first:last]).repeat(2 if mirror else 1)
            save_file({"latents": latents, "labels": labels}, folder / f"{number:05d}.safetensors")
            shape = list(latents.shape[1:])
            others = [axis for axis in range(latents.ndim) if axis != latents.ndim - 3]
            pixels += latents.numel() // latents.shape[-3]
            total = total + latents.double().sum(others)
            squares = squares + latents.double().square().sum(others)
    mean = total / pixels
    return shape, mean, (squares / pixels - mean.square()).sqrt()


def read_manifest(experiment: Experiment, name: str) -> Artefact:
    """The latents' manifest, verified."""
    return read(paths.latents(experiment.latents[name].data, name), make_latents(name), of_latents(experiment, name))


def load(experiment: Experiment, name: str) -> Latents:
    """All latents of a data set, normalised, in memory."""
    artefact = read_manifest(experiment, name)
    shards = [load_file(path) for path in sorted(artefact.folder.glob("*.safetensors"))]
    mean, std, channels = _column(artefact.facts["mean"]), _column(artefact.facts["std"]), artefact.facts["shape"][-3]
    latents = torch.cat([shard["latents"] for shard in shards])
    labels = torch.cat([shard["labels"] for shard in shards])
    centre, spread = latents[..., :channels, :, :], None
    if artefact.facts["kind"] == "moments":
        spread = (latents[..., channels:, :, :] / std).half()
    normalised = ((centre - mean) / std).to(latents.dtype)
    return Latents(normalised, spread, labels, artefact.facts["classes"], artefact)


def load_codec(experiment: Experiment, name: str, device: torch.device) -> LatentCodec:
    """The autoencoder together with the statistics of its latents."""
    encoded, autoencoder = read_manifest(experiment, name), _read_autoencoder(experiment, name)
    check_input(encoded, autoencoder, "autoencoder", make_latents(name))
    return _codec(autoencoder, encoded.facts["mean"], encoded.facts["std"], device, experiment.performance)


def _read_autoencoder(experiment: Experiment, name: str) -> Artefact:
    folder = paths.autoencoder(experiment.latents[name].data, name)
    return read(folder, make_autoencoder(name), of_autoencoder(experiment, name))


def _codec(
    autoencoder: Artefact, mean: list[float], std: list[float], device: torch.device, performance: Performance
) -> LatentCodec:
    config = json.loads((autoencoder.folder / "config.json").read_text(encoding="utf-8"))
    kind = VQModel if config["_class_name"] == "VQModel" else AutoencoderKL
    model = kind.from_pretrained(autoencoder.folder, local_files_only=True, low_cpu_mem_usage=False).to(device).eval()
    model = compile_blocks(lay_out(model, performance), performance)
    return LatentCodec(model, _column(mean).to(device), _column(std).to(device), performance.autoencoder)


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]
