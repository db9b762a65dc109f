"""Small random networks of every kind that gates attach to, and the gates that each kind takes."""

import itertools

import torch
from diffusers import DiTTransformer2DModel, LatteTransformer3DModel, UNet2DModel
from torch import nn

from rdm.models import pixart, unet
from rdm.models.latte import Latte as OurLatte
from rdm.models.text import build_text
from rdm.models.zoo import build_network
from rdm.params.gates import Gating
from rdm.params.network import PixArt, TextUNet, WordEncoder
from rdm.params.schema import DiT, Latte, UNet

SHAPE, CLASSES = [4, 8, 8], 5
CLIP = [2, *SHAPE]
UNET = {"kind": "unet", "block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "attention": (False, True)}
NETWORKS = {  # as a parameter file declares them
    "dit": DiT(kind="dit", width=16, depth=3, heads=2, patch=2),
    "latte": Latte(kind="latte", width=16, depth=4, heads=2, patch=2),
    "unet-add": UNet(**UNET, heads=2),
    "unet-cross": UNet(**UNET, heads=2, label="cross"),
}
ENCODER = WordEncoder(width=8, depth=1, heads=2, length=6)
TEXT = {  # and those conditioned on text
    "pixart": PixArt(kind="pixart", width=16, depth=3, heads=2, patch=2, text=ENCODER),
    "unet-text": TextUNet(**UNET | {"kind": "text_unet"}, heads=2, text=ENCODER),
}
WORDS, CAPTIONS = ["a", "five", "four", "handwritten"], ["a handwritten four", "five", ""]
TRANSFORMERS = ["dit", "latte", "diffusers-dit"]
UNETS = ["unet-add", "unet-cross", "unet-text", "resampling-unet"]
KINDS = [*TRANSFORMERS, *UNETS, "diffusers-latte", "pixart", "own"]
OWN_UNITS = {"block": ["stages.0", "stages.2"], "branch": ["stages.0.branch", "stages.1.branch"]}


def combinations(**choices):
    return [Gating(**dict(zip(choices, values, strict=True))) for values in itertools.product(*choices.values())]


BOTH, TIMES = ["channel", "scalar"], ["static", "embedded"]
GATINGS = {
    **dict.fromkeys(
        TRANSFORMERS,
        combinations(variant=["rdm", "adaln", "skip"], unit=["block", "branch"], time=TIMES)
        + combinations(variant=["rezero"], shape=BOTH, unit=["block", "branch"], time=TIMES),
    ),
    **dict.fromkeys(
        UNETS,
        combinations(variant=["rdm", "skip", "rezero"], shape=BOTH, time=TIMES)
        + combinations(variant=["adaln"], time=TIMES),
    ),
    "diffusers-latte": combinations(variant=["rdm", "adaln", "skip", "rezero"]),
    "pixart": combinations(variant=["rdm", "adaln", "skip"]) + combinations(variant=["rezero"], shape=BOTH),
    "own": combinations(variant=["rdm", "adaln", "skip", "rezero"], shape=BOTH)
    + combinations(variant=["rdm", "rezero"], shape=BOTH, unit=["branch"]),
}


class Residual(nn.Module):
    """A residual block of somebody's own network."""

    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return x + self.branch(x)


class OwnNetwork(nn.Module):
    """Feature maps of 8 channels; the units have to be named."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(SHAPE[0], 8, 1)
        branches = [nn.Sequential(nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1)) for _ in range(3)]
        self.stages = nn.Sequential(*(Residual(branch) for branch in branches))
        self.exit = nn.Conv2d(8, SHAPE[0], 1)

    def forward(self, latents, timesteps, labels):
        return self.exit(self.stages(self.entry(latents)))


def shape_of(kind):
    """Of one item that a network takes."""
    return CLIP if kind == "latte" else SHAPE


def build(kind, seed=0):
    """A network in eval mode whose every weight is random: at DiT's own start its blocks are identities."""
    torch.manual_seed(seed)
    if kind in NETWORKS:
        model = build_network(NETWORKS[kind], shape_of(kind), CLASSES, seed)
    elif kind in TEXT:
        model = build_network(TEXT[kind], SHAPE, 0, seed, build_text(ENCODER, WORDS))
    elif kind == "diffusers-dit":
        model = DiTTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=SHAPE[0], num_layers=2, sample_size=SHAPE[1],
            patch_size=2, num_embeds_ada_norm=CLASSES,
        )  # fmt: skip
    elif kind == "resampling-unet":  # residual blocks that resample, and a scale behind the middle ones
        model = UNet2DModel(
            sample_size=SHAPE[1], in_channels=SHAPE[0], out_channels=SHAPE[0], block_out_channels=(8, 16),
            layers_per_block=1, norm_num_groups=4, num_class_embeds=CLASSES + 1, mid_block_scale_factor=2**0.5,
            down_block_types=("ResnetDownsampleBlock2D", "DownBlock2D"), attention_head_dim=8,
            up_block_types=("UpBlock2D", "ResnetUpsampleBlock2D"), add_attention=False, downsample_type="resnet",
            upsample_type="resnet", resnet_time_scale_shift="scale_shift",
        )  # fmt: skip
    elif kind == "diffusers-latte":
        model = LatteTransformer3DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=SHAPE[0], out_channels=SHAPE[0], num_layers=2,
            sample_size=SHAPE[1], patch_size=2, cross_attention_dim=None, caption_channels=8, video_length=2,
            attention_bias=True, activation_fn="gelu-approximate", norm_elementwise_affine=False,
        )  # fmt: skip
    else:
        model = OwnNetwork()
    random = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.1)
    return model.eval()


def units(kind, gating):
    """The units to name when attaching gates; None where they are found."""
    return OWN_UNITS[gating.unit] if kind == "own" else None


def inputs(shape, dtype=torch.float32):
    """Fixed latents (3, *shape), timesteps and labels."""
    latents = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    return latents, torch.tensor([0, 17, 999]), torch.tensor([0, 4, CLASSES])


def run(model, dtype=torch.float32):
    """The network's output (B, ...) for fixed inputs."""
    plain = getattr(model, "_orig_mod", model)
    latents, timesteps, labels = inputs(CLIP if isinstance(plain, OurLatte) else SHAPE, dtype)
    if type(plain) is DiTTransformer2DModel:
        return model(latents, timestep=timesteps, class_labels=labels, return_dict=False)[0]
    if type(plain) is UNet2DModel:
        return model(latents, timesteps, class_labels=labels, return_dict=False)[0]
    if type(plain) is LatteTransformer3DModel:
        clips = latents.unsqueeze(2).repeat(1, 1, 2, 1, 1)
        captions = torch.ones(3, 1, 8, dtype=dtype)
        return model(clips, timesteps, encoder_hidden_states=captions, return_dict=False)[0]
    if isinstance(plain, pixart.PixArt | unet.TextUNet):
        labels = plain.text.tokens(CAPTIONS)
    return model(latents, timesteps, labels)
