"""The sections of a parameter file that are learned, as typed, frozen objects: data, train."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from rdm.params.captions import CocoData, JourneyDBData
from rdm.params.gates import Gates
from rdm.params.network import ADM, ConvolutionalUNet, PixArt, TextUNet, Transformer
from rdm.params.protocol import Seed
from rdm.params.section import Name, Section, by_weights

Fraction = Annotated[float, Field(gt=0, lt=1)]
Value = TypeVar("Value")


def _distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"{list(values)} names one twice; name each once")
    return values


Distinct = Annotated[tuple[Value, ...], Field(min_length=1), AfterValidator(_distinct)]


# ---------------------------------------------------------------- data


class DigitsData(Section):
    """scikit-learn's 1,797 real handwritten digits (8x8, 16 grey levels), enlarged bilinearly."""

    source: Literal["digits"]
    image_size: PositiveInt
    test_fraction: Fraction
    split_seed: Seed = 0  # and of the captions, a sentence that names each digit


class FashionData(Section):
    """Fashion-MNIST: 60,000 + 10,000 images of 28x28, centred on a black square of `image_size`."""

    source: Literal["fashion"]
    image_size: Annotated[int, Field(ge=28)]
    folder: str | None = None  # where the four idx files lie; None: Debian's package, else a verified download


class FolderData(Section):
    """Photographs as ImageNet lays them out: `folder/{train,val}/<class>/<image>`, ADM's centre crop.

    Instead of folders there may be the official archives in `folder`.
    """

    source: Literal["folder"]
    image_size: PositiveInt
    folder: str
    # as an array; false: pixels stay in their files, and `threads` decode them when they are read, while the network is
    # at those before: for large sets, which are read a few times
    stored: bool = True
    classes: PositiveInt | None = None  # that there must be; None: any number


class MovingDigitsData(Section):
    """Clips of moving digits, made anew whenever they are read: see `rdm.data.moving_digits`."""

    source: Literal["moving_digits"]
    image_size: PositiveInt
    frames: Annotated[int, Field(ge=2)]
    clips: PositiveInt  # of the training split; the held-out digits make `test_clips`
    test_clips: PositiveInt
    speeds: Distinct[Literal["slow", "fast"]]
    digits: Distinct[Annotated[int, Field(ge=0, le=9)]] = tuple(range(10))  # which of the ten
    cell: PositiveInt = 1  # positions are rounded to so many pixels
    labelled: bool = True  # by the digit; false: an unconditional set
    test_fraction: Fraction
    seed: Seed = 0


class VideosData(Section):
    """Real videos, as files or as folders of frames: UCF-101, SkyTimelapse, Taichi-HD, or one's own.

    Frames are cropped to a centred square of the short side and resized to `image_size` by Pillow's bilinear filter.
    """

    source: Literal["videos"]
    image_size: PositiveInt
    train: str  # a folder
    test: str | None = None  # a folder; None: there is no held-out split
    train_list: str | None = None  # a file that names the videos of `train` to take, one a line; None: all
    test_list: str | None = None  # the same of `test`, which may be the same folder, as in UCF-101's official splits
    frames: Annotated[int, Field(ge=2)]
    stride: PositiveInt  # between the frames of a clip
    offset: Literal["first", "random"] = "random"  # where in its video a clip starts
    clips_per_video: PositiveInt = 1
    labelled: bool  # by the outermost folder, sorted by name; false: an unconditional set
    unusable: Literal["refuse", "skip"] = "refuse"  # a video that is too short, damaged, or lacks frames
    seed: Seed = 0  # of random places

    @model_validator(mode="after")
    def what_would_change_nothing(self) -> VideosData:
        """A seed or a list that would change nothing is refused."""
        if self.offset == "first" and self.seed:
            raise ValueError("seed would change nothing with offset: first; leave it out")
        if self.test_list is not None and self.test is None:
            raise ValueError("test_list would change nothing without test; name its folder")
        return self


CaptionedData = DigitsData | CocoData | JourneyDBData
INDEXED = 160  # bytes of the index, about, for each photograph whose pixels are not stored
ImageData = DigitsData | FashionData | FolderData | CocoData | JourneyDBData
ClipData = MovingDigitsData | VideosData
Data = Annotated[ImageData | ClipData, Field(discriminator="source")]


def files_of(data: Data) -> str | None:
    """The folder of photographs that are not stored; None of everything else."""
    return data.folder if isinstance(data, FolderData | CocoData | JourneyDBData) and not data.stored else None


def channels(data: Data) -> int:
    """Of its images: one if they are greyscale, else three."""
    return 1 if data.source in ("digits", "fashion", "moving_digits") else 3


# ---------------------------------------------------------------- train


class DiT(Transformer):
    """Diffusion transformer with adaLN-Zero blocks (Peebles & Xie, 2023): the F-shaped stack."""

    kind: Literal["dit"]
    label_std: PositiveFloat = 0.02  # spread of the label embeddings at the start; DiT's own is 0.02
    # the timestep's frequencies are 10000^(-i / (128 - shift)): 0 as in the official DiT, 1 as in diffusers' own
    frequency_shift: Literal[0, 1] = 1
    # adaLN-Zero's gates at the start: 0 makes every block the identity, 1 a live one, which ReZero's alpha = 0 needs
    block_scale: Literal[0, 1] = 0
    learned_sigma: bool = False  # the variance of a denoising step is predicted, too, as by the official DiT and Latte


class Latte(DiT):
    """Latte (Ma et al., 2024): DiT's blocks, of which every second attends over time. For clips."""

    kind: Literal["latte"]  # type: ignore[assignment]


class UNet(ConvolutionalUNet):
    """Latent diffusion's U-Net (Rombach et al., 2022): the U-shaped stack."""

    kind: Literal["unet"]
    # add: at the widest level, elsewhere as many channels per head; cross: at every level, or one number for each
    heads: PositiveInt | tuple[PositiveInt, ...] = 1
    label: Literal["add", "cross"] = "add"  # label embedding added to the timestep's, or attended to as one token
    null_label: bool = True  # false, as LDM-8 was published: there is no label that means none, and so no guidance


Network = Annotated[DiT | Latte | UNet | ADM | TextUNet | PixArt, Field(discriminator="kind")]


class Diffusion(Section):
    """The forward process and what the network predicts."""

    timesteps: PositiveInt = 1000
    schedule: Literal["linear", "scaled_linear"] = "linear"  # scaled_linear: sqrt(beta) is linear, as in LDM
    beta_start: Fraction = 0.0001
    beta_end: Fraction = 0.02
    target: Literal["epsilon", "v"]


class Optimisation(Section):
    """AdamW at a rate that may be cooled down, and an exponential moving average that is what gets sampled."""

    steps: PositiveInt
    batch: PositiveInt  # global: the same whatever the number of devices
    learning_rate: PositiveFloat
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    cooldown_steps: Annotated[int, Field(ge=0)] = 0  # at the end, in which the rate falls to a twentieth
    beta2: Fraction = 0.999
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: PositiveFloat | None = None
    ema_decay: Fraction  # in the end; after n steps no more than (1 + n) / (10 + n)
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    checkpointing: bool = (
        False  # keep the blocks' inputs alone, and compute the rest again: less memory, a third slower
    )
    log_every: PositiveInt = 50  # steps
    snapshots: Annotated[
        tuple[PositiveInt, ...], AfterValidator(_distinct)
    ] = ()  # steps at which the EMA weights are kept, beside those of the end


class Denoiser(Section):
    """What a system is, however it is trained. On the latents of clips, networks for images see their frames."""

    latents: Name
    network: Network
    diffusion: Diffusion
    seeds: Distinct[int] | None = None  # of it and what is fine-tuned from it; None: the experiment's


class Baseline(Optimisation, Denoiser):
    """A system trained from random weights; a Latte may start from a DiT trained on single frames."""

    start: Name | None = None  # of a Latte: a DiT whose blocks become the spatial ones
    gates: Gates | None = None  # from random weights on, as the paper's Figure 6 has them


class PublishedBaseline(Denoiser):
    """A system with published weights: DiT-XL/2, Latte, LDM-4, LDM-8, ADM. Nothing is trained."""

    weights: str  # the official checkpoint

    @property
    def start(self) -> None:
        """It starts from no other system."""

    @property
    def gates(self) -> None:
        """It has none."""

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Of its training none are known."""
        return ()


AnyBaseline = Annotated[
    Annotated[Baseline, Tag("<trained>")] | Annotated[PublishedBaseline, Tag("<published>")], Discriminator(by_weights)
]


class FineTuned(Optimisation):
    """A system that starts from another's EMA weights; with gates, or (its control) without."""

    start: Name
    gates: Gates | None = None


class Train(Section):
    """Systems by name. Each gated system gets twins in which all else is equal.

    `<name>-control` has no gates; `<name>-unsupervised`, if the system is supervised, has gates without supervision.
    """

    baselines: dict[Name, AnyBaseline]
    gated: Annotated[dict[Name, FineTuned], Field(min_length=1)]
