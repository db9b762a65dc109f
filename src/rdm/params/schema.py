"""The sections of a parameter file as typed, frozen objects.

Their names are the pipeline's own words: data, latents, train, sample, score, tables.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rdm.params.gates import Gates
from rdm.params.section import Section

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]


# ---------------------------------------------------------------- data


class DigitsData(Section):
    """scikit-learn's 1,797 real handwritten digits (8x8, 16 grey levels), enlarged bilinearly."""

    source: Literal["digits"]
    image_size: PositiveInt
    test_fraction: Fraction
    split_seed: int = 0


class FashionData(Section):
    """Fashion-MNIST: 60,000 + 10,000 images of 28x28, centred on a black square of `image_size`."""

    source: Literal["fashion"]
    image_size: Annotated[int, Field(ge=28)]
    folder: str | None = None  # where the four idx files lie; None: Debian's package, else a verified download


class FolderData(Section):
    """Photographs as ImageNet lays them out: `folder/{train,val}/<class>/<image>`, ADM's centre crop."""

    source: Literal["folder"]
    image_size: PositiveInt
    folder: str


Data = Annotated[DigitsData | FashionData | FolderData, Field(discriminator="source")]


# ---------------------------------------------------------------- latents


class Autoencoder(Section):
    """A VQ-VAE (van den Oord et al., 2017) of diffusers' layers; f = 2 ** (number of block_channels - 1)."""

    data: Name
    block_channels: tuple[PositiveInt, ...]  # channels at each resolution, finest first
    layers_per_block: PositiveInt
    norm_groups: PositiveInt
    latent_channels: PositiveInt
    codebook_size: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat  # the peak of a one-cycle schedule
    l1_weight: Annotated[float, Field(ge=0)]  # loss = MSE + l1_weight * L1 + commitment
    seed: int = 0


# ---------------------------------------------------------------- train


class DiT(Section):
    """Diffusion transformer with adaLN-Zero blocks (Peebles & Xie, 2023): the F-shaped stack."""

    kind: Literal["dit"]
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    patch: PositiveInt
    label_std: PositiveFloat = 0.02  # spread of the label embeddings at the start; DiT's own is 0.02
    # the timestep's frequencies are 10000^(-i / (128 - shift)): 0 as in the official DiT, 1 as in diffusers' own
    frequency_shift: Literal[0, 1] = 1


class UNet(Section):
    """Latent diffusion's U-Net (Rombach et al., 2022): the U-shaped stack."""

    kind: Literal["unet"]
    block_channels: tuple[PositiveInt, ...]
    layers_per_block: PositiveInt
    norm_groups: PositiveInt
    attention: tuple[bool, ...]  # attention at each resolution, finest first
    heads: PositiveInt = 1  # add: at the widest level, elsewhere as many channels per head; cross: at every level
    label: Literal["add", "cross"] = "add"  # label embedding added to the timestep's, or attended to as one token


Network = Annotated[DiT | UNet, Field(discriminator="kind")]


class Diffusion(Section):
    """The forward process and what the network predicts."""

    timesteps: PositiveInt = 1000
    schedule: Literal["linear", "scaled_linear"] = "linear"  # scaled_linear: sqrt(beta) is linear, as in LDM
    beta_start: Fraction = 0.0001
    beta_end: Fraction = 0.02
    target: Literal["epsilon", "v"]


class Optimisation(Section):
    """AdamW at a constant rate, and an exponential moving average that is what gets sampled."""

    steps: PositiveInt
    batch: PositiveInt  # global: the same whatever the number of devices
    learning_rate: PositiveFloat
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    beta2: Fraction = 0.999
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: PositiveFloat | None = None
    ema_decay: Fraction
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    log_every: PositiveInt = 50  # steps


class Baseline(Optimisation):
    """A system trained from random weights."""

    latents: Name
    network: Network
    diffusion: Diffusion


class FineTuned(Optimisation):
    """A system that starts from another's EMA weights; with gates, or (its control) without."""

    start: Name
    gates: Gates | None = None


class Train(Section):
    """Systems by name. Each gated system gets twins in which all else is equal.

    `<name>-control` has no gates; `<name>-unsupervised`, if the system is supervised, has gates without supervision.
    """

    baselines: dict[Name, Baseline]
    gated: Annotated[dict[Name, FineTuned], Field(min_length=1)]


# ---------------------------------------------------------------- sample, score, tables


class Sampler(Section):
    """How latents are drawn.

    ddim: Song et al. (2021); eta = 1 gives the ancestral DDPM step. dpm++: the deterministic second-order multistep
    solver of Lu et al. (2022), as good in fewer steps.
    """

    solver: Literal["ddim", "dpm++"] = "ddim"
    steps: PositiveInt
    guidance: Annotated[float, Field(ge=1)] = 1.0  # classifier-free guidance scale; 1 means none
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    batch: PositiveInt  # items per network call

    @model_validator(mode="after")
    def noise_needs_ddim(self) -> Sampler:
        """dpm++ is deterministic here: an eta that it would ignore is refused."""
        if self.solver == "dpm++" and self.eta > 0:
            raise ValueError("eta is for solver: ddim")
        return self


class Classifier(Section):
    """A small convolutional classifier trained on the data set; its features stand in for Inception's."""

    kind: Literal["classifier"]
    channels: tuple[PositiveInt, ...]
    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    seed: int = 0


class Inception(Section):
    """torch-fidelity's port of the FID-Inception network; `weights` is the path of its published file."""

    kind: Literal["inception"]
    weights: str


Extractor = Annotated[Classifier | Inception, Field(discriminator="kind")]


class Score(Section):
    """Which data set is scored against, by which named protocol, through which network."""

    data: Name
    protocol: str
    extractor: Extractor
    reference: str | None = None  # a reference file or set of images; None: the data set's own split
    samples: dict[Name, str] = Field(default={})  # published sample sets: name -> anything that `rdm score` reads


class Row(Section):
    """One row of the table, and the run or the published samples that stand for it.

    row: a row of the paper, or such a row, a comma and what is different.
    """

    row: str
    system: Name | None = None
    sampler: Name | None = None
    samples: Name | None = None

    @model_validator(mode="after")
    def run_or_samples(self) -> Row:
        """Either a system and a sampler, or published samples."""
        if (self.system is None) != (self.sampler is None) or (self.system is None) == (self.samples is None):
            raise ValueError("give either system and sampler, or samples")
        return self


class Tables(Section):
    """What is put beside the paper's numbers."""

    scale: str  # printed in each row: at which scale our numbers were measured
    tolerance: Fraction  # |ours - paper| / paper that still counts as reproduced, at the paper's own scale
    rows: tuple[Row, ...]
    picture: Name  # the sampler whose images are shown side by side


class Figure5(Section):
    """Sensitivity by depth (the paper's Fig. 5)."""

    steps: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # of fine-tuning; each must be a step that is logged


class Figures(Section):
    """What is drawn beside the tables."""

    figure5: Figure5
