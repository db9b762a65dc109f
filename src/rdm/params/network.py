"""What networks share, ADM's, and those that are conditioned on text, as typed, frozen objects."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag

from rdm.params.section import Section, by_weights


class Transformer(Section):
    """A stack of transformer blocks over patches: F-shaped."""

    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    patch: PositiveInt


class ConvolutionalUNet(Section):
    """Residual blocks at several resolutions, down and up again: U-shaped."""

    block_channels: tuple[PositiveInt, ...]
    layers_per_block: PositiveInt
    norm_groups: PositiveInt
    attention: tuple[bool, ...]  # attention at each resolution, finest first


class ADM(ConvolutionalUNet):
    """ADM's U-Net (Dhariwal & Nichol, 2021): residual blocks that resample, and that timestep and label modulate.

    It predicts the variance of a denoising step, too, and has no label that means none.
    """

    kind: Literal["adm"]
    heads: PositiveInt = 1  # at the widest level, elsewhere as many channels per head

    learned_sigma: ClassVar[bool] = True
    null_label: ClassVar[bool] = False


class WordEncoder(Section):
    """A BERT (Devlin et al., 2019) of random weights over the words of the training captions; it is not trained."""

    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    length: Annotated[int, Field(ge=3)]  # tokens of a caption: its words, one before and one after; the rest is cut
    seed: int = 0


class PublishedEncoder(Section):
    """A pre-trained one, frozen: BERT, T5 or CLIP's."""

    weights: str  # a folder that transformers' AutoTokenizer and AutoModel read, as save_pretrained writes it
    width: PositiveInt  # of its hidden states
    length: PositiveInt  # tokens of a caption; what is longer is cut


TextEncoder = Annotated[
    Annotated[WordEncoder, Tag("<trained>")] | Annotated[PublishedEncoder, Tag("<published>")],
    Discriminator(by_weights),
]


class TextUNet(ConvolutionalUNet):
    """Latent diffusion's text-to-image U-Net: its attention layers attend to the tokens of a caption."""

    kind: Literal["text_unet"]
    heads: PositiveInt | tuple[PositiveInt, ...] = 1  # at every level, or one number for each
    text: TextEncoder


class PixArt(Transformer):
    """DiT blocks with cross-attention to the tokens of a caption, and one adaLN for all (PixArt-alpha, Chen, 2024)."""

    kind: Literal["pixart"]
    learned_sigma: bool = False  # the variance of a denoising step is predicted, too
    text: TextEncoder


TextNetwork = TextUNet | PixArt
