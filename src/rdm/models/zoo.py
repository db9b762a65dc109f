"""From parameters to networks. Each maps (latents, timesteps, labels) to a tensor shaped like the latents.

Those conditioned on text take the tokens of captions in the place of labels. With a learned variance there are twice as
many channels: what is predicted first, then what the variance is made of.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdm.errors import RdmError
from rdm.models.adm import ADM
from rdm.models.dit import DiT
from rdm.models.latte import Latte
from rdm.models.pixart import PixArt
from rdm.models.unet import AddedLabelUNet, CrossAttentionUNet, TextUNet
from rdm.params import network, schema
from rdm.randomness import seed_of


def build_network(
    parameters: schema.Network, shape: list[int], classes: int, seed: int, text: nn.Module | None = None
) -> nn.Module:
    """A network with random weights that are a function of `seed`.

    shape: of one item, (channels, height, width); for a Latte (frames, channels, height, width).
    classes: the null label of classifier-free guidance is `classes`; 0: every label is the null label.
    text: of a network conditioned on text, what encodes captions.
    """
    torch.manual_seed(seed_of(seed, "network"))
    channels, size = shape[-3:-1]
    if isinstance(parameters, network.TextNetwork):
        assert text is not None
        kind = PixArt if isinstance(parameters, network.PixArt) else TextUNet
        conditioned: nn.Module = kind(parameters, channels, size, text)  # type: ignore[arg-type]
        return conditioned
    if isinstance(parameters, schema.DiT):
        sizes = {**parameters.model_dump(exclude={"kind"}), "channels": channels, "size": size, "classes": classes}
        transformer: nn.Module = Latte(**sizes, frames=shape[0]) if len(shape) == 4 else DiT(**sizes)
        return transformer
    if isinstance(parameters, network.ADM):
        return ADM(parameters, channels, size, classes)
    if parameters.label == "cross":
        return CrossAttentionUNet(parameters, channels, size, classes)
    return AddedLabelUNet(parameters, channels, size, classes)


@torch.no_grad()
def start_from_frames(latte: Latte, weights: dict[str, Tensor]) -> None:
    """Give a Latte the weights of a DiT of half its depth, trained on single frames.

    Block i of the DiT becomes spatial block 2 i; the temporal blocks stay what they are, at a Latte's own start the
    identity. Raises RdmError, and leaves the Latte as it was, unless every weight has its place and every place but
    the temporal blocks' a weight.
    """
    own = latte.state_dict()
    temporal = tuple(f"transformer_blocks.{number}." for number in range(1, latte.config.depth, 2))
    given = {_in_latte(name): tensor for name, tensor in weights.items()}
    places = {name: tensor.shape for name, tensor in own.items() if not name.startswith(temporal)}
    for name in [*given, *places]:
        there, here = given[name].shape if name in given else None, places.get(name)
        if there != here:
            raise RdmError(
                f"{name} is {_shown(there)} in the network for frames and {_shown(here)} in the Latte; start from a "
                "DiT of the same sizes, half the depth and the same classes."
            )
    for name, tensor in given.items():
        own[name].copy_(tensor)


def _in_latte(name: str) -> str:
    """Where in a Latte a weight of a DiT belongs."""
    stack, _, rest = name.partition(".")
    if stack != "transformer_blocks":
        return name
    number, _, rest = rest.partition(".")
    return f"{stack}.{2 * int(number)}.{rest}"


def _shown(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"of shape {tuple(shape)}"
