"""Networks channels last: the same function, and convolutions that take what they need."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rdm.latents.codec import build_autoencoder
from rdm.layout import ChannelsLastGroupNorm, to_channels_last
from rdm.params.autoencoder import PublishedAutoencoder
from tests.models.small import CLASSES, SHAPE, build


class Convolutions(TorchDispatchMode):
    """Whether maps and weights lie channels last, for each convolution, forward and backward."""

    def __init__(self):
        super().__init__()
        self.seen = {"convolution": [], "convolution_backward": []}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        if name in self.seen:
            maps, weight = args[:2] if name == "convolution" else args[1:3]
            self.seen[name] += [t.is_contiguous(memory_format=torch.channels_last) for t in (maps, weight)]
        return operation(*args, **(kwargs or {}))


def run(network):
    """For 64 items, from which on diffusers' upsampling asks for the usual layout, as its shortcuts do in training."""
    random = torch.Generator().manual_seed(2)
    latents = torch.randn(64, *SHAPE, generator=random)
    return network(latents, torch.arange(64), torch.arange(64) % CLASSES)


class Operations(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.seen.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["unet-add", "unet-cross"])
def test_every_convolution_takes_what_it_needs_forward_and_backward(kind):
    plain = build(kind).train()
    network, layouts = copy.deepcopy(plain), Convolutions()
    to_channels_last(network)
    with layouts:
        output = run(network)
        output.square().mean().backward()
    for name in layouts.seen:
        assert len(layouts.seen[name]) > 10
        assert all(layouts.seen[name]), name
    expected = run(plain)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    expected.square().mean().backward()
    for own, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(3, 12, 5, 7), (3, 12, 9), (2, 12, 1, 1), (3, 12)])
@pytest.mark.parametrize(("place", "size"), [(100.0, 3.0), (0.0, 1e-3)])
@torch.no_grad()
def test_group_norm_is_group_norm(shape, place, size):
    """In float64, that is. Far from zero, differences of large sums would lose digits; close to it, eps counts."""
    random = torch.Generator().manual_seed(0)
    states = size * torch.randn(shape, generator=random) + place
    norm = nn.GroupNorm(4, 12, eps=1e-6)
    for parameter in norm.parameters():
        parameter.copy_(torch.randn(12, generator=random))
    expected = copy.deepcopy(norm).double()(states.double())
    norm.__class__ = ChannelsLastGroupNorm
    torch.testing.assert_close(norm(states).double(), expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize(("differentiated", "dtype", "own"), [
    (True, torch.float32, False), (False, torch.bfloat16, False), (False, torch.float32, True),
])  # fmt: skip
def test_group_norm_is_torchs_own_where_something_is_differentiated_or_less_exact(differentiated, dtype, own):
    norm, states = nn.GroupNorm(4, 12).to(dtype), torch.randn(2, 12, 4, 4, dtype=dtype)
    norm.__class__ = ChannelsLastGroupNorm
    with torch.set_grad_enabled(differentiated), Operations() as operations:
        assert norm(states).dtype == dtype
    assert ("native_group_norm" not in operations.seen) == own


@torch.no_grad()
def test_an_autoencoder_encodes_and_decodes_the_same():
    sizes = {"block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "latent_channels": 3}
    parameters = PublishedAutoencoder(data="any", weights="any", scale=1.0, **sizes)
    plain, pixels = build_autoencoder(parameters, 3, 16).eval(), torch.randn(2, 3, 16, 16)
    network = copy.deepcopy(plain)
    to_channels_last(network)
    assert sum(isinstance(module, ChannelsLastGroupNorm) for module in network.modules()) > 10
    latents = plain.encode(pixels).latent_dist.mean
    torch.testing.assert_close(network.encode(pixels).latent_dist.mean, latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.decode(latents).sample, plain.decode(latents).sample, atol=1e-4, rtol=1e-4)
