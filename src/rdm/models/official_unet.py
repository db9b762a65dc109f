"""Import of latent diffusion's class-conditional U-Nets (LDM-4, LDM-8): the same tensors under diffusers' names."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from rdm.checkpoints import Tensors, check_dimensions, check_names, check_shapes, read_tensors
from rdm.errors import UsageError
from rdm.models.unet import TOKEN, CrossAttentionUNet
from rdm.params import schema

NETWORK, AVERAGED = "model.diffusion_model.", "model_ema."
LABELS = "cond_stage_model.embedding.weight"
NORM_GROUPS = 32  # at every size
AUTOENCODER = "first_stage_model."  # imported by rdm.latents.official
SCHEDULE = {  # tables that follow from the betas, and weights of the loss
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
    *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("logvar", "lvlb_weights", "scale_factor", "model_ema.decay", "model_ema.num_updates"),
}


@torch.no_grad()
def import_unet(file: Path, heads: tuple[int, ...]) -> CrossAttentionUNet:
    """The network of an official checkpoint, float32, in eval mode; the averaged weights where the file has them.

    heads: of the attention at each resolution, which the tensors do not tell: 1 everywhere for LDM-4; 8, 16, 32 for
    LDM-8. Raises UsageError if the file cannot be read, is none of these, or lacks a tensor or has one too many.
    """
    tensors = read_tensors(file)
    theirs = {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items() if name.startswith(NETWORK)}
    if "input_blocks.0.0.weight" not in theirs or LABELS not in tensors:
        raise UsageError(
            f"{file} is no class-conditional LDM: it has no {NETWORK}input_blocks.0.0.weight or no {LABELS}; give an "
            "official checkpoint."
        )
    others = {name for name in tensors if not name.startswith((NETWORK, AUTOENCODER, AVERAGED))}
    check_names(file, "LDM", others, {LABELS, *(SCHEDULE & others)})
    sizes = _sizes(file, theirs, tensors[LABELS].shape, heads)
    theirs = _averaged(file, tensors, theirs)
    rows, channels = len(tensors[LABELS]), theirs["input_blocks.0.0.weight"].shape[1]
    size = 2 ** (len(sizes.block_channels) - 1)  # any other is taken, too
    network: CrossAttentionUNet = CrossAttentionUNet(sizes, channels, size, classes=rows - 1).eval()
    prefixed = {NETWORK + name: tensor for name, tensor in theirs.items()}
    converted = convert_ldm_unet_checkpoint(prefixed, {"layers_per_block": sizes.layers_per_block})
    used = {id(tensor) for tensor in converted.values()}
    unused = {name for name, tensor in theirs.items() if id(tensor) not in used}
    ours = network.state_dict()
    converted["label_embedding.weight"] = tensors[LABELS]
    check_names(file, "LDM", {*converted, *unused}, ours)
    check_shapes(file, converted, ours)
    network.load_state_dict(converted)
    return network


def _averaged(file: Path, tensors: Tensors, theirs: Tensors) -> Tensors:
    """The weights' moving averages, which stand under their names without dots; the weights if there are none."""
    averages = {name for name in tensors if name.startswith(AVERAGED)} - SCHEDULE
    if not averages:
        return theirs
    names = {name: f"{AVERAGED}{f'diffusion_model.{name}'.replace('.', '')}" for name in theirs}
    check_names(file, "LDM", averages, names.values())
    return {name: tensors[averaged] for name, averaged in names.items()}


def _sizes(file: Path, theirs: Tensors, labels: torch.Size, heads: tuple[int, ...]) -> schema.UNet:
    """What the tensors' shapes say of the network."""
    check_dimensions(file, theirs, {"input_blocks.0.0.weight": 4})
    blocks = 1 + max(int(name.split(".")[1]) for name in theirs if name.startswith("input_blocks."))
    halvings = [number for number in range(blocks) if f"input_blocks.{number}.0.op.weight" in theirs]
    layers = halvings[0] - 1 if halvings else blocks - 1
    first = range(1, blocks, layers + 1)  # the first residual block of each resolution
    channels = tuple(len(theirs.get(f"input_blocks.{number}.0.out_layers.3.bias", ())) for number in first)
    unlike = 0 in channels or any(c % NORM_GROUPS for c in channels) or blocks != len(channels) * (layers + 1)
    if len(labels) != 2 or labels[1] != TOKEN or unlike:
        raise UsageError(f"{file}: its blocks are not those of a class-conditional LDM; give an official checkpoint.")
    if len(heads) != len(channels) or any(number < 1 or c % number for number, c in zip(heads, channels, strict=False)):
        raise UsageError(
            f"{file}: its {len(channels)} resolutions of {channels} channels do not fit heads {heads}; give one number "
            "for each, which divides its channels."
        )
    return schema.UNet(
        kind="unet",
        block_channels=channels,
        layers_per_block=layers,
        norm_groups=NORM_GROUPS,
        attention=tuple(f"input_blocks.{number}.1.norm.weight" in theirs for number in first),
        heads=heads,
        label="cross",
    )
