"""One object that encodes and decodes: images or the frames of clips -> raw latents, and back from normalised ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor

from rdm.params.schema import Autoencoder


def build_autoencoder(parameters: Autoencoder, channels: int, image_size: int) -> VQModel:
    """A VQ-VAE with random weights for images of `channels` channels."""
    levels = len(parameters.block_channels)
    return VQModel(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=parameters.block_channels,
        layers_per_block=parameters.layers_per_block,
        latent_channels=parameters.latent_channels,
        sample_size=image_size,
        num_vq_embeddings=parameters.codebook_size,
        norm_num_groups=parameters.norm_groups,
        scaling_factor=1.0,
    )


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) in 0..255 -> float32 (N, C, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> np.ndarray:
    """float32 (N, C, H, W) in [-1, 1] -> uint8 (N, H, W, C), rounded to the nearest level."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class LatentCodec:
    """An autoencoder with the statistics that normalise its latents.

    The latents are the encoder's output before quantisation, as in latent diffusion; decoding quantises them.
    mean, std: float32 of shape (C, 1, 1), over all training items.
    """

    autoencoder: VQModel
    mean: Tensor
    std: Tensor

    @torch.inference_mode()
    def encode_raw(self, items: np.ndarray) -> Tensor:
        """uint8 images or clips (N, [T,] H, W, C) -> latents in the autoencoder's units, float32 (N, [T,] C, h, w)."""
        images = items.reshape(-1, *items.shape[-3:])
        latents: Tensor = self.autoencoder.encode(to_pixels(images).to(self.mean.device)).latents
        return latents.reshape(*items.shape[:-3], *latents.shape[1:]).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Normalised latents, float32 (N, [T,] C, h, w) -> uint8 (N, [T,] H, W, C)."""
        flat = (latents * self.std + self.mean).flatten(0, -4)
        images = to_images(self.autoencoder.decode(flat).sample)
        return images.reshape(*latents.shape[:-3], *images.shape[1:])
