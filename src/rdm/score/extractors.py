"""Feature extractors behind one interface: the FID-Inception, StyleGAN-V's I3D, and the classifiers trained here.

Each gives the layer `pool` (FID, precision and recall, KID, FVD); some also `logits` (IS) and `spatial` (sFID).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d, FeatureExtractorInceptionV3

from rdm.errors import RdmError, UsageError
from rdm.params.performance import Precision
from rdm.params.protocol import Pixels
from rdm.performance import computing
from rdm.score import classifier
from rdm.score.resize import RESIZES
from rdm.score.weights import find_weights

INPUT_SIZE = 299
TO_SPATIAL = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d"),
)
TO_POOL = ("Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool")


@dataclass(frozen=True)
class Extractor:
    """A network, where and how precisely it runs, and what it takes.

    network: uint8 (N, C, [T,] H, W) and the protocol's pixels -> layer name -> (N, d).
    channels: of its input. clips: whether that has a time axis. dimension: of `pool`.
    batch: items per call; the last bits of features depend on it.
    digest: sha256 of its weights.
    """

    kind: str
    network: Callable[[Tensor, Pixels | None], dict[str, Tensor]]
    channels: int
    clips: bool
    dimension: int
    batch: int
    digest: str
    device: torch.device
    precision: Precision

    @torch.inference_mode()
    def features(
        self, items: np.ndarray, pixels: Pixels | None = None, wanted: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """uint8 (N, [T,] H, W, C) -> layer name -> float32 (N, d), for the wanted layers or all.

        Raises RdmError if the network does not take items of this shape, or the device has not enough memory.
        """
        inputs = torch.from_numpy(np.array(items, order="C")).to(self.device).movedim(-1, 1).contiguous()
        deterministic = torch.backends.cudnn.flags(enabled=True, deterministic=True)
        try:
            with deterministic, computing(self.precision, self.device):
                layers = self.network(inputs, pixels)
        except RuntimeError as error:
            shape, reason = "x".join(map(str, items.shape)), str(error).strip().splitlines()[-1]
            raise RdmError(f"The {self.kind} network failed on items of {shape} ({reason}); do they fit it?") from None
        return {name: values.float().cpu().numpy() for name, values in layers.items() if name in (wanted or layers)}


def build_extractor(
    kind: str,
    weights: Path | None,
    device: torch.device,
    expected: str | None = None,
    precision: Precision = "float32",
) -> Extractor:
    """The extractor of this kind: `inception`, `i3d` or `classifier`.

    weights: its file, or a classifier's folder; None downloads what is published.
    expected: the digest that the protocol names; see `find_weights`.
    precision: float32 unless asked; tf32 moves features by 5e-4, bfloat16 by 4e-3, relatively.
    Raises UsageError for weights that are missing, damaged, or others.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32 is for a GPU; leave it out.")
    file, digest = find_weights(kind, expected, weights)
    network: nn.Module
    try:
        if kind == "inception":
            network, channels, clips, dimension, batch = Inception(file), 3, False, 2048, 100
        elif kind == "i3d":
            network, channels, clips, dimension, batch = I3D(torch.jit.load(file, map_location="cpu")), 3, True, 400, 8
        else:
            inner = classifier.load(file)
            network, channels, clips = _WithoutPixels(inner), inner.image_channels, inner.clips
            dimension, batch = len(inner.pool_std), 100
    except Exception as error:  # on a file of another kind torch raises nearly anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{file} is not a file of {kind} weights ({reason}); download or make it again.") from None
    return Extractor(kind, network.to(device), channels, clips, dimension, batch, digest, device, precision)


class Inception(nn.Module):
    """torch-fidelity's FID-Inception, with batch norms folded and channels last: 1.7 times as fast, the same values.

    pool: 2048. spatial: the first 7 channels of `Mixed_6d.branch1x1` after its ReLU, 17x17, NHWC, as in
    guided-diffusion's evaluator (`mixed_6/conv:0`). logits: 1008, without the bias, as all evaluators have it.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        torch.load(weights, weights_only=True)  # torch-fidelity unpickles: refuse what is not plain weights before
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=weights)
        for block in [m for m in network.modules() if isinstance(m, BasicConv2d)]:
            block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, pixels: Pixels) -> dict[str, Tensor]:
        """uint8 (N, 3, H, W) -> pool, spatial, logits."""
        hidden = self.prepared(images, pixels).contiguous(memory_format=torch.channels_last)
        for name in TO_SPATIAL:
            hidden = self.network.get_submodule(name)(hidden)
        # a block's output starts with its branch1x1
        spatial = hidden[:, : classifier.SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        for name in TO_POOL:
            hidden = self.network.get_submodule(name)(hidden)
        pool = hidden.flatten(1)
        return {"pool": pool, "spatial": spatial, "logits": pool @ self.network.fc.weight.T}

    @staticmethod
    def prepared(images: Tensor, pixels: Pixels) -> Tensor:
        """uint8 (N, 3, H, W) -> float32 (N, 3, 299, 299) in [-1, 1]."""
        resized = RESIZES[pixels.resize](images.float(), INPUT_SIZE)
        if pixels.rounding == "uint8":
            resized = resized.round()
        return (resized - 128) / 128 if pixels.scale == "(v-128)/128" else resized / 127.5 - 1


class I3D(nn.Module):
    """StyleGAN-V's TorchScript of Kinetics-400's I3D; pool: its 400 logits, averaged over time.

    The file itself resizes to 224 x 224 and scales to [-1, 1].
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script.eval()

    def forward(self, clips: Tensor, pixels: None) -> dict[str, Tensor]:  # noqa: ARG002
        """uint8 (N, 3, T, H, W) -> pool (N, 400)."""
        return {"pool": self.script(clips.float(), rescale=True, resize=True, return_features=True)}


class _WithoutPixels(nn.Module):
    """A network that takes images as they are."""

    def __init__(self, network: classifier.ConvNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, pixels: None) -> dict[str, Tensor]:  # noqa: ARG002
        return dict(zip(("pool", "spatial", "logits"), self.network(images), strict=True))


class ClassifierExtractor(FeatureExtractorBase):
    """The classifier of `rdm extractor`, for torch-fidelity: `feature_extractor="rdm-classifier"`.

    Its file is `feature_extractor_weights_path`.
    """

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: Path, **_: Any
    ) -> None:  # torch-fidelity hands all its options to every extractor
        super().__init__(name, features_list)
        self.network = classifier.load(feature_extractor_weights_path)

    @staticmethod
    def get_provided_features_list() -> list[str]:
        """Names of the layers."""
        return ["pool", "spatial", "logits"]

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The layer that torch-fidelity takes for a metric."""
        return "logits" if metric == "isc" else "pool"

    @staticmethod
    def can_be_compiled() -> bool:
        """Plain layers."""
        return True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, C, H, W) -> the layers asked for."""
        layers = dict(zip(self.get_provided_features_list(), self.network(images), strict=True))
        return tuple(layers[name] for name in self.features_list)


torch_fidelity.register_feature_extractor("rdm-classifier", ClassifierExtractor)
