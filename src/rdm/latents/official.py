"""Published autoencoders: CompVis' VQ-f4, VQ-f8 and KL-f8, and those of diffusers, as Stable Diffusion's."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.loaders import single_file_utils as diffusers_names

from rdm.checkpoints import Tensors, check_names, check_shapes, published_file, read_tensors
from rdm.latents.codec import Network, build_autoencoder
from rdm.params.autoencoder import PublishedAutoencoder

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
    codebook = "quantize.embedding.weight"
    converted |= {codebook: theirs[codebook]} if codebook in theirs else {}
    used = {tensor.data_ptr() for tensor in converted.values()}
    return converted, {name for name, tensor in theirs.items() if tensor.data_ptr() not in used}
