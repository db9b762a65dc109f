"""Import of the checkpoints that Latte's authors published: the same tensors under diffusers' names, none dropped."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rdm.errors import UsageError
from rdm.models.latte import Latte
from rdm.provenance.files import whole_folder

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
FIXED = ("pos_embed", "temp_embed")  # sines and cosines, which a Latte computes


def convert_latte(file: Path, folder: Path, heads: int = 16) -> Path:
    """Write an official checkpoint as a new folder that Latte.from_pretrained loads; returns the folder.

    Raises UsageError if the folder exists, or the file is not what `import_latte` needs.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already; name a new folder, or remove it.")
    network = import_latte(file, heads)
    with whole_folder(folder) as scratch:
        network.save_pretrained(scratch)
    return folder


@torch.no_grad()
def import_latte(file: Path, heads: int = 16) -> Latte:
    """The network of an official checkpoint, float32, in eval mode; sizes are those of its tensors.

    heads: of the attention, which the tensors do not tell; 16 in all that was published.
    Raises UsageError if the file cannot be read, lacks a tensor, has one too many or one of a wrong shape, if its
    position embeddings are not the fixed ones, or the width is no multiple of `heads`.
    """
    theirs = _read(file)
    names = _names(theirs)
    _check_names(file, theirs, names)
    network: Latte = Latte(**_sizes(file, theirs, heads), heads=heads, frequency_shift=0).eval()
    ours = network.state_dict() | {"pos_embed": network.pos_embed.pos_embed, "temp_embed": network.temp_embed}
    for name, own_names in names.items():
        own_shapes = [ours[own_name].shape for own_name in own_names]
        expected = (sum(shape[0] for shape in own_shapes), *own_shapes[0][1:])
        if theirs[name].shape != expected:
            raise UsageError(
                f"{file}: {name} has shape {tuple(theirs[name].shape)}, where the other tensors make it {expected}; "
                "give an official Latte checkpoint."
            )
    for name in FIXED:
        if not torch.allclose(theirs[name].float(), ours[name], rtol=0, atol=1e-4):
            raise UsageError(
                f"{file}: {name} is not the fixed sine-cosine embedding, which is all that this network computes; "
                "give a checkpoint whose embedding was not trained."
            )
    for name in names.keys() - set(FIXED):
        for own_name, part in zip(names[name], theirs[name].chunk(len(names[name])), strict=True):
            ours[own_name].copy_(part)
    return network


def _read(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, the averaged ones if it holds several sets."""
    if not file.is_file():
        raise UsageError(f"{file} is no file; name a checkpoint of Latte's, for example ucf101.pt.")
    try:
        content: Any = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    except pickle.UnpicklingError:
        raise UsageError(
            f"{file} is damaged, or holds more than tensors, which could run code and is not loaded; download it "
            "again, or (if you trust it) save its tensors alone."
        ) from None
    except Exception as error:  # whatever a foreign file makes torch raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{file} cannot be read as a torch checkpoint ({reason}); download it again.") from None
    for part in ("ema", "model"):
        if isinstance(content, dict) and isinstance(content.get(part), dict):
            content = content[part]
    weights = content if isinstance(content, dict) else {}
    if not weights or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in weights.items()):
        raise UsageError(f"{file} holds no state dict (tensors by name); give an official Latte checkpoint.")
    return weights


def _names(theirs: dict[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """For each tensor that a checkpoint of this depth must have, ours that it is cut into along its rows."""
    blocks = [int(found[1]) for name in theirs if (found := re.match(r"blocks\.(\d+)\.", name))]
    layers = dict(LAYERS)
    for number in range(max(blocks, default=0) + 1):
        layers |= {f"blocks.{number}.{t}": f"transformer_blocks.{number}.{o}" for t, o in LAYERS_OF_A_BLOCK.items()}
    names: dict[str, tuple[str, ...]] = {name: (name,) for name in FIXED}
    names |= {f"{t}.{part}": _thirds(f"{o}.{part}") for t, o in layers.items() for part in ("weight", "bias")}
    return names | {t: (o,) for t, o in LABELS.items() if t in theirs}


def _thirds(name: str) -> tuple[str, ...]:
    return tuple(name.replace("{q,k,v}", letter) for letter in "qkv") if "{q,k,v}" in name else (name,)


def _check_names(file: Path, theirs: dict[str, Tensor], names: dict[str, tuple[str, ...]]) -> None:
    """Raise UsageError with every tensor that is missing or that nothing is known of."""
    if len(names.keys() & theirs.keys()) < len(LAYERS):
        raise UsageError(
            f"{file} is no Latte: its tensors have other names, {next(iter(theirs))} for one; give an official Latte "
            "checkpoint."
        )
    missing, unexpected = sorted(names.keys() - theirs.keys()), sorted(theirs.keys() - names.keys())
    if missing or unexpected:
        raise UsageError(
            f"{file} is not a whole Latte or more than one: missing are {', '.join(missing) or 'none'}, unexpected "
            f"{', '.join(unexpected) or 'none'}; give an official Latte checkpoint."
        )


def _sizes(file: Path, theirs: dict[str, Tensor], heads: int) -> dict[str, Any]:
    """What the tensors' shapes say of the network, as arguments of Latte. Raises UsageError if they contradict."""
    dimensions = {"x_embedder.proj.weight": 4, "final_layer.linear.weight": 2, **dict.fromkeys(FIXED, 3)}
    for name, number in (dimensions | {name: 2 for name in LABELS if name in theirs}).items():
        if theirs[name].ndim != number or 0 in theirs[name].shape:
            raise UsageError(
                f"{file}: {name} has shape {tuple(theirs[name].shape)}, where {number} dimensions are needed; "
                "give an official Latte checkpoint."
            )
    width, channels, patch, _ = theirs["x_embedder.proj.weight"].shape
    if heads < 1 or width % heads or width % 4:
        raise UsageError(f"{file}: its width {width} is not a multiple of 4 and of {heads} heads; give other --heads.")
    tokens, rows = theirs["pos_embed"].shape[1], len(theirs["final_layer.linear.weight"])
    if rows not in (patch * patch * channels, 2 * patch * patch * channels) or math.isqrt(tokens) ** 2 != tokens:
        raise UsageError(
            f"{file}: an output of {rows} rows and {tokens} positions do not fit patches of {channels} x {patch} x "
            f"{patch} in a square; give an official Latte checkpoint."
        )
    labels = [len(theirs[name]) for name in LABELS if name in theirs]
    if labels == [1]:
        raise UsageError(f"{file}: its label table has one row, for no class; give an official Latte checkpoint.")
    return {
        "width": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in theirs if name.startswith("blocks.")),
        "patch": patch,
        "channels": channels,
        "size": math.isqrt(tokens) * patch,
        "frames": theirs["temp_embed"].shape[1],
        "classes": labels[0] - 1 if labels else 0,  # the last row is that of the null label
        "learned_sigma": rows == 2 * patch * patch * channels,
    }
