"""`rdm extractor`: a small classifier whose features stand in for Inception's on data unlike photographs.

The layers mirror what the FID-Inception gives: `pool` the averaged features before the classifier, `logits` the
classifier's output, `spatial` seven channels of a feature map further down (sFID, Nash et al., 2021).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from rdm import paths
from rdm.data import stage as data
from rdm.errors import UsageError
from rdm.params import Experiment
from rdm.params.dependencies import MAKE_EXTRACTOR, of_extractor
from rdm.params.schema import Classifier
from rdm.progress import progress
from rdm.provenance.manifest import Recipe, build, is_current
from rdm.randomness import batch_items, seed_of
from rdm.runtime import prepare

SPATIAL_CHANNELS = 7  # as in sFID


class ConvNet(nn.Module):
    """Convolutions with batch norm; each but the last is followed by 2x max pooling, the last by global averaging.

    clips: convolve and pool over time, too.
    """

    def __init__(self, channels: tuple[int, ...], image_channels: int, classes: int, clips: bool = False) -> None:
        super().__init__()
        self.image_channels, self.clips = image_channels, clips
        self.pooling = F.max_pool3d if clips else F.max_pool2d
        convolve, normalise = (nn.Conv3d, nn.BatchNorm3d) if clips else (nn.Conv2d, nn.BatchNorm2d)
        self.blocks = nn.ModuleList()
        for before, after in zip((image_channels, *channels[:-1]), channels, strict=True):
            convolution = convolve(before, after, 3, padding=1, bias=False)
            self.blocks.append(nn.Sequential(convolution, normalise(after), nn.ReLU()))
        self.classify = nn.Linear(channels[-1], classes)
        self.pool_std: Tensor
        self.register_buffer("pool_std", torch.ones(channels[-1]))  # of the training images; see `fit`

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (N, C, [T,] H, W) -> pool (N, c), standardised; spatial (N, [t *] h * w * 7); logits (N, classes)."""
        hidden = images.float() / 127.5 - 1
        for block in list(self.blocks)[:-1]:
            hidden = self.pooling(block(hidden), 2)
        spatial = hidden[:, :SPATIAL_CHANNELS].movedim(1, -1).flatten(1)
        pool = self.blocks[-1](hidden).flatten(2).mean(2)
        return pool / self.pool_std, spatial, self.classify(pool)


def run(experiment: Experiment, overwrite: bool = False) -> Path:
    """Train the classifier of the scored data set; returns its folder."""
    parameters, dataset = experiment.score.extractor, experiment.score.data
    if not isinstance(parameters, Classifier):
        raise UsageError(f"score.extractor is {parameters.kind!r}, which is not trained here; nothing to do.")
    train = data.load(experiment, dataset, "train")
    test = data.load(experiment, dataset, "test")
    folder = paths.extractor(dataset)
    recipe = Recipe("extractor", of_extractor(experiment), {"data": train.artefact.digest})
    if is_current(folder, recipe, MAKE_EXTRACTOR, overwrite):
        return folder
    device = prepare(experiment)
    with build(folder, recipe) as (scratch, facts):
        network = fit(parameters, train, device)
        facts |= {"test_accuracy": _accuracy(network, test, device), "device": device.type}
        save_file(network.cpu().state_dict(), scratch / "model.safetensors")
    return folder


def load(file: Path) -> ConvNet:
    """The trained classifier of this file, in eval mode; its sizes are those of the weights."""
    weights = load_file(file)
    kernels = [weights[f"blocks.{i}.0.weight"] for i in range(len(weights)) if f"blocks.{i}.0.weight" in weights]
    channels = tuple(kernel.shape[0] for kernel in kernels)
    network = ConvNet(channels, kernels[0].shape[1], len(weights["classify.bias"]), clips=kernels[0].ndim == 5)
    network.load_state_dict(weights)
    return network.eval()


def fit(parameters: Classifier, train: data.Dataset, device: torch.device) -> ConvNet:
    """Train with cross-entropy and one-cycle AdamW; then store the spread of each pooled feature.

    Without that standardisation a few strong features would decide the FID.
    """
    torch.manual_seed(seed_of(parameters.seed, "classifier"))
    network = ConvNet(parameters.channels, train.images.shape[3], len(train.classes)).to(device).train()
    steps = parameters.epochs * (len(train.labels) // parameters.batch)
    optimiser = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, parameters.learning_rate, total_steps=steps)
    labels = torch.from_numpy(train.labels)
    with progress("classifier", steps) as bar:
        for step in range(steps):
            items = batch_items(parameters.seed, step, parameters.batch, len(train.labels))
            _, _, logits = network(as_tensor(train.images[items.numpy()]).to(device))
            optimiser.zero_grad()
            F.cross_entropy(logits, labels[items].to(device)).backward()
            optimiser.step()
            schedule.step()
            bar.update()
    network.eval()
    spread = torch.cat([pool for pool, _, _ in _outputs(network, train.images, device)]).std(0)
    network.pool_std.copy_(torch.where(spread > 1e-6, spread, 1.0))  # a dead feature stays zero
    return network


def as_tensor(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) array -> uint8 (N, C, H, W) tensor."""
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))


@torch.inference_mode()
def _outputs(network: ConvNet, images: np.ndarray, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [network(as_tensor(images[start : start + 100]).to(device)) for start in range(0, len(images), 100)]


def _accuracy(network: ConvNet, dataset: data.Dataset, device: torch.device) -> float:
    predicted = torch.cat([logits.argmax(1) for _, _, logits in _outputs(network, dataset.images, device)])
    return float((predicted.cpu().numpy() == dataset.labels).mean())
