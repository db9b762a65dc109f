"""ADM's U-Net and its classifier of noisy images (Dhariwal & Nichol, 2021), of diffusers' layers."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block
from torch import Tensor, nn
from torch.nn import functional as F

from rdm.params import network as networks


class ADM(UNet2DModel):
    """Residual blocks resample, are modulated by timestep and label, and the variance is predicted, too."""

    def __init__(self, parameters: networks.ADM, channels: int, size: int, classes: int) -> None:
        attention = parameters.attention
        super().__init__(
            sample_size=size,
            in_channels=channels,
            out_channels=2 * channels,
            block_out_channels=parameters.block_channels,
            layers_per_block=parameters.layers_per_block,
            norm_num_groups=parameters.norm_groups,
            attn_norm_num_groups=parameters.norm_groups,  # else diffusers leaves the middle attention's out
            down_block_types=tuple(_block(attends, "Down") for attends in attention),
            up_block_types=tuple(_block(attends, "Up") for attends in reversed(attention)),
            downsample_type="resnet",
            upsample_type="resnet",
            resnet_time_scale_shift="scale_shift",
            attention_head_dim=max(parameters.block_channels) // parameters.heads,
            num_class_embeds=classes or None,
        )

    def forward(self, images: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """images (B, C, h, w), timesteps (B,), labels (B,), of no use without classes -> (B, 2 C, h, w)."""
        own_labels = labels if self.class_embedding is not None else None
        output: Tensor = super().forward(images, timesteps, class_labels=own_labels, return_dict=False)[0]
        return output


class NoisyClassifier(ModelMixin, ConfigMixin):
    """The left half of an ADM, and attention that pools what it sees: log-odds of the classes of a noisy image."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: int,
        size: int,
        classes: int,
        block_channels: tuple[int, ...],
        layers_per_block: int,
        norm_groups: int,
        attention: tuple[bool, ...],
        heads: int,
    ) -> None:
        super().__init__()
        entering, leaving = block_channels[0], block_channels[-1]
        common: dict[str, Any] = {
            "temb_channels": 4 * entering,
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": norm_groups,
            "resnet_time_scale_shift": "scale_shift",
            "attention_head_dim": max(block_channels) // heads,
        }
        self.time_proj = Timesteps(entering, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(entering, 4 * entering)
        self.conv_in = nn.Conv2d(channels, entering, 3, padding=1)
        self.down_blocks = nn.ModuleList(
            get_down_block(
                _block(attends, "Down"),
                num_layers=layers_per_block,
                in_channels=block_channels[max(level - 1, 0)],
                out_channels=block_channels[level],
                add_downsample=level < len(block_channels) - 1,
                downsample_type="resnet",
                **common,
            )
            for level, attends in enumerate(attention)
        )
        self.mid_block = UNetMidBlock2D(in_channels=leaving, attn_groups=norm_groups, **common)
        self.norm_out = nn.GroupNorm(norm_groups, leaving, eps=1e-5)
        positions = (size // 2 ** (len(block_channels) - 1)) ** 2
        self.pool = AttentionPool(leaving, leaving // common["attention_head_dim"], positions, classes)

    def forward(self, images: Tensor, timesteps: Tensor) -> Tensor:
        """images (B, C, h, w), timesteps (B,) -> log-odds (B, classes)."""
        embedding = self.time_embedding(self.time_proj(timesteps).to(images.dtype))
        hidden = self.conv_in(images)
        for block in self.down_blocks:
            hidden, _ = block(hidden, embedding)
        pooled: Tensor = self.pool(F.silu(self.norm_out(self.mid_block(hidden, embedding))))
        return pooled


class AttentionPool(nn.Module):
    """The mean over all positions attends to itself and to each of them (as in CLIP; Radford et al., 2021)."""

    def __init__(self, width: int, heads: int, positions: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.randn(positions + 1, width) / math.sqrt(width))
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in "qkv")
        self.to_out = nn.Linear(width, outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (B, width, h, w) -> (B, outputs)."""
        tokens = hidden.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.positions
        by_head = (layer.unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in self._project(tokens))
        pooled = F.scaled_dot_product_attention(*by_head).flatten(1)  # one query
        output: Tensor = self.to_out(pooled)
        return output

    def _project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.to_q(tokens[:, :1]), self.to_k(tokens), self.to_v(tokens)


def build_classifier(parameters: networks.ADM, channels: int, size: int, classes: int) -> NoisyClassifier:
    """A classifier with random weights, of images of so many channels and pixels a side."""
    sizes = parameters.model_dump(include={"block_channels", "layers_per_block", "norm_groups", "attention", "heads"})
    classifier: NoisyClassifier = NoisyClassifier(channels=channels, size=size, classes=classes, **sizes)
    return classifier


def _block(attends: bool, direction: str) -> str:
    """diffusers' name of a block whose residual blocks resample."""
    return f"Attn{direction}Block2D" if attends else f"Resnet{direction}sampleBlock2D"
