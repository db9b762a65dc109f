"""Published weights in the networks that a parameter file declares, and as folders for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdm.checkpoints import read_tensors
from rdm.errors import UsageError
from rdm.models.dit import DiT
from rdm.models.export import save_diffusers
from rdm.models.latte import Latte
from rdm.models.official import import_transformer
from rdm.models.official_unet import NETWORK, import_unet
from rdm.models.unet import CrossAttentionUNet
from rdm.provenance.files import whole_folder

START_ALONE = {"label_std", "block_scale"}  # what a network's random start depends on, and nothing else


def convert(file: Path, folder: Path, heads: tuple[int, ...]) -> Path:
    """Write an official checkpoint as a new folder, which from_pretrained loads; returns the folder.

    Of DiT and Latte: `rdm.models.dit.DiT` and `rdm.models.latte.Latte`, since diffusers' own cannot compute them. Of
    LDM: diffusers' UNet2DConditionModel, and the label tokens in label_embedding.safetensors.
    Raises UsageError if the folder exists, or the file is none of these.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already; name a new folder, or remove it.")
    if any(name.startswith(NETWORK) for name in read_tensors(file)):
        network: Any = import_unet(file, heads)
    elif len(heads) == 1:
        network = import_transformer(file, heads[0])
    else:
        raise UsageError(f"--heads {','.join(map(str, heads))}: a transformer has one number of heads; give one.")
    with whole_folder(folder) as scratch:
        if isinstance(network, CrossAttentionUNet):
            save_diffusers(network, scratch)
        else:
            network.save_pretrained(scratch)
    return folder


@torch.no_grad()
def load_published(network: nn.Module, file: Path) -> None:
    """Give a network the weights of an official checkpoint.

    Raises UsageError if the file is none, or of another network than this one.
    """
    if isinstance(network, CrossAttentionUNet):
        heads = network.config.attention_head_dim  # diffusers' name
        levels = len(network.config.block_out_channels)
        imported: nn.Module = import_unet(file, (heads,) * levels if isinstance(heads, int) else tuple(heads))
    elif isinstance(network, DiT | Latte):
        imported = import_transformer(file, network.config.heads)
    else:
        raise UsageError(
            f"{file}: no published checkpoint is of a network like this; take kind: unet with label: cross."
        )
    _same_network(file, network, imported)
    network.load_state_dict(imported.state_dict())


def _same_network(file: Path, declared: Any, published: Any) -> None:
    """Raise UsageError with the first thing in which they differ."""
    if type(declared) is not type(published):
        raise UsageError(f"{file} is a {type(published).__name__}; the parameters declare a {type(declared).__name__}.")
    if isinstance(declared, DiT | Latte):
        for name in declared.config.keys() - START_ALONE:
            if not name.startswith("_") and declared.config[name] != published.config[name]:
                raise UsageError(
                    f"{file} has {name} {published.config[name]}; the parameters declare {declared.config[name]}."
                )
    shapes = {name: tensor.shape for name, tensor in published.state_dict().items()}
    for name, tensor in declared.state_dict().items():
        if shapes.pop(name, None) != tensor.shape:
            raise UsageError(f"{file} has another {name} than the parameters declare, {tuple(tensor.shape)}.")
    if shapes:
        raise UsageError(f"{file} has a {next(iter(shapes))}, which the parameters do not declare.")
