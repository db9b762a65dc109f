"""ADM's U-Net and its classifier written out from their description, in plain torch; made-up checkpoints.

Keys and formulas: the official layout (input_blocks, middle_block, output_blocks), as the paper's appendix and the
released flags describe it. Nothing here is shared with src/rdm.
"""

import math

import torch
from torch.nn import functional as F


def plan(channels, layers, attention, decoder=True):
    """What each block holds, in order of computation: (name, channels in, channels out, attends, resamples)."""
    blocks, skips, width, number = [], [channels[0]], channels[0], 1
    for level, wanted in enumerate(channels):
        for _ in range(layers):
            blocks.append((f"input_blocks.{number}", width, wanted, attention[level], None))
            width, number = wanted, number + 1
            skips.append(width)
        if level < len(channels) - 1:
            blocks.append((f"input_blocks.{number}", width, width, False, "down"))
            number += 1
            skips.append(width)
    blocks.append(("middle_block", width, width, True, None))
    number = 0
    for level in reversed(range(len(channels))) if decoder else ():
        for place in range(layers + 1):
            resamples = "up" if place == layers and level > 0 else None
            entering, width = width + skips.pop(), channels[level]
            blocks.append((f"output_blocks.{number}", entering, width, attention[level], resamples))
            number += 1
    return blocks


class Maker:
    """Random weights under official names."""

    def __init__(self, seed, time):
        self.random, self.weights, self.time = torch.Generator().manual_seed(seed), {}, time

    def layer(self, name, *size):
        self.weights[f"{name}.weight"] = torch.randn(size, generator=self.random) / math.sqrt(math.prod(size[1:]))
        self.weights[f"{name}.bias"] = 0.2 * torch.randn(size[0], generator=self.random)

    def norm(self, name, size):
        self.weights[f"{name}.weight"] = 1 + 0.2 * torch.randn(size, generator=self.random)
        self.weights[f"{name}.bias"] = 0.2 * torch.randn(size, generator=self.random)

    def res(self, name, entering, leaving):
        self.norm(f"{name}.in_layers.0", entering)
        self.layer(f"{name}.in_layers.2", leaving, entering, 3, 3)
        self.layer(f"{name}.emb_layers.1", 2 * leaving, self.time)
        self.norm(f"{name}.out_layers.0", leaving)
        self.layer(f"{name}.out_layers.3", leaving, leaving, 3, 3)
        if entering != leaving:
            self.layer(f"{name}.skip_connection", leaving, entering, 1, 1)

    def attention(self, name, width):
        self.norm(f"{name}.norm", width)
        self.layer(f"{name}.qkv", 3 * width, width, 1)
        self.layer(f"{name}.proj_out", width, width, 1)

    def trunk(self, colours, channels, blocks):
        self.layer("time_embed.0", self.time, channels[0])
        self.layer("time_embed.2", self.time, self.time)
        self.layer("input_blocks.0.0", channels[0], colours, 3, 3)
        for name, entering, leaving, attends, resamples in blocks:
            self.res(f"{name}.0", entering, leaving)
            if attends:
                self.attention(f"{name}.1", leaving)
            if name == "middle_block":
                self.res(f"{name}.2", leaving, leaving)
            if resamples == "up":
                self.res(f"{name}.{2 if attends else 1}", leaving, leaving)


def checkpoint(channels=(32, 32, 64), layers=1, attention=(False, True, True), classes=5, colours=3, seed=0):
    """The denoiser's state dict in the official layout, all weights random; without classes it is unconditional."""
    make = Maker(seed, 4 * channels[0])
    make.trunk(colours, channels, plan(channels, layers, attention))
    if classes:
        make.weights["label_emb.weight"] = torch.randn(classes, make.time, generator=make.random)
    make.norm("out.0", channels[0])
    make.layer("out.2", 2 * colours, channels[0], 3, 3)
    return make.weights


def classifier(channels=(32, 32, 64), layers=1, attention=(False, True, True), classes=5, colours=3, side=16, seed=0):
    """The classifier's, for images of so many pixels a side."""
    make, width = Maker(seed, 4 * channels[0]), channels[-1]
    make.trunk(colours, channels, plan(channels, layers, attention, decoder=False))
    make.norm("out.0", width)
    positions = (side // 2 ** (len(channels) - 1)) ** 2
    make.weights["out.2.positional_embedding"] = torch.randn(width, positions + 1, generator=make.random)
    make.layer("out.2.qkv_proj", 3 * width, width, 1)
    make.layer("out.2.c_proj", classes, width, 1)
    return make.weights


class Network:
    """The parts of the forward pass."""

    def __init__(self, weights, timesteps, width, head):
        self.weights, self.head = weights, head
        angles = timesteps[:, None].float() * (-math.log(10000) * torch.arange(width // 2) / (width // 2)).exp()
        embedded = self.linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], 1))
        self.embedded = self.linear("time_embed.2", F.silu(embedded))

    def linear(self, name, value):
        return F.linear(value, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def conv(self, name, value):
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(value, weight, self.weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(self, name, value):
        return F.group_norm(value, 32, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-5)

    def res(self, name, value, resamples):
        hidden = F.silu(self.norm(f"{name}.in_layers.0", value))
        if resamples == "down":
            hidden, value = F.avg_pool2d(hidden, 2), F.avg_pool2d(value, 2)
        if resamples == "up":
            hidden, value = (x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (hidden, value))
        hidden = self.conv(f"{name}.in_layers.2", hidden)
        scale, shift = self.linear(f"{name}.emb_layers.1", F.silu(self.embedded))[:, :, None, None].chunk(2, 1)
        hidden = self.norm(f"{name}.out_layers.0", hidden) * (1 + scale) + shift
        hidden = self.conv(f"{name}.out_layers.3", F.silu(hidden))
        shortcut = f"{name}.skip_connection"
        return hidden + (self.conv(shortcut, value) if f"{shortcut}.weight" in self.weights else value)

    def tokenwise(self, name, value):
        """A convolution over one position: (B, channels, positions)."""
        weight = self.weights[f"{name}.weight"][:, :, 0]
        return torch.einsum("oc,bct->bot", weight, value) + self.weights[f"{name}.bias"][:, None]

    def mix(self, q, k, v):
        """One head: (B, channels, positions) each."""
        return v @ (q.transpose(1, 2) @ k / math.sqrt(self.head)).softmax(-1).transpose(1, 2)

    def attention(self, name, value):
        """The rows of qkv: query, key, value of the first head, then of the second, and so on."""
        qkv = self.tokenwise(f"{name}.qkv", self.norm(f"{name}.norm", value).flatten(2))
        heads = [self.mix(*head.split(self.head, 1)) for head in qkv.split(3 * self.head, 1)]
        return value + self.tokenwise(f"{name}.proj_out", torch.cat(heads, 1)).reshape(value.shape)

    def block(self, name, x, attends, resamples):
        x = self.res(f"{name}.0", x, resamples if resamples == "down" else None)
        x = self.attention(f"{name}.1", x) if attends else x
        x = self.res(f"{name}.2", x, None) if name == "middle_block" else x
        return self.res(f"{name}.{2 if attends else 1}", x, "up") if resamples == "up" else x

    def pool(self, hidden):
        """The rows of qkv: queries of all heads, then keys, then values; the first token is the mean."""
        tokens = hidden.flatten(2)
        tokens = torch.cat([tokens.mean(2, keepdim=True), tokens], 2) + self.weights["out.2.positional_embedding"]
        parts = (part.split(self.head, 1) for part in self.tokenwise("out.2.qkv_proj", tokens).chunk(3, 1))
        heads = [self.mix(*head) for head in zip(*parts, strict=True)]
        return self.tokenwise("out.2.c_proj", torch.cat(heads, 1))[:, :, 0]


def forward(weights, x, timesteps, labels, head, channels=(32, 32, 64), layers=1, attention=(False, True, True)):
    """x (B, C, h, w), timesteps (B,), labels (B,) -> (B, 2 C, h, w). head: channels of an attention head."""
    network, skips = Network(weights, timesteps, channels[0], head), []
    if "label_emb.weight" in weights:
        network.embedded = network.embedded + weights["label_emb.weight"][labels]
    x = network.conv("input_blocks.0.0", x)
    skips.append(x)
    for name, _, _, attends, resamples in plan(channels, layers, attention):
        x = torch.cat([x, skips.pop()], 1) if name.startswith("output") else x
        x = network.block(name, x, attends, resamples)
        if name.startswith("input"):
            skips.append(x)
    return network.conv("out.2", F.silu(network.norm("out.0", x)))


def classify(weights, x, timesteps, head, channels=(32, 32, 64), layers=1, attention=(False, True, True)):
    """x (B, C, h, w), timesteps (B,) -> log-odds (B, classes)."""
    network = Network(weights, timesteps, channels[0], head)
    x = network.conv("input_blocks.0.0", x)
    for name, _, _, attends, resamples in plan(channels, layers, attention, decoder=False):
        x = network.block(name, x, attends, resamples)
    return network.pool(F.silu(network.norm("out.0", x)))
