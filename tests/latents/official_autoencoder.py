"""Latent diffusion's autoencoders written out from their description, in plain torch; and made-up checkpoints.

Encoder and decoder as in the official layout (down, mid, up), a codebook or a normal distribution between them. Nothing
here is shared with src/rdm.
"""

import math

import torch
from torch.nn import functional as F


class Maker:
    """Random weights under official names."""

    def __init__(self, seed):
        self.random, self.weights = torch.Generator().manual_seed(seed), {}

    def conv(self, name, leaving, entering, side=3):
        size = (leaving, entering, side, side)
        self.weights[f"{name}.weight"] = torch.randn(size, generator=self.random) / math.sqrt(math.prod(size[1:]))
        self.weights[f"{name}.bias"] = 0.2 * torch.randn(leaving, generator=self.random)

    def norm(self, name, width):
        self.weights[f"{name}.weight"] = 1 + 0.2 * torch.randn(width, generator=self.random)
        self.weights[f"{name}.bias"] = 0.2 * torch.randn(width, generator=self.random)

    def res(self, name, entering, leaving):
        self.norm(f"{name}.norm1", entering)
        self.conv(f"{name}.conv1", leaving, entering)
        self.norm(f"{name}.norm2", leaving)
        self.conv(f"{name}.conv2", leaving, leaving)
        if entering != leaving:
            self.conv(f"{name}.nin_shortcut", leaving, entering, 1)

    def attention(self, name, width):
        self.norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            self.conv(f"{name}.{part}", width, width, 1)

    def middle(self, name, width):
        self.res(f"{name}.mid.block_1", width, width)
        self.attention(f"{name}.mid.attn_1", width)
        self.res(f"{name}.mid.block_2", width, width)


def checkpoint(channels, attention, layers=1, latents=3, entries=7, colours=3, seed=0):
    """A state dict in the official layout, all weights random. entries: of the codebook; 0: a normal distribution."""
    make, width, moments = Maker(seed), channels[0], latents if entries else 2 * latents
    make.conv("encoder.conv_in", width, colours)
    for level, wanted in enumerate(channels):
        for block in range(layers):
            make.res(f"encoder.down.{level}.block.{block}", width, wanted)
            width = wanted
            if attention[level]:
                make.attention(f"encoder.down.{level}.attn.{block}", width)
        if level < len(channels) - 1:
            make.conv(f"encoder.down.{level}.downsample.conv", width, width)
    make.middle("encoder", width)
    make.norm("encoder.norm_out", width)
    make.conv("encoder.conv_out", moments, width)
    make.conv("quant_conv", moments, moments, 1)
    make.conv("post_quant_conv", latents, latents, 1)
    make.conv("decoder.conv_in", width, latents)
    make.middle("decoder", width)
    for level in reversed(range(len(channels))):
        for block in range(layers + 1):
            make.res(f"decoder.up.{level}.block.{block}", width, channels[level])
            width = channels[level]
            if attention[level]:
                make.attention(f"decoder.up.{level}.attn.{block}", width)
        if level:
            make.conv(f"decoder.up.{level}.upsample.conv", width, width)
    make.norm("decoder.norm_out", width)
    make.conv("decoder.conv_out", colours, width)
    if entries:
        make.weights["quantize.embedding.weight"] = torch.randn(entries, latents, generator=make.random)
    return make.weights


class Network:
    """Both passes."""

    def __init__(self, weights, channels, attention, layers=1):
        self.weights, self.levels, self.attends, self.layers = weights, len(channels), attention, layers

    def conv(self, name, x, **options):
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], **{"padding": weight.shape[-1] // 2} | options)

    def norm(self, name, x):
        return F.group_norm(x, 32, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-6)

    def res(self, name, x):
        hidden = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)))
        hidden = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", hidden)))
        return hidden + (self.conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.weights else x)

    def attention(self, name, x):
        normed = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", normed).flatten(2) for part in "qkv")  # (N, C, places)
        share = (q.transpose(1, 2) @ k / math.sqrt(x.shape[1])).softmax(-1)
        return x + self.conv(f"{name}.proj_out", (v @ share.transpose(1, 2)).view_as(x))

    def middle(self, name, x):
        x = self.attention(f"{name}.mid.attn_1", self.res(f"{name}.mid.block_1", x))
        return self.res(f"{name}.mid.block_2", x)

    def level(self, half, number, blocks, x):
        for block in range(blocks):
            x = self.res(f"{half}.{number}.block.{block}", x)
            x = self.attention(f"{half}.{number}.attn.{block}", x) if self.attends[number] else x
        return x

    def encode(self, x):
        """(N, colours, H, W) -> latents before quantisation, or mean and log of the variance along the channels."""
        x = self.conv("encoder.conv_in", x)
        for number in range(self.levels):
            x = self.level("encoder.down", number, self.layers, x)
            if number < self.levels - 1:
                padded = F.pad(x, (0, 1, 0, 1))
                x = self.conv(f"encoder.down.{number}.downsample.conv", padded, stride=2, padding=0)
        x = F.silu(self.norm("encoder.norm_out", self.middle("encoder", x)))
        return self.conv("quant_conv", self.conv("encoder.conv_out", x))

    def decode(self, z):
        """(N, c, h, w) -> (N, colours, H, W); each place is the codebook's nearest entry first."""
        book = self.weights.get("quantize.embedding.weight")
        if book is not None:
            distances = (z.permute(0, 2, 3, 1)[..., None, :] - book).square().sum(-1)
            z = book[distances.argmin(-1)].permute(0, 3, 1, 2)
        x = self.middle("decoder", self.conv("decoder.conv_in", self.conv("post_quant_conv", z)))
        for number in reversed(range(self.levels)):
            x = self.level("decoder.up", number, self.layers + 1, x)
            if number:
                x = self.conv(f"decoder.up.{number}.upsample.conv", F.interpolate(x, scale_factor=2))
        return self.conv("decoder.conv_out", F.silu(self.norm("decoder.norm_out", x)))
