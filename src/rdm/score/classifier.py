"""`rdm extractor`: a small classifier whose features stand in for Inception's on data unlike photographs, or (of clips,
through convolutions over time, too) for I3D's.

The layers mirror what the FID-Inception gives: `pool` the averaged features before the classifier, `logits` the
classifier's output, `spatial` seven channels of a feature map further down (sFID, Nash et al., 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from rdm import paths
from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.params import Experiment
from rdm.params.dependencies import make_extractor, of_extractor
from rdm.params.evaluation import Classifier
from rdm.progress import progress
from rdm.provenance.manifest import Recipe, build, is_current
from rdm.randomness import batch_items, seed_of
from rdm.runtime import prepare

SPATIAL_CHANNELS = 7  # as in sFID


class ConvNet(nn.Module):
    """Convolutions with batch norm; each but the last is followed by 2x max pooling, the last by global averaging.

    classes: of each label that it learns; the logits that it gives are those of the first.
    clips: convolve and pool over time, too.
    """

    def __init__(self, channels: tuple[int, ...], image_channels: int, classes: list[int], clips: bool = False) -> None:
        super().__init__()
        self.image_channels, self.clips = image_channels, clips
        self.pooling = F.max_pool3d if clips else F.max_pool2d
        convolve, normalise = (nn.Conv3d, nn.BatchNorm3d) if clips else (nn.Conv2d, nn.BatchNorm2d)
        self.blocks = nn.ModuleList()
        for before, after in zip((image_channels, *channels[:-1]), channels, strict=True):
            convolution = convolve(before, after, 3, padding=1, bias=False)
            self.blocks.append(nn.Sequential(convolution, normalise(after), nn.ReLU()))
        self.classify = nn.Linear(channels[-1], sum(classes))
        self.classes: Tensor
        self.register_buffer("classes", torch.tensor(classes))
        self.pool_std: Tensor
        self.register_buffer("pool_std", torch.ones(channels[-1]))  # of the training images; see `fit`

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (N, C, [T,] H, W) -> pool (N, c), standardised; spatial (N, [t] h w 7); logits (N, classes[0])."""
        pool, spatial = self.embed(images)
        return pool / self.pool_std, spatial, self.predict(pool)[0]

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """pool, not yet standardised, and spatial."""
        hidden = images.float() / 127.5 - 1
        for block in list(self.blocks)[:-1]:
            hidden = self.pooling(block(hidden), 2)
        spatial = hidden[:, :SPATIAL_CHANNELS].movedim(1, -1).flatten(1)
        pool = self.blocks[-1](hidden).flatten(2).mean(2)
        return pool, spatial

    def predict(self, pool: Tensor) -> list[Tensor]:
        """The logits of each label."""
        return list(self.classify(pool).split(self.classes.tolist(), dim=1))


@dataclass(frozen=True)
class Labelled:
    """What a classifier learns: images (N, H, W, C) or clips (N, T, H, W, C), with one or more labels int64 (N,)."""

    items: Any
    labels: list[np.ndarray]


def run(experiment: Experiment, name: str, overwrite: bool = False) -> Path:
    """Train the classifier of the score `name`; returns its folder."""
    parameters, dataset = experiment.score[name].extractor, experiment.score[name].data
    if not isinstance(parameters, Classifier):
        if isinstance(parameters, str):
            raise UsageError(f"score.{name}.extractor is that of {parameters!r}; run `rdm extractor {parameters}`.")
        raise UsageError(f"score.{name}.extractor is {parameters.kind!r}, which is not trained; nothing is left to do.")
    frames = experiment.protocols[name].frames
    train = data.load(experiment, dataset, "train")
    folder = paths.extractor(dataset, name)
    recipe = Recipe("extractor", of_extractor(experiment, name), {"data": train.artefact.as_input})
    if is_current(folder, recipe, make_extractor(name), overwrite):
        return folder
    device = prepare(experiment)
    with build(folder, recipe) as (scratch, facts):
        network = fit(parameters, _labelled(train, frames), device)
        test = _labelled(data.load(experiment, dataset, "test"), frames)
        facts |= {"test_accuracy": _accuracy(network, test, device), "device": device.type}
        save_file(network.cpu().state_dict(), scratch / "model.safetensors")
    return folder


def _labelled(dataset: data.Dataset, frames: int) -> Labelled:
    """Whole items with all their labels; or the frames of clips, which show no motion, with the first label."""
    if frames == 1:
        return Labelled(dataset.images, dataset.kinds)
    return Labelled(data.as_images(dataset.images), [dataset.kinds[0].repeat(frames)])


def load(file: Path) -> ConvNet:
    """The trained classifier of this file, in eval mode; its sizes are those of the weights."""
    weights = load_file(file)
    kernels = [weights[f"blocks.{i}.0.weight"] for i in range(len(weights)) if f"blocks.{i}.0.weight" in weights]
    channels = tuple(kernel.shape[0] for kernel in kernels)
    network = ConvNet(channels, kernels[0].shape[1], weights["classes"].tolist(), clips=kernels[0].ndim == 5)
    network.load_state_dict(weights)
    return network.eval()


def fit(parameters: Classifier, train: Labelled, device: torch.device) -> ConvNet:
    """Train with the cross-entropy of every label and one-cycle AdamW; then store the spread of each pooled feature.

    Without that standardisation a few strong features would decide the FID.
    """
    torch.manual_seed(seed_of(parameters.seed, "classifier"))
    count, shape = len(train.labels[0]), train.items.shape
    classes = [int(labels.max()) + 1 for labels in train.labels]
    network = ConvNet(parameters.channels, shape[-1], classes, clips=len(shape) == 5).to(device).train()
    steps = parameters.epochs * (count // parameters.batch)
    if not steps:
        raise UsageError(
            f"A classifier's batch of {parameters.batch} needs as many items, there are {count}; set a smaller batch."
        )
    optimiser = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, parameters.learning_rate, total_steps=steps)
    targets = [torch.from_numpy(labels) for labels in train.labels]
    with progress("classifier", steps) as bar:
        for step in range(steps):
            items = batch_items(parameters.seed, step, parameters.batch, count)
            predicted = network.predict(network.embed(as_tensor(train.items[items.numpy()]).to(device))[0])
            losses = [F.cross_entropy(p, t[items].to(device)) for p, t in zip(predicted, targets, strict=True)]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
            schedule.step()
            bar.update()
    network.eval()
    spread = torch.cat([pool for pool, _, _ in _outputs(network, train.items, device)]).std(0)
    network.pool_std.copy_(torch.where(spread > 1e-6, spread, 1.0))  # a dead feature stays zero
    return network


def as_tensor(items: np.ndarray) -> Tensor:
    """uint8 (N, [T,] H, W, C) array -> uint8 (N, C, [T,] H, W) tensor."""
    return torch.from_numpy(np.array(np.moveaxis(items, -1, 1), order="C"))


@torch.inference_mode()
def _outputs(network: ConvNet, items: Any, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for start in range(0, items.shape[0], 100):
        yield network(as_tensor(items[start : start + 100]).to(device))


def _accuracy(network: ConvNet, test: Labelled, device: torch.device) -> float | None:
    """How often the first label of held-out items is seen; None without any."""
    if not len(test.labels[0]):
        return None
    predicted = torch.cat([logits.argmax(1) for _, _, logits in _outputs(network, test.items, device)])
    return float((predicted.cpu().numpy() == test.labels[0]).mean())
