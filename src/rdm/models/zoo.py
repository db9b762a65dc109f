"""From parameters to networks. Every network maps (latents, timesteps, labels) to a tensor shaped like the latents."""

from __future__ import annotations

import torch
from torch import nn

from rdm.models.dit import DiT
from rdm.models.unet import AddedLabelUNet, CrossAttentionUNet
from rdm.params import schema
from rdm.randomness import seed_of


def build_network(parameters: schema.DiT | schema.UNet, shape: list[int], classes: int, seed: int) -> nn.Module:
    """A network with random weights that are a function of `seed`.

    shape: of one latent, (channels, height, width). The null label of classifier-free guidance is `classes`.
    """
    channels, size, _ = shape
    torch.manual_seed(seed_of(seed, "network"))
    if isinstance(parameters, schema.DiT):
        return DiT(parameters, channels, size, classes)
    if parameters.label == "cross":
        return CrossAttentionUNet(parameters, channels, size, classes)
    return AddedLabelUNet(parameters, channels, size, classes)
