"""What networks cost, looked up where it was counted before: counting takes torch, and of large networks a minute.

counted.json is written by `python workflow/scripts/count_costs.py params/*.yaml`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rdm.params import network as networks
from rdm.params import schema
from rdm.params.autoencoder import AnyAutoencoder
from rdm.params.performance import Precision
from rdm.provenance.files import digest

FILE = Path(__file__).with_name("counted.json")
WITHOUT_COST = {"label_std", "block_scale", "frequency_shift"}  # of a network
ARCHITECTURE = ("block_channels", "layers_per_block", "norm_groups", "latent_channels", "codebook_size", "attention")


@dataclass(frozen=True)
class Cost:
    """Of one item.

    forward_flops: a multiply-add counts as two. kept_bytes: what the forward pass keeps for the backward pass, float32.
    """

    parameters: int
    forward_flops: int
    kept_bytes: int

    def training_flops(self, checkpointing: bool = False) -> int:
        """Forward and backward: the backward pass has two matrix products for each of the forward pass.

        checkpointing: the forward pass is computed twice.
        """
        return (4 if checkpointing else 3) * self.forward_flops


@dataclass(frozen=True)
class NetworkCost(Cost):
    """What is kept in autocast, and with gradient checkpointing; compiled blocks keep no more than these.

    live_bytes: the most that a forward pass without gradients holds at a time, beside the weights, in float32.
    """

    live_bytes: int
    kept_bfloat16: int
    kept_checkpointing: int
    kept_checkpointing_bfloat16: int

    def kept(self, precision: Precision, checkpointing: bool) -> int:
        """Bytes that one item's forward pass keeps for the backward pass."""
        both = (self.kept_bytes, self.kept_bfloat16), (self.kept_checkpointing, self.kept_checkpointing_bfloat16)
        return both[checkpointing][precision == "bfloat16"]


@dataclass(frozen=True)
class AutoencoderCost(Cost):
    """Of one image, both ways and each way; live bytes as of a network."""

    encoder_flops: int
    decoder_flops: int
    encoder_live_bytes: int
    decoder_live_bytes: int


def of_network(parameters: schema.Network, shape: list[int], classes: int) -> NetworkCost:
    """A denoiser on latents of this shape, (C, h, w) or (T, C, h, w)."""
    known = _counted().get(network_key(parameters, shape, classes))
    if known:
        return NetworkCost(**known)
    from rdm.plan import cost

    return cost.of_network(parameters, shape, classes)


def of_autoencoder(parameters: AnyAutoencoder, channels: int, size: int) -> AutoencoderCost:
    """An autoencoder on one image of so many channels and pixels a side."""
    known = _counted().get(autoencoder_key(parameters, channels, size))
    if known:
        return AutoencoderCost(**known)
    from rdm.plan import cost

    return cost.of_autoencoder(parameters, channels, size)


def of_classifier(parameters: networks.ADM, shape: list[int], classes: int) -> Cost:
    """A classifier of noisy latents of this shape, (C, h, w)."""
    known = _counted().get(classifier_key(parameters, shape, classes))
    if known:
        return Cost(**known)
    from rdm.plan import cost

    return cost.of_classifier(parameters, shape, classes)


def network_key(parameters: schema.Network, shape: list[int], classes: int) -> str:
    """What its cost depends on, as a digest."""
    return digest({"network": parameters.model_dump(exclude=WITHOUT_COST), "shape": shape, "classes": classes})


def classifier_key(parameters: networks.ADM, shape: list[int], classes: int) -> str:
    """What its cost depends on, as a digest."""
    return digest({"classifier": parameters.model_dump(), "shape": shape, "classes": classes})


def autoencoder_key(parameters: AnyAutoencoder, channels: int, size: int) -> str:
    """What its cost depends on, as a digest."""
    values = {name: getattr(parameters, name, None) for name in ARCHITECTURE}
    return digest({"autoencoder": values, "channels": channels, "size": size})


@cache
def _counted() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found
