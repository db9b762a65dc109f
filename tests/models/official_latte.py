"""The official DiT's and Latte's forward pass written out again from its description; and made-up checkpoints.

Keys and formulas: ../shared/facts/baselines.md, 1.1 and 1.3. Nothing here is shared with src/rdm.
"""

import math

import torch
from torch.nn.functional import silu


def sines(positions, width):
    """(n,) -> (n, width): sin, then cos, of position * 10000^(-i / (width / 2))."""
    rates = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = positions.double()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def positions_in_a_square(side, width):
    """MAE's: the first half of the channels tells the column, the second the row. (1, side^2, width)."""
    row, column = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    return torch.cat([sines(column, width // 2), sines(row, width // 2)], 1)[None].float()


def checkpoint(classes=3, width=16, depth=4, patch=2, channels=4, side=3, frames=3, parts=2, seed=0):
    """A state dict in the official layout, all weights random; parts: 2 with a learned variance; frames 0: a DiT."""
    random = torch.Generator().manual_seed(seed)
    sizes = {
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (parts * patch * patch * channels, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for block in range(depth):
        sizes |= {
            f"blocks.{block}.attn.qkv": (3 * width, width),
            f"blocks.{block}.attn.proj": (width, width),
            f"blocks.{block}.mlp.fc1": (4 * width, width),
            f"blocks.{block}.mlp.fc2": (width, 4 * width),
            f"blocks.{block}.adaLN_modulation.1": (6 * width, width),
        }
    sizes["x_embedder.proj"] = (width, channels, patch, patch)
    weights = {"pos_embed": positions_in_a_square(side, width)}
    if frames:
        weights["temp_embed"] = sines(torch.arange(frames), width)[None].float()
    for name, size in sizes.items():
        weights[f"{name}.weight"] = torch.randn(size, generator=random) / math.sqrt(math.prod(size[1:]))
        weights[f"{name}.bias"] = 0.3 * torch.randn(size[0], generator=random)
    if classes:
        weights["y_embedder.embedding_table.weight"] = torch.randn(classes + 1, width, generator=random)
    return weights


def forward(weights, clips, timesteps, labels, heads):
    """clips (B, F, C, h, w), of one frame for a DiT; timesteps (B,), labels (B,) or None -> (B, F, 2 C, h, w)."""

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def modulated(x, shift, scale):
        normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return normed * (1 + scale) + shift

    def attention(name, x):
        rows, length, width = x.shape
        q, k, v = linear(f"{name}.qkv", x).view(rows, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1) @ v
        return linear(f"{name}.proj", mixed.transpose(1, 2).reshape(rows, length, width))

    def block(name, x, condition):
        rows = linear(f"{name}.adaLN_modulation.1", silu(condition))[:, None].chunk(6, -1)
        x = x + rows[2] * attention(f"{name}.attn", modulated(x, rows[0], rows[1]))
        hidden = linear(f"{name}.mlp.fc1", modulated(x, rows[3], rows[4]))
        hidden = 0.5 * hidden * (1 + (math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)).tanh())
        return x + rows[5] * linear(f"{name}.mlp.fc2", hidden)

    angles = timesteps[:, None].float() * (-math.log(10000) / 128 * torch.arange(128)).exp()  # float32, as theirs
    condition = linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1))
    condition = linear("t_embedder.mlp.2", silu(condition))
    if labels is not None:
        condition = condition + weights["y_embedder.embedding_table.weight"][labels]

    patches = weights["x_embedder.proj.weight"]
    width, channels, p, _ = patches.shape
    number, frames, _, height, _ = clips.shape
    side = height // p
    cut = clips.reshape(number, frames, channels, side, p, side, p).permute(0, 1, 3, 5, 2, 4, 6)
    x = cut.reshape(number, frames, side * side, -1) @ patches.reshape(width, -1).T + weights["x_embedder.proj.bias"]
    x = x + weights["pos_embed"]
    for index in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))):
        if index == 1 and "temp_embed" in weights:
            x = x + weights["temp_embed"][0][:, None]
        if index % 2 == 0 or "temp_embed" not in weights:  # one frame after the other
            x = torch.stack([block(f"blocks.{index}", x[:, f], condition) for f in range(frames)], 1)
        else:  # one position after the other
            x = torch.stack([block(f"blocks.{index}", x[:, :, t], condition) for t in range(side * side)], 2)
    shift, scale = linear("final_layer.adaLN_modulation.1", silu(condition))[:, None, None].chunk(2, -1)
    x = linear("final_layer.linear", modulated(x, shift, scale))
    x = x.reshape(number, frames, side, side, p, p, -1).permute(0, 1, 6, 2, 4, 3, 5)
    return x.reshape(number, frames, -1, height, height)
