"""Latent diffusion's U-Net (Rombach et al., 2022) of diffusers' layers, conditioned on a class or on text."""

from __future__ import annotations

from typing import Any

from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from rdm.params import network, schema

TOKEN = 512  # width of the class token that the cross-attention sees, as in LDM's ImageNet models


class AddedLabelUNet(UNet2DModel):
    """The label's embedding is added to the timestep's."""

    def __init__(self, parameters: schema.UNet, channels: int, size: int, classes: int) -> None:
        assert isinstance(parameters.heads, int)  # `check_shapes` has seen to it
        super().__init__(
            **_common(parameters, channels, size),
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in parameters.attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(parameters.attention)),
            attention_head_dim=max(parameters.block_channels) // parameters.heads,
            num_class_embeds=classes + parameters.null_label,
        )

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """latents (B, C, h, w), timesteps (B,), labels (B,) with `classes` as the null label -> (B, C, h, w)."""
        output: Tensor = super().forward(latents, timesteps, class_labels=labels, return_dict=False)[0]
        return output


class CrossAttentionUNet(UNet2DConditionModel):
    """The label's embedding is a token that every attention layer attends to, as in LDM's ImageNet models."""

    def __init__(self, parameters: schema.UNet, channels: int, size: int, classes: int) -> None:
        super().__init__(**_common(parameters, channels, size), **_attending(parameters, TOKEN))
        self.label_embedding = nn.Embedding(classes + parameters.null_label, TOKEN)

    def forward(self, latents: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """latents (B, C, h, w), timesteps (B,), labels (B,) with `classes` as the null label -> (B, C, h, w)."""
        token = self.label_embedding(labels)[:, None]
        output: Tensor = super().forward(latents, timesteps, token, return_dict=False)[0]
        return output


class TextUNet(UNet2DConditionModel):
    """Every attention layer attends to the tokens of a caption, as in LDM's text-to-image models.

    text: gives hidden states and mask of tokens; see `rdm.models.text`.
    """

    text: Any

    def __init__(self, parameters: network.TextUNet, channels: int, size: int, text: nn.Module) -> None:
        super().__init__(**_common(parameters, channels, size), **_attending(parameters, parameters.text.width))
        self.text = text

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """latents (B, C, h, w), timesteps (B,), tokens int64 (B, length) -> (B, C, h, w)."""
        hidden, is_token = self.text(tokens)
        output: Tensor = super().forward(
            latents, timesteps, hidden.to(latents.dtype), encoder_attention_mask=is_token, return_dict=False
        )[0]
        return output


def _attending(parameters: schema.UNet | network.TextUNet, width: int) -> dict[str, object]:
    """Cross-attention to tokens of this width."""
    return {
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in parameters.attention),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(parameters.attention)),
        "attention_head_dim": parameters.heads,  # diffusers' name; it is the number of heads here
        "cross_attention_dim": width,
    }


def _common(parameters: network.ConvolutionalUNet, channels: int, size: int) -> dict[str, object]:
    return {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": parameters.block_channels,
        "layers_per_block": parameters.layers_per_block,
        "norm_num_groups": parameters.norm_groups,
    }
