"""`rdm latents`: encode a data set's training images, or the frames of its clips, into a few large shards."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor

from rdm import paths
from rdm.data import stage as data
from rdm.latents.codec import LatentCodec, NoAutoencoder, to_pixels
from rdm.latents.encoding import encode_shards, statistics
from rdm.latents.mapped import MappedLatents, open_shards
from rdm.params import Experiment
from rdm.params.autoencoder import Pixels, PublishedAutoencoder
from rdm.params.dependencies import make_autoencoder, make_latents, of_autoencoder, of_latents
from rdm.params.performance import Performance
from rdm.performance import compile_blocks, lay_out
from rdm.progress import is_first
from rdm.provenance.files import canonical_json, share_file
from rdm.provenance.manifest import Artefact, Recipe, build, check_input, is_current, read
from rdm.runtime import prepare


@dataclass(frozen=True)
class Latents:
    """Encoded training images or clips. latents: normalised (N, [T,] C, h, w), float32. labels: int64 (N,).

    items: int64 (N,), the number of each in the data set, twice where mirrored ones are learned, too.
    spread: of a KL autoencoder the latents' standard deviation around `latents`, which are their means; both float16.
    """

    latents: MappedLatents
    spread: MappedLatents | None
    labels: Tensor
    items: Tensor
    classes: int
    artefact: Artefact


def run(experiment: Experiment, name: str, overwrite: bool = False) -> Path:
    """Encode the data set of the entry `name`, alone or as one of several processes; returns the folder.

    Interrupted, it goes on at the next shard. The shards hold the latents in the autoencoder's own units. What they are
    normalised by when they are read stands in the manifest: their mean and standard deviation per channel, over all
    items; of a published autoencoder its scale. Of pixels there are no shards, since they are those of the data set,
    which data.json names. Of several processes the first writes the folder.
    """
    parameters, dataset = experiment.autoencoder(name), experiment.latents[name].data
    mirror = experiment.is_mirrored(name)
    images = data.load(experiment, dataset, "train")
    autoencoder = _read_autoencoder(experiment, name)
    folder = paths.latents(dataset, name)
    inputs = {"data": images.artefact.as_input, "autoencoder": autoencoder.as_input}
    recipe = Recipe("latents", of_latents(experiment, name), inputs)
    if is_current(folder, recipe, make_latents(name), overwrite):
        return folder
    if isinstance(parameters, Pixels):
        if is_first():
            with build(folder, recipe) as (scratch, facts):
                (scratch / "data.json").write_text(canonical_json({"sha256": images.artefact.digest}), encoding="utf-8")
                facts |= _facts_of_pixels(images, mirror)
        return folder
    device = prepare(experiment)
    codec = _codec(autoencoder, [0.0], [1.0], device, experiment.performance)
    state = paths.latents_state(dataset, name, recipe.digest)
    if not is_first():
        encode_shards(codec, images, mirror, state, folder.parent)
        return folder
    with build(folder, recipe) as (scratch, facts):
        shards = encode_shards(codec, images, mirror, state, folder.parent)
        for shard in shards:
            share_file(shard, scratch)
        if isinstance(parameters, PublishedAutoencoder):
            mean, std = [0.0] * parameters.latent_channels, [1 / parameters.scale] * parameters.latent_channels
        else:
            mean, std = statistics(shards)
        facts |= {
            "kind": "pre-quantised" if parameters.codebook_size else "moments",
            "items": len(images.labels) * (2 if mirror else 1),
            "classes": len(images.classes),
            "shape": codec.latent_shape(images.images.shape[1:]),
            "mean": mean,
            "std": std,
            "data": {key: images.artefact.facts[key] for key in ("origin", "licence")},
        }
    shutil.rmtree(state.parent, ignore_errors=True)  # those of earlier recipes, too
    return folder


def _facts_of_pixels(images: data.Dataset, mirror: bool) -> dict[str, Any]:
    """What the manifest says of pixels in [-1, 1]."""
    *frames, height, width, colours = images.images.shape[1:]
    return {
        "kind": "pixels",
        "items": len(images.labels) * (2 if mirror else 1),
        "classes": len(images.classes),
        "shape": [*frames, colours, height, width],
        "mean": [0.0] * colours,
        "std": [1.0] * colours,
        "data": {key: images.artefact.facts[key] for key in ("origin", "licence")},
    }


def read_manifest(experiment: Experiment, name: str, verify: bool = False) -> Artefact:
    """The latents' manifest. verify: hash the shards, too, which at scale are hundreds of gigabytes."""
    folder = paths.latents(experiment.latents[name].data, name)
    return read(folder, make_latents(name), of_latents(experiment, name), only=None if verify else ())


def load(experiment: Experiment, name: str) -> Latents:
    """All latents of a data set, normalised when they are drawn; pixels are in memory.

    Of several processes the first one verifies the files.
    """
    artefact, parameters = read_manifest(experiment, name, verify=is_first()), experiment.autoencoder(name)
    if isinstance(parameters, Pixels):
        return _load_pixels(data.load(experiment, parameters.data, "train"), artefact, name, parameters.mirror)
    shards, labels, items = open_shards(artefact.folder)
    mean, std, channels = _column(artefact.facts["mean"]), _column(artefact.facts["std"]), artefact.facts["shape"][-3]
    spread = None
    if artefact.facts["kind"] == "moments":
        spread = MappedLatents(shards, slice(channels, None), torch.zeros_like(mean), std)
    latents = MappedLatents(shards, slice(channels), mean, std)
    return Latents(latents, spread, labels, items, artefact.facts["classes"], artefact)


def _load_pixels(images: data.Dataset, artefact: Artefact, name: str, mirror: bool) -> Latents:
    """The pixels of a data set; mirrored ones stand behind the others."""
    check_input(artefact, images.artefact, "data", make_latents(name))
    pixels = to_pixels(data.as_images(images.images)[:]).reshape(-1, *artefact.facts["shape"])
    labels, items = torch.from_numpy(images.labels), torch.arange(len(images.labels))
    if mirror:
        pixels, labels, items = torch.cat([pixels, pixels.flip(-1)]), labels.repeat(2), items.repeat(2)
    mean, std = _column(artefact.facts["mean"]), _column(artefact.facts["std"])
    mapped = MappedLatents([pixels.numpy()], slice(None), mean, std)
    return Latents(mapped, None, labels, items, artefact.facts["classes"], artefact)


def load_codec(experiment: Experiment, name: str, device: torch.device) -> LatentCodec:
    """The autoencoder together with the statistics of its latents."""
    encoded, autoencoder = read_manifest(experiment, name), _read_autoencoder(experiment, name)
    check_input(encoded, autoencoder, "autoencoder", make_latents(name))
    return _codec(autoencoder, encoded.facts["mean"], encoded.facts["std"], device, experiment.performance)


def _read_autoencoder(experiment: Experiment, name: str) -> Artefact:
    lender = experiment.lender(name)
    folder = paths.autoencoder(experiment.latents[lender].data, lender)
    return read(folder, make_autoencoder(lender), of_autoencoder(experiment, lender))


def _codec(
    autoencoder: Artefact, mean: list[float], std: list[float], device: torch.device, performance: Performance
) -> LatentCodec:
    config = json.loads((autoencoder.folder / "config.json").read_text(encoding="utf-8"))
    if config["_class_name"] == NoAutoencoder.__name__:
        return LatentCodec(NoAutoencoder(config["latent_channels"]), _column(mean).to(device), _column(std).to(device))
    kind = VQModel if config["_class_name"] == "VQModel" else AutoencoderKL
    model = kind.from_pretrained(autoencoder.folder, local_files_only=True, low_cpu_mem_usage=False).to(device).eval()
    model = compile_blocks(lay_out(model, performance), performance)
    return LatentCodec(model, _column(mean).to(device), _column(std).to(device), performance.autoencoder)


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]
