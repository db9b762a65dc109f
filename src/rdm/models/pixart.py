"""PixArt-alpha (Chen et al., 2024), the F-shaped stack conditioned on text, of diffusers' layers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from torch import Tensor, nn

from rdm.params import network


class PixArt(PixArtTransformer2DModel):
    """DiT's blocks with cross-attention to a caption's tokens, and one adaLN whose six vectors each block shifts.

    text: gives hidden states and mask of tokens; see `rdm.models.text`.
    """

    text: Any

    def __init__(self, parameters: network.PixArt, channels: int, size: int, text: nn.Module) -> None:
        super().__init__(
            num_attention_heads=parameters.heads,
            attention_head_dim=parameters.width // parameters.heads,
            in_channels=channels,
            out_channels=2 * channels if parameters.learned_sigma else channels,
            num_layers=parameters.depth,
            cross_attention_dim=parameters.width,
            sample_size=size,
            patch_size=parameters.patch,
            use_additional_conditions=False,
            caption_channels=parameters.text.width,
        )
        self.text = text
        self._initialise()

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """latents (B, C, h, w), timesteps (B,), tokens int64 (B, length) -> (B, C or 2 C, h, w)."""
        hidden, is_token = self.text(tokens)
        output: Tensor = super().forward(
            latents,
            encoder_hidden_states=hidden.to(latents.dtype),
            timestep=timesteps,
            encoder_attention_mask=is_token,
            return_dict=False,
        )[0]
        return output

    def _initialise(self) -> None:
        """The official start: Xavier everywhere, small embeddings, and zero where attention to text and output end."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        patches, embedder = self.pos_embed.proj, self.adaln_single.emb.timestep_embedder
        nn.init.xavier_uniform_(patches.weight.view(patches.weight.shape[0], -1))
        captions = self.caption_projection
        small = (embedder.linear_1, embedder.linear_2, self.adaln_single.linear, captions.linear_1, captions.linear_2)
        for layer in small:
            nn.init.normal_(layer.weight, std=0.02)
        with torch.no_grad():
            for layer in (*(block.attn2.to_out[0] for block in self.transformer_blocks), self.proj_out):
                layer.weight.zero_()
                layer.bias.zero_()
