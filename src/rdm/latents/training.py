"""`rdm autoencoder`: train one VQ-VAE, or take a published autoencoder, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor
from torch.nn import functional as F

from rdm import paths
from rdm.checkpoints import published_file
from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.latents.codec import Network, build_autoencoder, to_pixels
from rdm.latents.official import load_autoencoder
from rdm.params import Experiment
from rdm.params.autoencoder import Autoencoder, Pixels, PublishedAutoencoder
from rdm.params.dependencies import make_autoencoder, of_autoencoder
from rdm.progress import progress
from rdm.provenance.manifest import Input, Recipe, build, is_current
from rdm.randomness import batch_items, generator, seed_of
from rdm.runtime import prepare


def run(experiment: Experiment, name: str, overwrite: bool = False) -> Path:
    """Train the autoencoder `name`, or import its weights, of pixels none; returns its folder."""
    if name not in experiment.autoencoders:
        lender = experiment.lender(name)
        raise UsageError(f"latents.{name}.autoencoder is that of {lender!r}; run `{make_autoencoder(lender)}`.")
    parameters = experiment.autoencoders[name]
    train = data.load(experiment, parameters.data, "train")
    test = data.load(experiment, parameters.data, "test")
    folder = paths.autoencoder(parameters.data, name)
    inputs = {"data": train.artefact.as_input}
    if isinstance(parameters, PublishedAutoencoder):
        inputs["weights"] = Input.of_file(published_file(Path(parameters.weights)))
    recipe = Recipe("autoencoder", of_autoencoder(experiment, name), inputs)
    if is_current(folder, recipe, make_autoencoder(name), overwrite):
        return folder
    device = prepare(experiment)
    with build(folder, recipe) as (scratch, facts):
        images = data.as_images(train.images)
        if isinstance(parameters, PublishedAutoencoder):
            autoencoder = load_autoencoder(parameters, images.shape[3], images.shape[1]).to(device)
        elif isinstance(parameters, Pixels):
            autoencoder = build_autoencoder(parameters, images.shape[3], images.shape[1])
        else:
            autoencoder = fit(parameters, images, device)
        if len(test.labels):
            facts["test_mse"] = mean_squared_error(autoencoder, data.as_images(test.images), device)
        facts["device"] = device.type
        autoencoder.to("cpu").save_pretrained(scratch)
    return folder


def fit(parameters: Autoencoder, images: Any, device: torch.device) -> VQModel:
    """Train on images, uint8 (N, H, W, C), with MSE + l1_weight * L1 + the commitment loss, one-cycle AdamW.

    images: anything that is indexed as an array is.
    """
    torch.manual_seed(seed_of(parameters.seed, "autoencoder"))
    autoencoder = build_autoencoder(parameters, images.shape[3], images.shape[1]).to(device).train()
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=parameters.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, parameters.learning_rate, total_steps=parameters.steps)
    with progress("autoencoder", parameters.steps) as bar:
        for step in range(parameters.steps):
            items = batch_items(parameters.seed, step, parameters.batch, len(images)).numpy()
            pixels = to_pixels(images[items], device)
            if step == 0:
                _codebook_from_data(autoencoder, images, parameters.seed)
            decoded = autoencoder(pixels)
            loss = F.mse_loss(decoded.sample, pixels) + parameters.l1_weight * F.l1_loss(decoded.sample, pixels)
            optimiser.zero_grad()
            (loss + decoded.commit_loss).backward()
            optimiser.step()
            schedule.step()
            bar.update()
    return autoencoder.eval()


@torch.no_grad()
def _codebook_from_data(autoencoder: VQModel, images: Any, seed: int) -> None:
    """Start the codebook at encoded pixels: far from the data, most of its entries would never be used."""
    codebook: Tensor = autoencoder.quantize.embedding.weight
    order = torch.randperm(len(images), generator=generator(seed, "codebook images"))[:256].sort().values
    pixels = to_pixels(images[order.numpy()], codebook.device)
    latents = autoencoder.encode(pixels).latents.permute(0, 2, 3, 1).flatten(0, 2)
    chosen = torch.randint(len(latents), (len(codebook),), generator=generator(seed, "codebook"))
    codebook.copy_(latents[chosen.to(latents.device)])


@torch.inference_mode()
def mean_squared_error(autoencoder: Network, images: Any, device: torch.device) -> float:
    """Reconstruction error over uint8 images, on pixels in [-1, 1]."""
    total = 0.0
    for start in range(0, len(images), 100):
        pixels = to_pixels(images[start : start + 100], device)
        total += float((autoencoder(pixels).sample - pixels).square().mean((1, 2, 3)).sum())
    return total / len(images)
