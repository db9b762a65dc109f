"""Diffusion transformer (Peebles & Xie, 2023) of diffusers' layers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import CombinedTimestepLabelEmbeddings, TimestepEmbedding, Timesteps
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor, nn


class DiT(DiTTransformer2DModel):
    """The official DiT: one embedding of timestep and label for all blocks, and DiT's own epsilon in LayerNorm.

    diffusers gives each block an embedding of its own (28 copies in DiT-XL/2), whose frequencies differ from the
    official ones: see `frequency_shift`. save_pretrained and from_pretrained work.

    classes: of the label embedding, whose last row (index `classes`) is the null label; 0: unconditional.
    frequency_shift: 0 as in the official code (frequencies 10000^(-i / 128)), 1 as in diffusers' DiT (i / 127).
    block_scale: adaLN-Zero's gates at the start; 0 makes every block the identity.
    learned_sigma: twice the output channels, epsilon first, then what the variance is interpolated by.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        channels: int,
        size: int,
        classes: int,
        label_std: float = 0.02,
        frequency_shift: int = 1,
        block_scale: int = 0,
        learned_sigma: bool = False,
    ) -> None:
        own = self.config
        super().__init__(
            num_attention_heads=heads,
            attention_head_dim=width // heads,
            in_channels=channels,
            out_channels=2 * channels if learned_sigma else None,
            num_layers=depth,
            sample_size=size,
            patch_size=patch,
            num_embeds_ada_norm=classes,
            norm_eps=1e-6,
        )
        self._internal_dict = own  # diffusers put its own names beside these, which are what from_pretrained needs
        self.embedder = conditioning_embedder(classes, width, frequency_shift)
        for block in self.transformer_blocks:
            block.norm1.emb = HandOn()
        initialise(self, label_std, block_scale)

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """latents (B, C, h, w), timesteps (B,), labels (B,) with `classes` as the null label -> (B, C or 2 C, h, w)."""
        conditioning = self.embedder(timesteps, labels, hidden_dtype=latents.dtype)
        output: Tensor = super().forward(latents, timestep=conditioning, return_dict=False)[0]
        return output


class HandOn(nn.Module):
    """Stands where diffusers' blocks embed timestep and label: hands on the embedding that the network made."""

    def forward(self, timestep: Tensor, class_labels: None, hidden_dtype: torch.dtype | None = None) -> Tensor:  # noqa: ARG002
        return timestep


class TimestepAlone(nn.Module):
    """The embedding of an unconditional network: that of the timestep, and labels are not looked at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_proj = Timesteps(num_channels=256, flip_sin_to_cos=True, downscale_freq_shift=1)
        self.timestep_embedder = TimestepEmbedding(in_channels=256, time_embed_dim=width)

    def forward(self, timestep: Tensor, class_labels: Tensor | None, hidden_dtype: torch.dtype | None = None) -> Tensor:  # noqa: ARG002
        embedded: Tensor = self.timestep_embedder(self.time_proj(timestep).to(dtype=hidden_dtype))
        return embedded


def conditioning_embedder(classes: int, width: int, frequency_shift: int) -> Any:
    """The embedding of timestep and label, (B,) and (B,) -> (B, width); without classes, of the timestep alone."""
    embedder: Any = CombinedTimestepLabelEmbeddings(classes, width) if classes else TimestepAlone(width)
    embedder.time_proj.downscale_freq_shift = frequency_shift
    if classes:
        embedder.class_embedder.dropout_prob = 0.0  # the training loop drops labels, from (seed, step)
    return embedder


def initialise(network: Any, label_std: float, block_scale: int) -> None:
    """DiT's own start: Xavier everywhere, adaLN and the output layers zero, so that each block is the identity.

    block_scale: what adaLN-Zero's gates are at the start. With 1 the blocks are live: ReZero makes them identities by
    its alpha = 0, and with 0 besides, neither would ever get a gradient.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    patches, embedder = network.pos_embed.proj, network.embedder
    nn.init.xavier_uniform_(patches.weight.view(patches.weight.shape[0], -1))
    nn.init.zeros_(patches.bias)
    if not isinstance(embedder, TimestepAlone):
        nn.init.normal_(embedder.class_embedder.embedding_table.weight, std=label_std)
    for layer in (embedder.timestep_embedder.linear_1, embedder.timestep_embedder.linear_2):
        nn.init.normal_(layer.weight, std=0.02)
    for layer in (
        *(block.norm1.linear for block in network.transformer_blocks),
        network.proj_out_1,
        network.proj_out_2,
    ):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for block in network.transformer_blocks:  # shift, scale and gate of the attention, then of the MLP
            block.norm1.linear.bias.view(6, -1)[2::3] = block_scale
