"""Import of what ADM's authors published, denoisers and classifiers: the same tensors under our names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor

from rdm.checkpoints import Tensors, check_dimensions, check_names, read_tensors, thirds
from rdm.errors import UsageError
from rdm.models.adm import ADM, NoisyClassifier, build_classifier
from rdm.params import network as networks

FIRST = "input_blocks.0.0.weight"
POSITIONS = "out.2.positional_embedding"  # of a classifier's pooling
LABELS = "label_emb.weight"
LAYERS = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}
# either of both has a last normalisation; theirs: ours, each a weight and a bias
LAST = {"out.0": "conv_norm_out", "out.2": "conv_out"}
LAST_OF_CLASSIFIER = {"out.0": "norm_out", "out.2.qkv_proj": "pool.to_{q,k,v}", "out.2.c_proj": "pool.to_out"}
LAYERS_OF_A_BLOCK = {  # of a residual block, and of an attention block
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "qkv": "to_{q,k,v}",
    "proj_out": "to_out.0",
}
HEAD = 64  # channels of an attention head
OTHER_ATTENTION = {  # published with heads of another number or order, which the tensors do not tell
    ((192, 384, 576, 768), 3): "64x64",
    ((256, 256, 512, 768, 1024), 2): "128x128",
}


@torch.no_grad()
def import_adm(file: Path, heads: int | None = None) -> ADM | NoisyClassifier:
    """The network of an official checkpoint, float32, in eval mode; sizes are those of its tensors.

    heads: of the attention at the widest resolution, which the tensors do not tell; None: 64 channels each, as in all
    that was published for 256x256. Raises UsageError if the file cannot be read, is none of these, or lacks a tensor,
    has one too many or one of a wrong shape.
    """
    theirs = read_tensors(file)
    if FIRST not in theirs or not {"out.2.weight", POSITIONS} & theirs.keys():
        raise UsageError(f"{file} is no ADM: it has no {FIRST}, or no out.2; give an official checkpoint.")
    sizes, channels = _sizes(file, theirs, heads), theirs[FIRST].shape[1]
    halvings = len(sizes.block_channels) - 1
    if POSITIONS in theirs:
        check_dimensions(file, theirs, {POSITIONS: 2, "out.2.c_proj.weight": 3})
        side = math.isqrt(theirs[POSITIONS].shape[1] - 1)
        network: ADM | NoisyClassifier = build_classifier(
            sizes, channels, side * 2**halvings, len(theirs["out.2.c_proj.weight"])
        )
    else:
        _check_denoiser(file, theirs, sizes, channels)
        network = ADM(sizes, channels, 2**halvings, len(theirs.get(LABELS, ())))  # of any size
    ours = network.state_dict()
    names = _names(sizes, ours)
    check_names(file, type(network).__name__, theirs, names)
    for name, own_names in names.items():
        _check_shape(file, name, theirs[name], ours[own_names[0]], len(own_names))
        # attention within the network keeps query, key and value of a head together, the pooling all queries
        groups = 1 if name.startswith("out.") else len(ours[own_names[0]]) // (max(sizes.block_channels) // sizes.heads)
        for own_name, part in zip(own_names, _parts(theirs[name], len(own_names), groups), strict=True):
            own = ours[own_name]
            own.copy_(part.T if name == POSITIONS else part.reshape(own.shape))
    network.eval()
    return network


def _parts(tensor: Tensor, number: int, groups: int) -> Iterator[Tensor]:
    """A tensor cut into `number` along its rows, within each of so many groups of rows."""
    if number == 1:
        yield tensor
        return
    yield from tensor.unflatten(0, (groups, number, -1)).unbind(1)


def _check_shape(file: Path, name: str, tensor: Tensor, own: Tensor, number: int) -> None:
    """Theirs is as ours; linear layers are convolutions over one position, and positions are columns."""
    expected = (number * len(own), *own.shape[1:])
    if name == POSITIONS:
        expected = tuple(own.T.shape)
    elif own.ndim == 2 and name.rsplit(".", 2)[1] in ("qkv", "proj_out", "qkv_proj", "c_proj"):
        expected = (*expected, 1)
    if tensor.shape != expected:
        raise UsageError(
            f"{file}: {name} has shape {tuple(tensor.shape)}, where the other tensors make it {expected}; give an "
            "official checkpoint."
        )


def _check_denoiser(file: Path, theirs: Tensors, sizes: networks.ADM, channels: int) -> None:
    """Refuse what looks like an ADM, and is computed otherwise."""
    check_dimensions(file, theirs, {"out.2.weight": 4} | {name: 2 for name in [LABELS] if name in theirs})
    if len(theirs["out.2.weight"]) != 2 * channels:
        raise UsageError(
            f"{file}: {len(theirs['out.2.weight'])} channels come out where {channels} enter; a mean and a variance of "
            "each are needed, so upsamplers cannot be imported."
        )
    other = OTHER_ATTENTION.get((sizes.block_channels, sizes.layers_per_block))
    if other is not None:
        raise UsageError(
            f"{file} is ADM for {other}, whose attention has other heads; those for 256x256 and 512x512 can be taken."
        )


def _names(sizes: networks.ADM, ours: Tensors) -> dict[str, tuple[str, ...]]:
    """For each tensor that a checkpoint of these sizes must have, ours that it is cut into along its rows."""
    layers = LAYERS | (LAST if "conv_out.weight" in ours else LAST_OF_CLASSIFIER) | {"input_blocks.0.0": "conv_in"}
    for theirs, own in _blocks(sizes):
        layers |= {f"{theirs}.{t}": f"{own}.{o}" for t, o in LAYERS_OF_A_BLOCK.items()}
    names = {f"{t}.{part}": thirds(f"{o}.{part}") for t, o in layers.items() for part in ("weight", "bias")}
    names |= {LABELS: ("class_embedding.weight",), POSITIONS: ("pool.positions",)}
    return {name: own for name, own in names.items() if own[0] in ours}


def _blocks(sizes: networks.ADM) -> Iterator[tuple[str, str]]:
    """Residual and attention blocks, theirs and ours; the first of the two alone where there is no attention."""
    levels, layers, number = len(sizes.block_channels), sizes.layers_per_block, 1
    for level in range(levels):
        for layer in range(layers):
            yield f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{layer}"
            yield f"input_blocks.{number}.1", f"down_blocks.{level}.attentions.{layer}"
            number += 1
        yield f"input_blocks.{number}.0", f"down_blocks.{level}.downsamplers.0"
        number += 1
    yield "middle_block.0", "mid_block.resnets.0"
    yield "middle_block.1", "mid_block.attentions.0"
    yield "middle_block.2", "mid_block.resnets.1"
    for level in range(levels):
        for layer in range(layers + 1):
            number = level * (layers + 1) + layer
            yield f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{layer}"
            yield f"output_blocks.{number}.1", f"up_blocks.{level}.attentions.{layer}"
        place = 2 if sizes.attention[levels - 1 - level] else 1
        yield f"output_blocks.{number}.{place}", f"up_blocks.{level}.upsamplers.0"


def _sizes(file: Path, theirs: Tensors, heads: int | None) -> networks.ADM:
    """What the tensors' shapes say of the network.

    Blocks that resample have no attention, and look like others without it: the blocks of a resolution are counted at
    the coarsest one, where all published ADMs have attention.
    """
    check_dimensions(file, theirs, {FIRST: 4})
    blocks = 1 + max(int(name.split(".")[1]) for name in theirs if name.startswith("input_blocks."))
    attends = [f"input_blocks.{number}.1.norm.weight" in theirs for number in range(blocks)]
    layers = sum(takewhile(bool, reversed(attends)))
    first = range(1, blocks, layers + 1)  # the first residual block of each resolution
    channels = tuple(len(theirs.get(f"input_blocks.{number}.0.out_layers.3.bias", ())) for number in first)
    if not layers or blocks != len(first) * (layers + 1) or 0 in channels or any(c % 32 for c in channels):
        raise UsageError(f"{file}: its blocks are not those of an ADM; give an official checkpoint.")
    attention = tuple(attends[number] for number in first)
    heads = max(channels) // HEAD if heads is None else heads
    width = max(channels) // heads if heads > 0 and max(channels) % heads == 0 else 0  # of a head
    if not width or any(c % width for c, attended in zip(channels, attention, strict=True) if attended):
        raise UsageError(
            f"{file}: its resolutions of {channels} channels do not fit heads {heads}; give another number."
        )
    return networks.ADM(
        kind="adm",
        block_channels=channels,
        layers_per_block=layers,
        norm_groups=32,  # theirs at every size
        attention=attention,
        heads=heads,
    )
