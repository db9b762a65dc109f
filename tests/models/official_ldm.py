"""Latent diffusion's class-conditional U-Net written out from its description, in plain torch; made-up checkpoints.

Keys and formulas: the official layout (input_blocks, middle_block, output_blocks), as the paper's appendix and the
released configuration describe it. Nothing here is shared with src/rdm.
"""

import math

import torch
from torch.nn import functional as F

PREFIX, CONTEXT = "model.diffusion_model.", 512


def plan(channels, layers, attention):
    """What each block holds: (name, kind, channels in, channels out, attends, resamples), in order of computation."""
    blocks, skips, width = [("input_blocks.0", "conv", None, channels[0], False, False)], [channels[0]], channels[0]
    number = 1
    for level, wanted in enumerate(channels):
        for _ in range(layers):
            blocks.append((f"input_blocks.{number}", "res", width, wanted, attention[level], False))
            width, number = wanted, number + 1
            skips.append(width)
        if level < len(channels) - 1:
            blocks.append((f"input_blocks.{number}", "down", width, width, False, False))
            number += 1
            skips.append(width)
    blocks.append(("middle_block", "middle", width, width, True, False))
    number = 0
    for level in reversed(range(len(channels))):
        for place in range(layers + 1):
            up = place == layers and level > 0
            entering = width + skips.pop()
            blocks.append((f"output_blocks.{number}", "res", entering, channels[level], attention[level], up))
            width, number = channels[level], number + 1
    return blocks


class Maker:
    """Random weights under official names."""

    def __init__(self, seed, time):
        self.random, self.weights, self.time = torch.Generator().manual_seed(seed), {}, time

    def layer(self, name, *size, bias=True):
        self.weights[f"{name}.weight"] = torch.randn(size, generator=self.random) / math.sqrt(math.prod(size[1:]))
        if bias:
            self.weights[f"{name}.bias"] = 0.2 * torch.randn(size[0], generator=self.random)

    def norm(self, name, size):
        self.weights[f"{name}.weight"] = 1 + 0.2 * torch.randn(size, generator=self.random)
        self.weights[f"{name}.bias"] = 0.2 * torch.randn(size, generator=self.random)

    def res(self, name, entering, leaving):
        self.norm(f"{name}.in_layers.0", entering)
        self.layer(f"{name}.in_layers.2", leaving, entering, 3, 3)
        self.layer(f"{name}.emb_layers.1", leaving, self.time)
        self.norm(f"{name}.out_layers.0", leaving)
        self.layer(f"{name}.out_layers.3", leaving, leaving, 3, 3)
        if entering != leaving:
            self.layer(f"{name}.skip_connection", leaving, entering, 1, 1)

    def transformer(self, name, width):
        self.norm(f"{name}.norm", width)
        self.layer(f"{name}.proj_in", width, width, 1, 1)
        self.layer(f"{name}.proj_out", width, width, 1, 1)
        inner = f"{name}.transformer_blocks.0"
        for number, context in ((1, width), (2, CONTEXT)):
            self.norm(f"{inner}.norm{number}", width)
            self.layer(f"{inner}.attn{number}.to_q", width, width, bias=False)
            self.layer(f"{inner}.attn{number}.to_k", width, context, bias=False)
            self.layer(f"{inner}.attn{number}.to_v", width, context, bias=False)
            self.layer(f"{inner}.attn{number}.to_out.0", width, width)
        self.norm(f"{inner}.norm3", width)
        self.layer(f"{inner}.ff.net.0.proj", 8 * width, width)
        self.layer(f"{inner}.ff.net.2", width, 4 * width)

    def block(self, name, kind, entering, leaving, attends, up):
        if kind == "conv":
            self.layer(f"{name}.0", leaving, entering, 3, 3)
        elif kind == "down":
            self.layer(f"{name}.0.op", leaving, entering, 3, 3)
        else:
            self.res(f"{name}.0", entering, leaving)
            if attends:
                self.transformer(f"{name}.1", leaving)
            if kind == "middle":
                self.res(f"{name}.2", leaving, leaving)
            if up:
                self.layer(f"{name}.{2 if attends else 1}.conv", leaving, leaving, 3, 3)


def checkpoint(channels=(32, 64), layers=1, attention=(False, True), latents=3, rows=6, seed=0):
    """A state dict in the official layout, all weights random, with a table that Lightning stores beside them."""
    make = Maker(seed, 4 * channels[0])
    make.layer("time_embed.0", make.time, channels[0])
    make.layer("time_embed.2", make.time, make.time)
    for name, kind, entering, *rest in plan(channels, layers, attention):
        make.block(name, kind, entering or latents, *rest)
    make.norm("out.0", channels[0])
    make.layer("out.2", latents, channels[0], 3, 3)
    labels = torch.randn(rows, CONTEXT, generator=make.random)
    stored = {PREFIX + name: tensor for name, tensor in make.weights.items()}
    return {"betas": torch.ones(4), **stored, "cond_stage_model.embedding.weight": labels}


class Network:
    """The forward pass."""

    def __init__(self, stored, timesteps, labels, width, tokens):
        self.weights = {name.removeprefix(PREFIX): tensor for name, tensor in stored.items()}
        self.tokens = stored["cond_stage_model.embedding.weight"][labels][:, None] if tokens is None else tokens
        angles = timesteps[:, None].float() * (-math.log(10000) * torch.arange(width // 2) / (width // 2)).exp()
        embedded = self.linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], 1))
        self.embedded = self.linear("time_embed.2", F.silu(embedded))

    def linear(self, name, value):
        return F.linear(value, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def conv(self, name, value, **options):
        return F.conv2d(value, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], **options)

    def norm(self, name, value, eps):
        return F.group_norm(value, 32, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps)

    def layer_norm(self, name, value):
        return F.layer_norm(value, value.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def res(self, name, value):
        hidden = self.conv(f"{name}.in_layers.2", F.silu(self.norm(f"{name}.in_layers.0", value, 1e-5)), padding=1)
        hidden = hidden + self.linear(f"{name}.emb_layers.1", F.silu(self.embedded))[:, :, None, None]
        hidden = self.conv(f"{name}.out_layers.3", F.silu(self.norm(f"{name}.out_layers.0", hidden, 1e-5)), padding=1)
        shortcut = f"{name}.skip_connection"
        return hidden + (self.conv(shortcut, value) if f"{shortcut}.weight" in self.weights else value)

    def attend(self, name, value, context, heads):
        q, k, v = (
            self.linear(f"{name}.to_{letter}", x) for letter, x in (("q", value), ("k", context), ("v", context))
        )
        size = q.shape[-1] // heads
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            mixed = (q[..., own] @ k[..., own].transpose(1, 2) / math.sqrt(size)).softmax(-1)
            parts.append(mixed @ v[..., own])
        return self.linear(f"{name}.to_out.0", torch.cat(parts, -1))

    def transformer(self, name, value, heads):
        rows, width, height, breadth = value.shape
        hidden = self.conv(f"{name}.proj_in", self.norm(f"{name}.norm", value, 1e-6)).flatten(2).transpose(1, 2)
        inner = f"{name}.transformer_blocks.0"
        normed = self.layer_norm(f"{inner}.norm1", hidden)
        hidden = hidden + self.attend(f"{inner}.attn1", normed, normed, heads)
        hidden = hidden + self.attend(f"{inner}.attn2", self.layer_norm(f"{inner}.norm2", hidden), self.tokens, heads)
        wide, gate = self.linear(f"{inner}.ff.net.0.proj", self.layer_norm(f"{inner}.norm3", hidden)).chunk(2, -1)
        hidden = hidden + self.linear(f"{inner}.ff.net.2", wide * F.gelu(gate))
        return value + self.conv(f"{name}.proj_out", hidden.transpose(1, 2).reshape(rows, width, height, breadth))

    def block(self, name, kind, x, heads, attends, up):
        if kind == "conv":
            return self.conv(f"{name}.0", x, padding=1)
        if kind == "down":
            return self.conv(f"{name}.0.op", x, stride=2, padding=1)
        x = self.res(f"{name}.0", x)
        x = self.transformer(f"{name}.1", x, heads) if attends else x
        x = self.res(f"{name}.2", x) if kind == "middle" else x
        if not up:
            return x
        return self.conv(f"{name}.{2 if attends else 1}.conv", F.interpolate(x, scale_factor=2), padding=1)


def forward(stored, x, timesteps, labels, heads, channels=(32, 64), layers=1, attention=(False, True), tokens=None):
    """x (B, C, h, w), timesteps (B,), labels (B,), or text tokens (B, L, CONTEXT) -> (B, C, h, w).

    heads: at each resolution.
    """
    network, skips, heads_of = (
        Network(stored, timesteps, labels, channels[0], tokens),
        [],
        dict(zip(channels, heads, strict=True)),
    )
    for name, kind, _, leaving, attends, up in plan(channels, layers, attention):
        x = torch.cat([x, skips.pop()], 1) if name.startswith("output") else x
        x = network.block(name, kind, x, heads_of[leaving], attends, up)
        if name.startswith("input"):
            skips.append(x)
    return network.conv("out.2", F.silu(network.norm("out.0", x, 1e-5)), padding=1)
