"""What a network costs: counted layer by layer on tensors that have shapes and no values."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rdm.latents.codec import build_autoencoder, encode
from rdm.models.adm import build_classifier
from rdm.models.cost import blank_inputs, forward_flops
from rdm.models.zoo import build_network
from rdm.params import network as networks
from rdm.params import schema
from rdm.params.autoencoder import AnyAutoencoder
from rdm.plan.counted import AutoencoderCost, Cost, NetworkCost


class Blank(nn.Module):
    """Stands where a text encoder does, whose cost is not counted: hidden states of its width, all zero."""

    def __init__(self, parameters: networks.WordEncoder | networks.PublishedEncoder) -> None:
        super().__init__()
        self.length, self.width = parameters.length, parameters.width

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """As `rdm.models.text.FrozenText`."""
        return tokens.new_zeros((*tokens.shape, self.width), dtype=torch.float32), tokens >= 0


def of_network(parameters: schema.Network, shape: list[int], classes: int) -> NetworkCost:
    """A denoiser on latents of this shape, (C, h, w) or (T, C, h, w), without its text encoder if it has one."""
    with torch.device("meta"):
        network = _build(parameters, shape, classes)
        inputs = blank_inputs(network, shape)
    kept = _kept(network, lambda: network(*inputs))
    others = [
        _kept_switched(parameters, shape, classes, bf16, c) for bf16, c in ((True, False), (False, True), (True, True))
    ]
    live = _live(network, lambda: network(*inputs))
    return NetworkCost(_count(network), forward_flops(network, shape), kept, live, *others)


def _build(parameters: schema.Network, shape: list[int], classes: int) -> nn.Module:
    text = Blank(parameters.text) if isinstance(parameters, networks.TextNetwork) else None
    return build_network(parameters, shape, classes, 0, text)


def _kept_switched(
    parameters: schema.Network, shape: list[int], classes: int, bfloat16: bool, checkpointing: bool
) -> int:
    """Bytes that an item more in the batch keeps; weights in bfloat16 are kept, too, but once."""
    with FakeTensorMode():
        network = _build(parameters, shape, classes).train()
        if checkpointing:
            network.enable_gradient_checkpointing()  # type: ignore[operator]
        found = []
        for batch in (1, 2):
            inputs = blank_inputs(network, shape, batch)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                found.append(_kept(network, lambda: network(*inputs), not bfloat16))  # noqa: B023
    return found[1] - found[0]


def of_classifier(parameters: networks.ADM, shape: list[int], classes: int) -> Cost:
    """A classifier of noisy latents of this shape, (C, h, w)."""
    channels, size, _ = shape
    with torch.device("meta"):
        network = build_classifier(parameters, channels, size, classes)
        inputs = torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH):  # the counter does not know every fused attention
        flops = _flops(lambda: network(*inputs))
    return Cost(_count(network), flops, _kept(network, lambda: network(*inputs)))


def of_autoencoder(parameters: AnyAutoencoder, channels: int, size: int) -> AutoencoderCost:
    """An autoencoder on one image of so many channels and pixels a side."""
    with torch.device("meta"):
        network = build_autoencoder(parameters, channels, size)
        image = torch.zeros(1, channels, size, size)
    latents = encode(network, image)[:, : parameters.latent_channels]  # of pixels all
    encoder = _flops(lambda: encode(network, image))
    decoder = _flops(lambda: network.decode(latents))
    kept = _kept(network, lambda: network.decode(encode(network, image)[:, : parameters.latent_channels]))
    live = _live(network, lambda: encode(network, image)), _live(network, lambda: network.decode(latents))
    return AutoencoderCost(_count(network), encoder + decoder, kept, encoder, decoder, *live)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def _flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive at a time, each storage once, without those that were there before."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.before = {tensor.untyped_storage()._cdata for tensor in before}
        self.tensors: Counter[int] = Counter()  # alive, by storage
        self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation's results are counted until nobody holds them."""
        results = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self.before:
                if not self.tensors[storage._cdata]:
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                self.tensors[storage._cdata] += 1
                weakref.finalize(tensor, self._forget, storage._cdata, storage.nbytes())
        return results

    def _forget(self, storage: int, size: int) -> None:
        self.tensors[storage] -= 1
        if not self.tensors[storage]:
            self.now -= size


@torch.no_grad()
def _live(network: nn.Module, call: Callable[[], Any]) -> int:
    """The most bytes that a call holds at a time, beside the weights."""
    live = Live([*network.parameters(), *network.buffers()])
    with live:
        call()
    return live.most


def _kept(network: nn.Module, call: Callable[[], Any], matrices: bool = True) -> int:
    """Bytes that autograd saves in a call, each storage once, the weights' own not at all.

    matrices: attention keeps its own, as in float32 where it repeats itself; in bfloat16 fused kernels do without.
    """
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that its place is not given to another
        return tensor

    backend = SDPBackend.MATH if matrices else SDPBackend.FLASH_ATTENTION
    with sdpa_kernel(backend), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for place, storage in kept.items() if place not in own)
