"""The switches of a parameter file's section `performance`, set: precision, compiled blocks, memory layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rdm.errors import UsageError
from rdm.layout import to_channels_last
from rdm.params.performance import Performance, Precision

Network = TypeVar("Network", bound=nn.Module)
SHAPES = 64  # of blocks that share their code: LDM-4's residual blocks have 20


@contextmanager
def rounding(precision: Precision) -> Iterator[None]:
    """In this block, backward passes included, what autocast leaves in float32 is rounded as the precision says.

    Products are TF32 unless it is float32. Under bfloat16 heads too wide for fused kernels, as LDM-4's are, attend in
    bfloat16, where products take a fraction of the time. What checkpointing computes again must be rounded alike, so
    that a training step is in this block as a whole.
    """
    cuda, convolutions = torch.backends.cuda, torch.backends.cudnn
    before = cuda.matmul.allow_tf32, convolutions.allow_tf32, cuda.fp16_bf16_reduction_math_sdp_allowed()
    cuda.matmul.allow_tf32 = convolutions.allow_tf32 = precision != "float32"
    cuda.allow_fp16_bf16_reduction_math_sdp(precision == "bfloat16")
    try:
        yield
    finally:
        cuda.matmul.allow_tf32, convolutions.allow_tf32, reduced = before
        cuda.allow_fp16_bf16_reduction_math_sdp(reduced)


@contextmanager
def computing(precision: Precision, device: torch.device) -> Iterator[None]:
    """What is computed forward in this block is computed in this precision.

    Where no backward pass follows, cuDNN's attention is allowed, of which that alone does not repeat itself.
    """
    bfloat16 = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(cudnn or not torch.is_grad_enabled())
    try:
        with rounding(precision), bfloat16:
            yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)


def in_precision(network: nn.Module, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
    """The network as a function that computes in this precision and returns float32, for loss, guidance and sampler."""

    def call(*inputs: Tensor) -> Tensor:
        with computing(precision, device):
            output: Tensor = network(*inputs)
        return output.float()

    return call


def lay_out(network: Network, performance: Performance) -> Network:
    """The network, in place, channels last, if it is convolutional."""
    if performance.channels_last and isinstance(network, _convolutional()):
        to_channels_last(network)
    return network


def compile_blocks(network: Network, performance: Performance) -> Network:
    """The network, in place, with every block compiled by itself: as fast as the whole, and blocks alike share code.

    Of an autoencoder, encoder and decoder are a block each. Blocks that upsample are compiled in eval mode alone.
    Hooks stay outside: what records a block's input and output sees them. A copy of the network would share its
    blocks, so copy before. Raises UsageError without a C++ compiler.
    """
    if not performance.compile:
        return network
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UsageError(f"performance.compile: {compiler!r} is not here; install a C++ compiler, or set it to false.")
    torch._dynamo.config.recompile_limit = SHAPES
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than go on uncompiled
    for block in _outermost(network):
        block.forward = torch.compile(block.forward, dynamic=False)
    return network


def _outermost(network: nn.Module) -> Iterator[nn.Module]:
    """The blocks that are in no other one."""
    for child in network.children():
        if isinstance(child, _blocks()) and not _upsamples_in_training(child):
            yield child
        else:
            yield from _outermost(child)


def _upsamples_in_training(block: nn.Module) -> bool:
    """Compiled, the gradient of nearest upsampling is an index_put, which repeats itself by sorting: slower by far."""
    return block.training and getattr(block, "upsample", None) is not None


def _convolutional() -> tuple[type[Any], ...]:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL  # takes seconds, and scores need none
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DModel, UNet2DConditionModel, AutoencoderKL, VQModel


def _blocks() -> tuple[type[Any], ...]:
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.attention_processor import Attention
    from diffusers.models.autoencoders.vae import Decoder, Encoder
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel  # a U-Net's, around such a block

    return Encoder, Decoder, Transformer2DModel, ResnetBlock2D, BasicTransformerBlock, Attention
