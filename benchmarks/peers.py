"""The peers of benchmarks/gpu.py: diffusers' own modules, in loops as plain as the official scripts'.

eager: float32 with TF32 and nothing compiled, at the official script's batch for one GPU.
compiled: autocast to bfloat16, every block compiled, at our batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, LatteTransformer3DModel, UNet2DConditionModel, VQModel
from gates import randomised
from torch import Tensor, nn

from rdm.latents.codec import build_autoencoder
from rdm.models.unet import TOKEN
from rdm.params import schema
from rdm.params.autoencoder import AnyAutoencoder
from rdm.params.performance import Performance, Precision
from rdm.performance import compile_blocks, computing, rounding

EAGER, COMPILED = "diffusers, eager, float32 with TF32", "diffusers, blocks compiled, bfloat16"
PRECISIONS: dict[str, Precision] = {EAGER: "tf32", COMPILED: "bfloat16"}
Shape = list[int]


@contextmanager
def as_usual() -> Iterator[None]:
    """PyTorch's own settings: rdm's, which make a run repeat itself, may cost a peer time."""
    attentions = torch.backends.cuda.enable_mem_efficient_sdp, torch.backends.cuda.enable_cudnn_sdp
    torch.use_deterministic_algorithms(False)
    for attention in attentions:
        attention(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
        for attention in attentions:
            attention(False)


def denoiser(network: schema.DiT | schema.UNet, shape: Shape, classes: int) -> tuple[nn.Module, Callable[..., Tensor]]:
    """diffusers' module of these sizes, and how it is called on (module, latents, timesteps, labels)."""
    channels, size = shape[-3:-1]
    if isinstance(network, schema.UNet):
        unet = UNet2DConditionModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=network.block_channels,
            layers_per_block=network.layers_per_block,
            norm_num_groups=network.norm_groups,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in network.attention),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(network.attention)),
            attention_head_dim=network.heads,
            cross_attention_dim=TOKEN,
        )
        unet.label_embedding = nn.Embedding(classes + 1, TOKEN)
        return unet, lambda m, x, t, y: m(x, t, m.label_embedding(y)[:, None], return_dict=False)[0]
    common: dict[str, Any] = {
        "num_attention_heads": network.heads,
        "attention_head_dim": network.width // network.heads,
        "in_channels": channels,
        "out_channels": channels * (2 if network.learned_sigma else 1),
        "sample_size": size,
        "patch_size": network.patch,
    }
    if not isinstance(network, schema.Latte):
        dit = DiTTransformer2DModel(**common, num_layers=network.depth, num_embeds_ada_norm=classes)
        return dit, lambda m, x, t, y: m(x, timestep=t, class_labels=y, return_dict=False)[0]
    latte = LatteTransformer3DModel(  # of text: its label is a caption of one token
        **common, num_layers=network.depth // 2, cross_attention_dim=None, caption_channels=8, video_length=shape[0],
        attention_bias=True, activation_fn="gelu-approximate", norm_elementwise_affine=False,
        norm_type="ada_norm_single",
    )  # fmt: skip

    def call(module: nn.Module, clips: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        captions = labels.view(-1, 1, 1).expand(-1, 1, 8).to(clips.dtype)
        output: Tensor = module(clips.transpose(1, 2), timesteps, encoder_hidden_states=captions, return_dict=False)[0]
        return output.transpose(1, 2)

    return latte, call


def prepared(peer: str, module: nn.Module) -> nn.Module:
    """Compiled or not."""
    return compile_blocks(module, Performance(compile=peer == COMPILED))


def training(
    peer: str, network: schema.DiT | schema.UNet, shape: Shape, classes: int, device: torch.device, batch: int
) -> Callable[[], None]:
    """A step of the official training scripts without their autoencoder: noise, loss, AdamW, an average in a loop."""
    with device:
        module, call = denoiser(network, shape, classes)
    average = copy.deepcopy(randomised(module.to(device)))
    optimiser = torch.optim.AdamW(prepared(peer, module.train()).parameters(), lr=1e-6, weight_decay=0)

    def step() -> None:
        latents, noise = torch.randn(2, batch, *shape, device=device)
        timesteps, labels = (torch.randint(n, (batch,), device=device) for n in (1000, classes or 1))
        with as_usual(), rounding(PRECISIONS[peer]):
            with computing(PRECISIONS[peer], device):
                prediction = call(module, latents + noise, timesteps, labels)
            loss = (prediction.float().narrow(-3, 0, shape[-3]) - noise).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for own, new in zip(average.parameters(), module.parameters(), strict=True):
                    own.mul_(0.9999).add_(new, alpha=1e-4)

    return step


def sampling(
    peer: str, network: schema.DiT | schema.UNet, shape: Shape, classes: int, device: torch.device
) -> Callable[..., Tensor]:
    """The network, as the sampler calls it: float32 in and out."""
    with device:
        module, call = denoiser(network, shape, classes)
    prepared(peer, randomised(module.to(device)).eval())

    def predict(*inputs: Tensor) -> Tensor:
        with as_usual(), computing(PRECISIONS[peer], device):
            return call(module, *inputs).float()

    return predict


def encoding(peer: str, parameters: AnyAutoencoder, size: int, device: torch.device, batch: int) -> Callable[[], None]:
    """A batch through the encoder, from float32 pixels in the host's memory, as the official scripts do in a step."""
    with device:
        module: AutoencoderKL | VQModel = build_autoencoder(parameters, 3, size)
    prepared(peer, module.to(device).eval())
    pixels = torch.rand(batch, 3, size, size) * 2 - 1

    @torch.no_grad()
    def encode() -> None:
        with as_usual(), computing(PRECISIONS[peer], device):
            encoded = module.encode(pixels.to(device))
        (encoded.latents if isinstance(module, VQModel) else encoded.latent_dist.sample()).cpu()

    return encode
