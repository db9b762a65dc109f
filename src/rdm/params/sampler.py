"""The section `sample` of a parameter file."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rdm.params.network import ADM
from rdm.params.section import Section


class ClassifierGuidance(Section):
    """By a classifier of published weights (Dhariwal & Nichol, 2021): half an ADM, which sees noisy latents."""

    weights: str  # in ADM's layout
    network: ADM
    scale: PositiveFloat  # of the gradient of log p(label | latents)


class Sampler(Section):
    """How latents are drawn.

    ddim: Song et al. (2021); eta = 1 gives the ancestral DDPM step. ddpm: the ancestral step with the variance that a
    network of learned_sigma predicts, as in DiT's and Latte's published samples. dpm++: the deterministic second-order
    multistep solver of Lu et al. (2022), as good in fewer steps.
    """

    solver: Literal["ddim", "ddpm", "dpm++"] = "ddim"
    steps: PositiveInt
    guidance: Annotated[float, Field(ge=1)] = 1.0  # classifier-free guidance scale; 1 means none
    unguided_steps: Annotated[int, Field(ge=0)] = (
        0  # at the start, where guidance costs variety (Kynkäänniemi et al., 2024)
    )
    guided_channels: PositiveInt | None = None  # guidance acts on the first so many channels (DiT: 3); None: on all
    classifier: ClassifierGuidance | None = None
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip: bool = False  # what a step of ddpm takes for the clean item is clipped to [-1, 1], as ADM's pixels are
    # ddim's timesteps of 1000 in 250: trailing 999, 995, ..., 3; leading 997, 993, ..., 1, as LDM's published samples
    spacing: Literal["trailing", "leading"] = "trailing"
    labels: Literal["balanced", "random"] | None = None  # how they are dealt; None, and from text: as in the protocol
    batch: PositiveInt  # items per network call
    step: PositiveInt | None = None  # of the training: the weights of this snapshot; None: those of the end

    @property
    def network_calls(self) -> int:
        """NFE: evaluations of the denoiser per sample, two per step under classifier-free guidance."""
        return self.steps + (0 if self.guidance == 1 else self.steps - self.unguided_steps)

    def divides(self, timesteps: int, steps: int) -> bool:
        """Whether diffusers' solver takes so many steps through them, each from where the one before ends."""
        if self.solver == "ddim":  # a step is `timesteps // steps` wide; leading timesteps are counted from 1
            return timesteps % steps == 0 and (self.spacing == "trailing" or steps < timesteps)
        if self.solver == "dpm++":  # numpy.arange(timesteps, 0, -timesteps / steps), which rounding may make longer
            return math.ceil(timesteps / (timesteps / steps)) == steps
        return steps > 1  # both ends of training are among them

    @model_validator(mode="after")
    def what_would_change_nothing(self) -> Sampler:
        """Keys that the solver would ignore are refused: dpm++ is deterministic here, ddpm always ancestral."""
        if self.solver != "ddim" and self.eta > 0:
            raise ValueError("eta is for solver: ddim")
        if self.solver != "ddim" and self.spacing != "trailing":
            raise ValueError("spacing is for solver: ddim")
        if self.solver != "ddpm" and self.clip:
            raise ValueError("clip is for solver: ddpm")
        for key in ("guided_channels", "unguided_steps"):
            by_classifier = key == "unguided_steps" and self.classifier is not None
            if getattr(self, key) and self.guidance == 1 and not by_classifier:
                raise ValueError(f"{key} would change nothing at guidance 1; leave it out")
        if self.unguided_steps >= self.steps:
            raise ValueError(f"unguided_steps: {self.unguided_steps} of {self.steps} steps leave none to be guided")
        return self
