"""Diffusion transformer (Peebles & Xie, 2023) of diffusers' layers."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import CombinedTimestepLabelEmbeddings
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor, nn

from rdm.params import schema


class _Conditioning(nn.Module):
    """Stands where diffusers' blocks embed timestep and label: hands on the embedding that `DiT.forward` made."""

    def forward(self, timestep: Tensor, class_labels: None, hidden_dtype: torch.dtype | None = None) -> Tensor:  # noqa: ARG002
        return timestep


class DiT(DiTTransformer2DModel):
    """The official DiT: one embedding of timestep and label for all blocks, and DiT's own epsilon in LayerNorm.

    diffusers gives each block an embedding of its own (28 copies in DiT-XL/2), whose frequencies differ from the
    official ones: see `frequency_shift`.
    """

    def __init__(self, parameters: schema.DiT, channels: int, size: int, classes: int) -> None:
        super().__init__(
            num_attention_heads=parameters.heads,
            attention_head_dim=parameters.width // parameters.heads,
            in_channels=channels,
            num_layers=parameters.depth,
            sample_size=size,
            patch_size=parameters.patch,
            num_embeds_ada_norm=classes,
            norm_eps=1e-6,
        )
        self.embedder = CombinedTimestepLabelEmbeddings(classes, parameters.width)
        self.embedder.time_proj.downscale_freq_shift = parameters.frequency_shift
        self.embedder.class_embedder.dropout_prob = 0.0  # the training loop drops labels, from (seed, step)
        for block in self.transformer_blocks:
            block.norm1.emb = _Conditioning()
        self._initialise(parameters.label_std)

    def _initialise(self, label_std: float) -> None:
        """DiT's own start: Xavier everywhere, adaLN and the output layers zero, so that each block is the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        patches = self.pos_embed.proj
        nn.init.xavier_uniform_(patches.weight.view(patches.weight.shape[0], -1))
        nn.init.zeros_(patches.bias)
        nn.init.normal_(self.embedder.class_embedder.embedding_table.weight, std=label_std)
        for layer in (self.embedder.timestep_embedder.linear_1, self.embedder.timestep_embedder.linear_2):
            nn.init.normal_(layer.weight, std=0.02)
        for layer in (*(block.norm1.linear for block in self.transformer_blocks), self.proj_out_1, self.proj_out_2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """latents (B, C, h, w), timesteps (B,), labels (B,) with `classes` as the null label -> (B, C, h, w)."""
        conditioning = self.embedder(timesteps, labels, hidden_dtype=latents.dtype)
        output: Tensor = super().forward(latents, timestep=conditioning, return_dict=False)[0]
        return output
