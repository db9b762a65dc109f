"""Gates as parameters: which, where, and how they are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from rdm.params.section import Section

Variant = Literal["rdm", "adaln", "skip", "resnet", "rezero"]  # in the order of the paper's V0 to V4
METADATA = "rdm.gates"  # the key under which a gates file says what it holds


class Supervision(Section):
    """The explicit supervision of the gates (reading R6): see `rdm.models.supervision`."""

    kind: Literal["hinge", "preserve"] = "hinge"
    weight: PositiveFloat = 0.35
    exact: bool = False  # the true gradient by a second backward pass: a reference, two to three times slower


class Gating(Section):
    """Gates on every residual unit z + F(z) of a network (Eq. 1 and Sec. 3.5; readings R1 to R5).

    variant: rdm     alpha * F(z) + z + beta, the paper's own
             adaln   F(alpha * z + beta) + z
             skip    alpha * z + F(z) + beta
             resnet  F(z) + z: no gates, to compare with
             rezero  alpha * F(z) + z
    shape: one alpha and beta per channel, or one per unit (the beta of a U-Net's last block then does nothing: the
           GroupNorm that follows removes it).
    unit: gate whole blocks, or a transformer block's attention and MLP apart.
    time: fixed numbers, or a linear function of the timestep's embedding added to them, zero at the start.
    alpha: at the start; beta starts at 0. 1 leaves a trained network what it was; ReZero starts at 0 from scratch.
    """

    variant: Variant = "rdm"
    shape: Literal["channel", "scalar"] = "channel"
    unit: Literal["block", "branch"] = "block"
    time: Literal["static", "embedded"] = "static"
    alpha: float = 1.0

    @model_validator(mode="after")
    def resnet_has_no_gates(self) -> Gating:
        """What would change nothing is refused."""
        fields = Gating.model_fields
        idle = [n for n in ("shape", "unit", "time", "alpha") if getattr(self, n) != fields[n].default]
        if self.variant == "resnet" and idle:
            raise ValueError(f"variant resnet has no gates, so {idle[0]} would change nothing; leave it out")
        return self


class Gates(Gating):
    """How gates are trained: with a rate and a decay of their own, and supervised or not."""

    learning_rate: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # towards alpha = 1, beta = 0
    supervision: Supervision | None = Supervision()

    @model_validator(mode="after")
    def supervision_needs_alpha_on_the_branch(self) -> Gates:
        """The supervision's gradient is that of an alpha in front of F."""
        if self.supervision is not None and self.variant not in ("rdm", "rezero"):
            raise ValueError(f"variant {self.variant} has no alpha * F(z) to supervise; set supervision: null")
        if self.supervision is not None and self.time == "embedded":
            raise ValueError("an alpha that depends on the timestep is not supervised; set supervision: null")
        return self
