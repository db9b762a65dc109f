"""Our networks as plain diffusers models, which `from_pretrained` loads without this package."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from rdm.errors import RdmError
from rdm.models.adm import ADM
from rdm.models.dit import DiT
from rdm.models.gates import gates_of
from rdm.models.pixart import PixArt
from rdm.models.unet import AddedLabelUNet, CrossAttentionUNet, TextUNet

PLAIN = {
    AddedLabelUNet: UNet2DModel,
    ADM: UNet2DModel,
    TextUNet: UNet2DConditionModel,
    PixArt: PixArtTransformer2DModel,
}


def save_diffusers(network: nn.Module, folder: Path) -> None:
    """Write an ungated network of ours in diffusers' layout: config.json and diffusion_pytorch_model.safetensors.

    The class tokens that a cross-attention U-Net attends to are no part of diffusers' model; they go into
    label_embedding.safetensors, `weight` of shape (classes + 1, 512). An unconditional DiT is written with one class
    embedding, zero. A network conditioned on text is written without its text encoder. What diffusers cannot compute,
    a Latte and a DiT with the official timestep frequencies (`frequency_shift: 0`), is written as ours:
    `rdm.models.latte.Latte.from_pretrained` and `rdm.models.dit.DiT.from_pretrained` load it.
    Raises RdmError for a network that has gates.
    """
    if gates_of(network):
        raise RdmError(f"{type(network).__name__} has gates, which diffusers does not know; fold or detach them first.")
    if isinstance(network, DiT) and network.embedder.time_proj.downscale_freq_shift == 1:
        plain: nn.Module = _plain_dit(network)
    elif isinstance(network, CrossAttentionUNet):
        weights = network.state_dict()
        save_file(
            {"weight": weights.pop("label_embedding.weight").contiguous()}, folder / "label_embedding.safetensors"
        )
        plain = UNet2DConditionModel.from_config(network.config)
        plain.load_state_dict(weights)
    elif isinstance(network, AddedLabelUNet | ADM | TextUNet | PixArt):
        plain = PLAIN[type(network)].from_config(network.config)
        plain.load_state_dict(network.state_dict())
    else:  # ours to stay, or a model that was diffusers' own from the start
        plain = network
    plain.save_pretrained(folder)  # type: ignore[operator]


def _plain_dit(network: DiT) -> nn.Module:
    """Every block of diffusers' DiT embeds timestep and label by itself: each gets a copy of the shared embedder."""
    weights = network.state_dict()
    shared = {
        name.removeprefix("embedder."): weights.pop(name) for name in list(weights) if name.startswith("embedder.")
    }
    if not network.config.classes:  # unconditional; diffusers adds an embedding of the null label
        shared["class_embedder.embedding_table.weight"] = torch.zeros(1, network.inner_dim)
    for number in range(len(network.transformer_blocks)):
        weights |= {f"transformer_blocks.{number}.norm1.emb.{name}": tensor for name, tensor in shared.items()}
    config = network.config
    plain: nn.Module = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        in_channels=config.channels,
        out_channels=network.out_channels,
        num_layers=config.depth,
        sample_size=config.size,
        patch_size=config.patch,
        num_embeds_ada_norm=config.classes,
        norm_eps=1e-6,
    )
    plain.load_state_dict(weights)
    return plain
