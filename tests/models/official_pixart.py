"""PixArt-alpha's forward pass written out in plain torch from its paper (Sec. 2.3), over diffusers' names.

Nothing here is shared with src/rdm.
"""

import math

import torch
from torch.nn import functional as F

from tests.models.official_latte import positions_in_a_square


def forward(weights, x, timesteps, captions, heads, patch):
    """x (B, C, h, w), timesteps (B,), captions: the hidden states of each, (tokens, width) -> (B, C', h, w)."""
    rows, _, height, _ = x.shape
    side, width = height // patch, weights["pos_embed.proj.bias"].shape[0]

    def linear(name, value):
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def modulated(value, shift, scale):
        return F.layer_norm(value, (width,), eps=1e-6) * (1 + scale) + shift

    def attend(name, value, context):
        q, k, v = (linear(f"{name}.to_{n}", t) for n, t in (("q", value), ("k", context), ("v", context)))
        size = width // heads
        mixed = []
        for own in (slice(head * size, (head + 1) * size) for head in range(heads)):
            mixed.append((q[:, own] @ k[:, own].T / math.sqrt(size)).softmax(-1) @ v[:, own])
        return linear(f"{name}.to_out.0", torch.cat(mixed, -1))

    outputs = []
    for row in range(rows):
        patches = x[row].unfold(1, patch, patch).unfold(2, patch, patch).permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1)
        state = patches @ weights["pos_embed.proj.weight"].flatten(1).T + weights["pos_embed.proj.bias"]
        state = state + positions_in_a_square(side, width)[0]
        angles = timesteps[row] * (-math.log(10000) * torch.arange(128) / 128).exp()
        name = "adaln_single.emb.timestep_embedder.linear"
        time = linear(f"{name}_2", F.silu(linear(f"{name}_1", torch.cat([angles.cos(), angles.sin()]))))
        six = linear("adaln_single.linear", F.silu(time)).view(6, width)
        text = F.gelu(linear("caption_projection.linear_1", captions[row]), approximate="tanh")
        text = linear("caption_projection.linear_2", text)
        depth = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("transformer_blocks."))
        for block in (f"transformer_blocks.{number}" for number in range(depth)):
            shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = weights[f"{block}.scale_shift_table"] + six
            normed = modulated(state, shift, scale)
            state = state + gate * attend(f"{block}.attn1", normed, normed)
            state = state + attend(f"{block}.attn2", state, text)
            hidden = linear(f"{block}.ff.net.0.proj", modulated(state, mlp_shift, mlp_scale))
            state = state + mlp_gate * linear(f"{block}.ff.net.2", F.gelu(hidden, approximate="tanh"))
        shift, scale = weights["scale_shift_table"] + time
        pixels = linear("proj_out", modulated(state, shift, scale)).view(side, side, patch, patch, -1)
        outputs.append(pixels.permute(4, 0, 2, 1, 3).reshape(-1, height, height))
    return torch.stack(outputs)
