"""One object that encodes and decodes: images or the frames of clips -> raw latents, and back from normalised ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor, nn

from rdm.params.autoencoder import AnyAutoencoder, Pixels
from rdm.params.performance import Precision
from rdm.performance import computing
from rdm.provenance.files import canonical_json


class NoAutoencoder(nn.Module):
    """The latents are the pixels: it has no weights, and changes nothing. Its config is like an autoencoder's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(block_out_channels=(channels,), latent_channels=channels, out_channels=channels)

    def forward(self, pixels: Tensor) -> DecoderOutput:
        """The pixels, as autoencoders return them."""
        return DecoderOutput(sample=pixels)

    decode = forward

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json, which names the class as those of autoencoders do."""
        content = canonical_json({"_class_name": type(self).__name__, **vars(self.config)})
        (folder / "config.json").write_text(content, encoding="utf-8")


Network: TypeAlias = VQModel | AutoencoderKL | NoAutoencoder


def build_autoencoder(parameters: AnyAutoencoder, channels: int, image_size: int) -> Network:
    """An autoencoder with random weights for images of `channels` channels: a VQ-VAE, or without a codebook KL.

    Of pixels, one that has no weights.
    """
    if isinstance(parameters, Pixels):
        return NoAutoencoder(channels)
    attention = getattr(parameters, "attention", None) or (False,) * len(parameters.block_channels)
    common: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": tuple("AttnDownEncoderBlock2D" if a else "DownEncoderBlock2D" for a in attention),
        "up_block_types": tuple("AttnUpDecoderBlock2D" if a else "UpDecoderBlock2D" for a in reversed(attention)),
        "block_out_channels": parameters.block_channels,
        "layers_per_block": parameters.layers_per_block,
        "latent_channels": parameters.latent_channels,
        "sample_size": image_size,
        "norm_num_groups": parameters.norm_groups,
        "scaling_factor": 1.0,
    }
    if parameters.codebook_size is None:
        return AutoencoderKL(**common)
    return VQModel(**common, num_vq_embeddings=parameters.codebook_size)


def encode(autoencoder: Network, pixels: Tensor) -> Tensor:
    """(N, C, H, W) -> latents before quantisation (N, c, h, w); of KL their mean and deviation (N, 2 c, h, w).

    Where there is no autoencoder, the pixels.
    """
    if isinstance(autoencoder, NoAutoencoder):
        return pixels
    encoded = autoencoder.encode(pixels)
    if isinstance(autoencoder, VQModel):
        latents: Tensor = encoded.latents
        return latents
    return torch.cat([encoded.latent_dist.mean, encoded.latent_dist.std], 1)


def to_pixels(images: np.ndarray, device: torch.device | None = None) -> Tensor:
    """uint8 (N, H, W, C) in 0..255 -> float32 (N, C, H, W) in [-1, 1], on the device.

    Bytes travel: to an NVIDIA GPU from pinned memory, while it computes the batch before.
    """
    pinned = device is not None and device.type == "cuda"
    held = torch.empty(images.shape, dtype=torch.uint8, pin_memory=pinned)
    held.numpy()[...] = images
    return held.to(device, non_blocking=pinned).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> np.ndarray:
    """float32 (N, C, H, W) in [-1, 1] -> uint8 (N, H, W, C), rounded to the nearest level."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class LatentCodec:
    """An autoencoder with the statistics that normalise its latents.

    The latents are the encoder's output before quantisation, as in latent diffusion; decoding quantises them.
    mean, std: float32 of shape (C, 1, 1), over all training items; of a published autoencoder 0 and 1 / its scale, of
    pixels 0 and 1.
    """

    autoencoder: Network
    mean: Tensor
    std: Tensor
    precision: Precision = "float32"

    @property
    def factor(self) -> int:
        """By how much smaller latents are than images."""
        return int(2 ** (len(self.autoencoder.config.block_out_channels) - 1))

    def latent_shape(self, shape: Sequence[int]) -> list[int]:
        """[T,] C, h, w of the latents of an item of [T,] H, W, C."""
        *frames, height, width, _ = shape
        return [*frames, self.autoencoder.config.latent_channels, height // self.factor, width // self.factor]

    def stored_bytes(self, shape: Sequence[int]) -> int:
        """What an item of [T,] H, W, C takes in a shard: its latents in float32, of KL both moments in float16."""
        return 4 * math.prod(self.latent_shape(shape))

    def image_bytes(self, shape: Sequence[int]) -> int:
        """What `decode` makes of latents of [T,] C, h, w takes."""
        *frames, _, height, width = shape
        return math.prod(frames) * height * width * self.factor**2 * int(self.autoencoder.config.out_channels)

    @torch.inference_mode()
    def encode_raw(self, items: np.ndarray) -> Tensor:
        """uint8 (N, [T,] H, W, C) -> what `encode` gives, in the autoencoder's units, float32 (N, [T,] C, h, w)."""
        images = items.reshape(-1, *items.shape[-3:])
        with computing(self.precision, self.mean.device):
            latents = encode(self.autoencoder, to_pixels(images, self.mean.device)).float()
        return latents.reshape(*items.shape[:-3], *latents.shape[1:]).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Normalised latents, float32 (N, [T,] C, h, w) -> uint8 (N, [T,] H, W, C)."""
        flat = (latents * self.std + self.mean).flatten(0, -4)
        with computing(self.precision, self.mean.device):
            images = to_images(self.autoencoder.decode(flat).sample.float())
        return images.reshape(*latents.shape[:-3], *images.shape[1:])
