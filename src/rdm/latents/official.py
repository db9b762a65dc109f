"""Published autoencoders: CompVis' VQ-f4, VQ-f8 and KL-f8, and those of diffusers, as Stable Diffusion's."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers.loaders import single_file_utils as diffusers_names

from rdm.checkpoints import Tensors, check_dimensions, check_names, check_shapes, published_file, read_tensors
from rdm.errors import UsageError
from rdm.latents.codec import Network, build_autoencoder
from rdm.params.autoencoder import PublishedAutoencoder
from rdm.provenance.files import whole_folder

FIRST, LATENTS = "encoder.conv_in.weight", "decoder.conv_in.weight"  # the same in either layout
IMAGE_SIZE, NORM_GROUPS = 256, 32  # theirs, which the tensors do not tell
CODEBOOK = "quantize.embedding.weight"
WITHIN = "first_stage_model."  # in a checkpoint of a whole latent diffusion model
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
TRAINING = "loss."  # the perceptual and adversarial losses', beside an autoencoder alone


@torch.no_grad()
def load_autoencoder(parameters: PublishedAutoencoder, channels: int, image_size: int) -> Network:
    """The declared network with the published weights, in eval mode.

    Raises UsageError if the weights cannot be read, or are not those of the declared network.
    """
    network, file = build_autoencoder(parameters, channels, image_size), published_file(Path(parameters.weights))
    given, unused = _convert(len(parameters.block_channels), _own(read_tensors(file)))
    ours = network.state_dict()
    check_names(file, type(network).__name__, {*given, *unused}, ours)
    check_shapes(file, given, ours)
    network.load_state_dict(given)
    return network.eval()


def is_autoencoder(file: Path) -> bool:
    """Whether a checkpoint holds an autoencoder alone. Raises UsageError if it cannot be read."""
    return FIRST in read_tensors(file)


def convert(file: Path, folder: Path) -> Path:
    """Write a published autoencoder as a new folder, which diffusers' AutoencoderKL or VQModel loads; returns it.

    file: of CompVis, also one that holds the U-Net, too; or of diffusers. Sizes are those of its tensors; its
    scaling_factor is 1, since how latents are scaled is a matter of the network that learns them.
    Raises UsageError if the folder exists, the file holds no autoencoder, lacks a tensor or has one too many.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already; name a new folder, or remove it.")
    network = load_autoencoder(*_declared(file), IMAGE_SIZE)
    with whole_folder(folder) as scratch:
        network.save_pretrained(scratch)
    return folder


def _declared(file: Path) -> tuple[PublishedAutoencoder, int]:
    """What parameters would declare of a file, and the channels of its images. Raises UsageError if it fits none."""
    theirs = _own(read_tensors(file))
    if not {FIRST, LATENTS} <= theirs.keys():
        raise UsageError(f"{file} holds no autoencoder: it has no {FIRST} or no {LATENTS}; give a published one.")
    check_dimensions(file, theirs, {FIRST: 4, LATENTS: 4} | {name: 2 for name in [CODEBOOK] if name in theirs})
    numbers = [int(found[1]) for name in theirs if (found := re.match(r"encoder\.down(?:_blocks)?\.(\d+)\.", name))]
    levels = range(1 + max(numbers, default=0))
    ours, _ = _convert(len(levels), theirs)
    blocks = [f"encoder.down_blocks.{level}" for level in levels]
    channels = tuple(ours.get(f"{block}.resnets.0.conv1.bias", torch.empty(0)).numel() for block in blocks)
    layers = sum(bool(re.fullmatch(r"encoder\.down_blocks\.0\.resnets\.\d+\.conv1\.bias", name)) for name in ours)
    if any(width < 1 or width % NORM_GROUPS for width in channels):
        raise UsageError(f"{file}: its resolutions of {channels} channels are those of no published autoencoder.")
    declared = PublishedAutoencoder(
        data="images",
        weights=str(file),
        block_channels=channels,
        layers_per_block=layers,
        norm_groups=NORM_GROUPS,
        latent_channels=theirs[LATENTS].shape[1],
        codebook_size=len(ours[CODEBOOK]) if CODEBOOK in ours else None,
        attention=tuple(f"{block}.attentions.0.to_q.weight" in ours for block in blocks),
        scale=1,
    )
    return declared, theirs[FIRST].shape[1]


def _present_name(name: str) -> str:
    """diffusers' name of today; its attention had other ones when Stable Diffusion's autoencoders were published."""
    for old, new in OLD_ATTENTION.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _own(tensors: Tensors) -> Tensors:
    """The autoencoder's own tensors of a checkpoint."""
    within = {name.removeprefix(WITHIN): tensor for name, tensor in tensors.items() if name.startswith(WITHIN)}
    return within or {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}


def _convert(levels: int, theirs: Tensors) -> tuple[Tensors, set[str]]:
    """Their tensors under our names, and the names of those that found no place."""
    if any(name.startswith("encoder.down_blocks.") for name in theirs):
        return {_present_name(name): tensor for name, tensor in theirs.items()}, set()
    attention = {name: tensor for name, tensor in theirs.items() if ".attn." in name}  # diffusers misses these
    others = {name: tensor for name, tensor in theirs.items() if name not in attention}
    converted: Tensors = diffusers_names.convert_ldm_vae_checkpoint(
        others, {"down_block_types": range(levels), "up_block_types": range(levels)}
    )
    for level in range(levels):
        for half, own in ((f"encoder.down.{level}", level), (f"decoder.up.{level}", levels - 1 - level)):
            diffusers_names.update_vae_attentions_ldm_to_diffusers(
                [name for name in attention if name.startswith(f"{half}.attn.")],
                converted,
                attention,
                {"old": f"{half}.attn", "new": f"{half.rpartition('.')[0]}_blocks.{own}.attentions"},
            )
    converted |= {CODEBOOK: theirs[CODEBOOK]} if CODEBOOK in theirs else {}
    used = {tensor.data_ptr() for tensor in converted.values()}
    return converted, {name for name, tensor in theirs.items() if tensor.data_ptr() not in used}
