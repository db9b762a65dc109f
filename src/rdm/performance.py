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
from rdm.params.performance import Performance, Precision

Network = TypeVar("Network", bound=nn.Module)
SHAPES = 64  # of blocks that share their code: LDM-4's residual blocks have 20


@contextmanager
def tf32(precision: Precision) -> Iterator[None]:
    """In this block products in float32, backward ones too, are rounded to TF32, unless the precision is float32."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextmanager
def computing(precision: Precision, device: torch.device) -> Iterator[None]:
    """What is computed forward in this block is computed in this precision."""
    bfloat16 = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with tf32(precision), _attention(precision), bfloat16:
        yield


@contextmanager
def _attention(precision: Precision) -> Iterator[None]:
    """In this block heads too wide for fused kernels, as LDM-4's are, attend in this precision.

    Without it, bfloat16 is left for float32 there, whose products take several times as long. And where no backward
    pass follows, kernels are allowed of which that alone does not repeat itself (see `rdm.runtime`): cuDNN's made
    sampling 6 % faster on an H200.
    """
    cuda, forward_alone = torch.backends.cuda, not torch.is_grad_enabled()
    reduced = cuda.fp16_bf16_reduction_math_sdp_allowed()
    mem_efficient, cudnn = cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
    cuda.allow_fp16_bf16_reduction_math_sdp(precision == "bfloat16")
    cuda.enable_mem_efficient_sdp(mem_efficient or forward_alone)
    cuda.enable_cudnn_sdp(cudnn or forward_alone)
    try:
        yield
    finally:
        cuda.allow_fp16_bf16_reduction_math_sdp(reduced)
        cuda.enable_mem_efficient_sdp(mem_efficient)
        cuda.enable_cudnn_sdp(cudnn)


def in_precision(network: nn.Module, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
    """The network as a function that computes in this precision and returns float32, for loss, guidance and sampler."""

    def call(*inputs: Tensor) -> Tensor:
        with computing(precision, device):
            output: Tensor = network(*inputs)
        return output.float()

    return call


def lay_out(network: Network, performance: Performance) -> Network:
    """The network, in place, with its weights channels last, if it is convolutional: its activations follow."""
    if performance.channels_last and isinstance(network, _convolutional()):
        network.to(memory_format=torch.channels_last)
    return network


def compile_blocks(network: Network, performance: Performance) -> Network:
    """The network, in place, with every block compiled by itself: as fast as the whole, and blocks alike share code.

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
        if isinstance(child, _blocks()):
            yield child
        else:
            yield from _outermost(child)


def _convolutional() -> tuple[type[Any], ...]:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL  # takes seconds, and scores need none
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DModel, UNet2DConditionModel, AutoencoderKL, VQModel


def _blocks() -> tuple[type[Any], ...]:
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel  # a U-Net's, around such a block

    return Transformer2DModel, BasicTransformerBlock, ResnetBlock2D, Attention
