"""The section `latents` of a parameter file."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag

from rdm.params.section import Name, Section, by_weights


class Codec(Section):
    """An autoencoder of diffusers' layers and the data set that it encodes; f = 2 ** (number of block_channels - 1)."""

    data: Name
    block_channels: tuple[PositiveInt, ...]  # channels at each resolution, finest first
    layers_per_block: PositiveInt
    norm_groups: PositiveInt
    latent_channels: PositiveInt

    @property
    def factor(self) -> int:
        """By how much smaller latents are than images."""
        return int(2 ** (len(self.block_channels) - 1))


class Autoencoder(Codec):
    """A VQ-VAE (van den Oord et al., 2017), trained here."""

    codebook_size: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat  # the peak of a one-cycle schedule
    l1_weight: Annotated[float, Field(ge=0)]  # loss = MSE + l1_weight * L1 + commitment
    seed: int = 0


class PublishedAutoencoder(Codec):
    """A published one: latent diffusion's VQ-f4, VQ-f8 and KL-f8, or Stable Diffusion's."""

    weights: str  # CompVis' checkpoint, also one that holds the U-Net, too; or a safetensors file of diffusers
    codebook_size: PositiveInt | None = None  # None: a KL autoencoder, whose latents are drawn anew at each step
    attention: tuple[bool, ...] | None = None  # at each resolution, finest first; None: in the middle alone
    scale: PositiveFloat  # what its latents are multiplied by before they are learned
    mirror: bool = False  # mirrored images are encoded, too, and learned as often


class Pixels(Section):
    """No autoencoder: the latents are the pixels themselves, in [-1, 1], as ADM learns them."""

    kind: Literal["pixels"]
    data: Name
    mirror: bool = False  # mirrored images are learned as often

    factor: ClassVar[int] = 1
    latent_channels: ClassVar[None] = None  # as many as images have


AnyAutoencoder = Autoencoder | PublishedAutoencoder | Pixels


class Borrowed(Section):
    """A data set that another entry's autoencoder encodes, which is trained on that one's data set alone."""

    data: Name
    autoencoder: Name
    mirror: bool = False  # mirrored images are encoded, too, and learned as often, whatever the other entry does


def _kind(section: Any) -> str:
    """Which section is meant: pixels say so, a borrower names the lender, what is published its weights."""
    for key, kind in (("kind", "<pixels>"), ("autoencoder", "<borrowed>")):
        if key in section if isinstance(section, dict) else hasattr(section, key):
            return kind
    return by_weights(section)


Encoding = Annotated[
    Annotated[Autoencoder, Tag("<trained>")]
    | Annotated[PublishedAutoencoder, Tag("<published>")]
    | Annotated[Pixels, Tag("<pixels>")]
    | Annotated[Borrowed, Tag("<borrowed>")],
    Discriminator(_kind),
]
