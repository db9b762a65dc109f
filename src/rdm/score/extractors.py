"""Feature extractors, registered with torch-fidelity; each gives the layers `pool`, `spatial` and `logits`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

from rdm.errors import RdmError
from rdm.params.schema import Classifier, Inception
from rdm.score import classifier

BATCH = 100
LAYERS = ["pool", "spatial", "logits"]
INCEPTION_LAYERS = {"pool": "2048", "logits": "logits_unbiased"}  # ours -> torch-fidelity's


class ClassifierExtractor(FeatureExtractorBase):
    """The classifier of `rdm extractor`."""

    def __init__(
        self, name: str, features_list: list[str], folder: Path, parameters: Classifier, **_: Any
    ) -> None:  # torch-fidelity hands all its options to every extractor
        super().__init__(name, features_list)
        self.network = classifier.load(folder, parameters)

    @staticmethod
    def get_provided_features_list() -> list[str]:
        """Names of the layers."""
        return LAYERS

    @staticmethod
    def can_be_compiled() -> bool:
        """Plain layers."""
        return True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, C, H, W) -> the layers asked for."""
        layers = dict(zip(LAYERS, self.network(images), strict=True))
        return tuple(layers[name] for name in self.features_list)


class InceptionExtractor(FeatureExtractorInceptionV3):
    """torch-fidelity's FID-Inception, with the layer of sFID beside its own.

    spatial: the first 7 channels of `Mixed_6d.branch1x1` after batch norm and ReLU, 17x17, in NHWC order, as in
    guided-diffusion's evaluator (`mixed_6/conv:0`).
    """

    def __init__(self, name: str, features_list: list[str], weights: Path, **options: Any) -> None:
        _check_weights(weights)
        super().__init__(name, list(INCEPTION_LAYERS.values()), feature_extractor_weights_path=weights, **options)
        self.wanted = features_list
        self.spatial = torch.empty(0)
        self.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)

    def _keep_spatial(self, module: torch.nn.Module, args: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG002
        self.spatial = output[:, : classifier.SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)

    def convert_features_tuple_to_dict(self, features: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The layers asked for, by our names."""
        return dict(zip(self.wanted, features, strict=True))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, 3, H, W) -> the layers asked for."""
        named = dict(zip(INCEPTION_LAYERS, super().forward(images), strict=True)) | {"spatial": self.spatial}
        return tuple(named[name] for name in self.wanted)


torch_fidelity.register_feature_extractor("rdm-classifier", ClassifierExtractor)
torch_fidelity.register_feature_extractor("rdm-inception", InceptionExtractor)


def build_extractor(parameters: Classifier | Inception, folder: Path, device: torch.device) -> FeatureExtractorBase:
    """The extractor that the parameters name; `folder` is where `rdm extractor` put its classifier."""
    options: dict[str, Any] = {"cuda": device.type == "cuda", "verbose": False}
    if isinstance(parameters, Classifier):
        options |= {"folder": folder, "parameters": parameters}
    else:
        options |= {"weights": Path(parameters.weights)}
    return create_feature_extractor(f"rdm-{parameters.kind}", LAYERS, **options)


def extract(extractor: FeatureExtractorBase, images: np.ndarray, device: torch.device) -> dict[str, Tensor]:
    """Features of uint8 (N, H, W, C) images: layer name -> float32 (N, d)."""
    dataset = _Images(images)
    cuda = device.type == "cuda"
    features: dict[str, Tensor] = get_featuresdict_from_dataset(dataset, extractor, BATCH, cuda, True, False)
    return features


class _Images(torch.utils.data.Dataset[Tensor]):
    """uint8 (N, H, W, C) images as torch-fidelity wants them, one by one as (C, H, W)."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self.images[index].transpose(2, 0, 1), order="C"))


def _check_weights(path: Path) -> None:
    """torch-fidelity unpickles the file: let it do so only if torch's restricted unpickler finds no code in it."""
    if not path.is_file():
        raise RdmError(
            f"score.extractor.weights: {path} is not there; download torch-fidelity's "
            "weights-inception-2015-12-05-6726825d.pth and name its path."
        )
    try:
        torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise RdmError(f"{path} is not a file of weights ({str(error).splitlines()[0]}); download it again.") from None
