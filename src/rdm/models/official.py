"""Import of what DiT's and Latte's authors published: the same tensors under diffusers' names, none dropped."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

from rdm.checkpoints import Tensors, check_dimensions, check_names, read_tensors, thirds
from rdm.errors import UsageError
from rdm.models.dit import DiT
from rdm.models.latte import Latte

LAYERS = {  # theirs: ours; each has a weight and a bias
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "embedder.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "embedder.timestep_embedder.linear_2",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
LAYERS_OF_A_BLOCK = {
    "attn.qkv": "attn1.to_{q,k,v}",  # thirds of the rows
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
LABELS = {"y_embedder.embedding_table.weight": "embedder.class_embedder.embedding_table.weight"}
FIXED = ("pos_embed", "temp_embed")  # sines and cosines, which the networks compute; DiT has the first alone


@torch.no_grad()
def import_transformer(file: Path, heads: int = 16) -> DiT | Latte:
    """The network of an official checkpoint, float32, in eval mode; sizes are those of its tensors.

    A Latte if it has `temp_embed`, else a DiT. heads: of the attention, which the tensors do not tell; 16 in all that
    was published of size XL. Raises UsageError if the file cannot be read, lacks a tensor, has one too many or one of a
    wrong shape, if its position embeddings are not the fixed ones, or the width is no multiple of `heads`.
    """
    theirs = read_tensors(file)
    kind = Latte if "temp_embed" in theirs else DiT
    fixed = FIXED if kind is Latte else FIXED[:1]
    names = _names(theirs, fixed)
    if len(names.keys() & theirs.keys()) < len(LAYERS):
        raise UsageError(
            f"{file} is no {kind.__name__}: its tensors have other names, {next(iter(theirs))} for one; give an "
            "official checkpoint."
        )
    check_names(file, kind.__name__, theirs, names)
    network: Any = kind(**_sizes(file, theirs, fixed, heads), heads=heads, frequency_shift=0).eval()
    ours = network.state_dict() | {"pos_embed": network.pos_embed.pos_embed}
    ours |= {name: getattr(network, name) for name in fixed[1:]}
    for name, own_names in names.items():
        own_shapes = [ours[own_name].shape for own_name in own_names]
        expected = (sum(shape[0] for shape in own_shapes), *own_shapes[0][1:])
        if theirs[name].shape != expected:
            raise UsageError(
                f"{file}: {name} has shape {tuple(theirs[name].shape)}, where the other tensors make it {expected}; "
                "give an official checkpoint."
            )
    for name in fixed:
        if not torch.allclose(theirs[name].float(), ours[name], rtol=0, atol=1e-4):
            raise UsageError(
                f"{file}: {name} is not the fixed sine-cosine embedding, which is all that this network computes; "
                "give a checkpoint whose embedding was not trained."
            )
    for name in names.keys() - set(fixed):
        for own_name, part in zip(names[name], theirs[name].chunk(len(names[name])), strict=True):
            ours[own_name].copy_(part)
    transformer: DiT | Latte = network
    return transformer


def _names(theirs: Tensors, fixed: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """For each tensor that a checkpoint of this depth must have, ours that it is cut into along its rows."""
    blocks = [int(found[1]) for name in theirs if (found := re.match(r"blocks\.(\d+)\.", name))]
    layers = dict(LAYERS)
    for number in range(max(blocks, default=0) + 1):
        layers |= {f"blocks.{number}.{t}": f"transformer_blocks.{number}.{o}" for t, o in LAYERS_OF_A_BLOCK.items()}
    names: dict[str, tuple[str, ...]] = {name: (name,) for name in fixed}
    names |= {f"{t}.{part}": thirds(f"{o}.{part}") for t, o in layers.items() for part in ("weight", "bias")}
    return names | {t: (o,) for t, o in LABELS.items() if t in theirs}


def _sizes(file: Path, theirs: Tensors, fixed: tuple[str, ...], heads: int) -> dict[str, Any]:
    """What the tensors' shapes say of the network, as its arguments. Raises UsageError if they contradict."""
    dimensions = {"x_embedder.proj.weight": 4, "final_layer.linear.weight": 2, **dict.fromkeys(fixed, 3)}
    check_dimensions(file, theirs, dimensions | {name: 2 for name in LABELS if name in theirs})
    width, channels, patch, _ = theirs["x_embedder.proj.weight"].shape
    if heads < 1 or width % heads or width % 4:
        raise UsageError(f"{file}: its width {width} is not a multiple of 4 and of {heads} heads; give other --heads.")
    tokens, rows = theirs["pos_embed"].shape[1], len(theirs["final_layer.linear.weight"])
    if rows not in (patch * patch * channels, 2 * patch * patch * channels) or math.isqrt(tokens) ** 2 != tokens:
        raise UsageError(
            f"{file}: an output of {rows} rows and {tokens} positions do not fit patches of {channels} x {patch} x "
            f"{patch} in a square; give an official checkpoint."
        )
    labels = [len(theirs[name]) for name in LABELS if name in theirs]
    if labels == [1]:
        raise UsageError(f"{file}: its label table has one row, for no class; give an official checkpoint.")
    return {
        "width": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in theirs if name.startswith("blocks.")),
        "patch": patch,
        "channels": channels,
        "size": math.isqrt(tokens) * patch,
        **({"frames": theirs["temp_embed"].shape[1]} if "temp_embed" in fixed else {}),
        "classes": labels[0] - 1 if labels else 0,  # the last row is that of the null label
        "learned_sigma": rows == 2 * patch * patch * channels,
    }
