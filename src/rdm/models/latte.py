"""Latte (Ma et al., 2024), the class-conditional and the unconditional video transformer that the paper starts from.

DiT's block stack, in which blocks of even index attend over the tokens of each frame and those of odd index over the
frames at each position. What it has beside DiT is `temp_embed`, added once before the first temporal block.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.embeddings import PatchEmbed, get_1d_sincos_pos_embed_from_grid
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from rdm.models.dit import HandOn, conditioning_embedder, initialise

FEW = 16  # frames, of which a GPU's fused attention, in tiles of 64 x 128, takes longer than plain products


class Latte(ModelMixin, ConfigMixin):
    """A network over clips of `frames` latents of (channels, size, size); save_pretrained and from_pretrained work.

    classes: of the label embedding, whose last row (index `classes`) is the null label; 0: unconditional.
    frequency_shift: 0 as in the official code (frequencies 10000^(-i / 128)), 1 as in diffusers' DiT (i / 127).
    block_scale: adaLN-Zero's gates at the start; 0 makes every block the identity.
    learned_sigma: twice the output channels, epsilon first, then what the variance is interpolated by.
    """

    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        channels: int,
        size: int,
        frames: int,
        classes: int,
        label_std: float = 0.02,
        frequency_shift: int = 0,
        block_scale: int = 0,
        learned_sigma: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.pos_embed = PatchEmbed(size, size, patch, channels, width)
        self.embedder = conditioning_embedder(classes, width, frequency_shift)
        times = get_1d_sincos_pos_embed_from_grid(width, torch.arange(frames), output_type="pt").float()
        self.register_buffer("temp_embed", times[None], persistent=False)
        blocks = [_block(width, heads, classes) for _ in range(depth)]
        if frames <= FEW:
            for block in blocks[1::2]:
                block.attn1.set_processor(FewTokens())
        self.transformer_blocks = nn.ModuleList(blocks)
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, patch * patch * channels * (2 if learned_sigma else 1))
        initialise(self, label_std, block_scale)

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        """latents (B, F, C, h, w), timesteps (B,), labels (B,) if conditional -> (B, F, C or 2 C, h, w)."""
        clips, frames = latents.shape[:2]
        conditioning = self.embedder(timesteps, labels, hidden_dtype=latents.dtype)
        hidden = self.pos_embed(latents.flatten(0, 1))  # (B F, tokens, width)
        tokens = hidden.shape[1]
        of_frames, of_positions = conditioning.repeat_interleave(frames, 0), conditioning.repeat_interleave(tokens, 0)
        for number, block in enumerate(self.transformer_blocks):
            if number % 2 == 0:
                hidden = self._pass(block, hidden, of_frames)
                continue
            hidden = _swap(hidden, clips)  # (B tokens, F, width)
            if number == 1:
                # from_pretrained in half precision leaves the buffer in float32
                hidden = (hidden + self.temp_embed).to(hidden.dtype)
            hidden = _swap(self._pass(block, hidden, of_positions), clips)
        shift, scale = self.proj_out_1(F.silu(of_frames)).chunk(2, dim=1)
        hidden = self.proj_out_2(self.norm_out(hidden) * (1 + scale[:, None]) + shift[:, None])
        output: Tensor = self._to_latents(hidden).unflatten(0, (clips, frames))
        return output

    def _pass(self, block: nn.Module, hidden: Tensor, conditioning: Tensor) -> Tensor:
        """Through a block, of which (with gradient checkpointing) only the input is kept for the backward pass."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, hidden, None, None, None, conditioning)  # type: ignore[no-any-return]
        return block(hidden, timestep=conditioning)  # type: ignore[no-any-return]

    def _to_latents(self, hidden: Tensor) -> Tensor:
        """Tokens (N, tokens, patch * patch * C) -> latents (N, C, h, w)."""
        patch, side = self.config.patch, self.config.size // self.config.patch
        pixels = hidden.unflatten(2, (patch, patch, -1)).unflatten(1, (side, side))
        latents: Tensor = pixels.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return latents


class FewTokens(AttnProcessor2_0):
    """Attention over so few tokens that it is plain products on a GPU."""

    def __call__(self, attn: Attention, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """AttnProcessor2_0's, by other kernels."""
        with sdpa_kernel(SDPBackend.MATH) if hidden_states.is_cuda else nullcontext():
            attended: Tensor = super().__call__(attn, hidden_states, *args, **kwargs)
        return attended


def _block(width: int, heads: int, classes: int) -> BasicTransformerBlock:
    """DiT's adaLN-Zero block, which is given the embedding that the network made."""
    block = BasicTransformerBlock(
        width,
        heads,
        width // heads,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=classes,
        attention_bias=True,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    block.norm1.emb = HandOn()
    return block


def _swap(hidden: Tensor, clips: int) -> Tensor:
    """(clips * a, b, width) -> (clips * b, a, width): from the tokens of a frame to the frames of a token, or back."""
    swapped: Tensor = hidden.unflatten(0, (clips, -1)).transpose(1, 2).flatten(0, 1)
    return swapped
