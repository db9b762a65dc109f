"""Published weights in the networks that a parameter file declares, and as folders for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdm.checkpoints import read_tensors
from rdm.errors import UsageError
from rdm.models.adm import ADM, NoisyClassifier, build_classifier
from rdm.models.dit import DiT
from rdm.models.export import save_diffusers
from rdm.models.latte import Latte
from rdm.models.official import import_transformer
from rdm.models.official_adm import FIRST, import_adm
from rdm.models.official_unet import NETWORK, import_unet
from rdm.models.unet import CrossAttentionUNet
from rdm.params.sampler import ClassifierGuidance
from rdm.provenance.files import whole_folder

TRANSFORMER_HEADS = 16  # of all transformers that were published of size XL
START_ALONE = {"label_std", "block_scale"}  # what a network's random start depends on, and nothing else


def convert(file: Path, folder: Path, heads: tuple[int, ...] | None) -> Path:
    """Write an official checkpoint as a new folder, which from_pretrained loads; returns the folder.

    Of DiT and Latte: `rdm.models.dit.DiT` and `rdm.models.latte.Latte`, since diffusers' own cannot compute them. Of
    LDM: diffusers' UNet2DConditionModel, and the label tokens in label_embedding.safetensors. Of ADM: diffusers'
    UNet2DModel, of its classifier `rdm.models.adm.NoisyClassifier`.
    heads: of the attention, of an LDM at each resolution; None: 16 of a transformer, of ADM 64 channels each.
    Raises UsageError if the folder exists, or the file is none of these.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already; name a new folder, or remove it.")
    names = read_tensors(file)
    if any(name.startswith(NETWORK) for name in names):
        if heads is None:
            raise UsageError(f"{file} does not tell its heads; give --heads 1,1,1,1 for LDM-4, 8,16,32 for LDM-8.")
        network: Any = import_unet(file, heads)
    elif heads is not None and len(heads) > 1:
        raise UsageError(f"--heads {','.join(map(str, heads))}: only an LDM has several numbers of heads; give one.")
    elif FIRST in names:
        network = import_adm(file, heads[0] if heads else None)
    else:
        network = import_transformer(file, heads[0] if heads else TRANSFORMER_HEADS)
    with whole_folder(folder) as scratch:
        save_diffusers(network, scratch)
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
    elif isinstance(network, ADM):
        imported = import_adm(file, max(network.config.block_out_channels) // network.config.attention_head_dim)
    else:
        raise UsageError(
            f"{file}: no published checkpoint is of a network like this; take kind: unet with label: cross."
        )
    _same_network(file, network, imported)
    network.load_state_dict(imported.state_dict())


def load_classifier(parameters: ClassifierGuidance, shape: list[int], classes: int) -> NoisyClassifier:
    """The declared classifier of noisy latents (C, h, w) with the published weights, in eval mode, without gradients.

    Raises UsageError if the file is none, or of another network than is declared, of other latents or classes.
    """
    declared = build_classifier(parameters.network, shape[0], shape[1], classes)
    file = Path(parameters.weights)
    imported = import_adm(file, parameters.network.heads)
    _same_network(file, declared, imported)
    declared.load_state_dict(imported.state_dict())
    declared.eval().requires_grad_(False)
    return declared


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
