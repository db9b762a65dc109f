"""params/claims.yaml: what the paper claims, as statements that can be measured, and the rule by which they are judged.

Systems are named by the rows of the paper's tables, so that one file serves every experiment.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from rdm.params.evaluation import VideoColumn
from rdm.params.gates import Variant
from rdm.params.schema import Distinct, Fraction
from rdm.params.section import Name, Section

ImageColumn = Literal["c2i_fid", "c2i_sfid", "c2i_is", "t2i_fid", "t2i_sfid", "t2i_is"]
Arm = Literal["without gates", "gates", "gates, supervised"]  # as `Experiment.arms_of` calls them


Compared = TypeVar("Compared")


def _than_others(section: Compared, own: str, than: tuple[str, ...]) -> Compared:
    if own in than:
        raise ValueError(f"{own!r} is compared with itself; leave it out of `than`")
    return section


class Rows(Section):
    """In one column of Table 1 or 2 a row is better than each of others. `ROW: ungated control` is a row, too."""

    kind: Literal["rows"]
    column: ImageColumn | VideoColumn
    row: str
    than: Distinct[str]

    @property
    def table(self) -> str:
        """The table that has the column."""
        return "table1" if self.column.startswith(("c2i_", "t2i_")) else "table2"

    @model_validator(mode="after")
    def than_others(self) -> Rows:
        """Nothing is better than itself."""
        return _than_others(self, self.row, self.than)


class Variants(Section):
    """Figure 6, after the last step: a residual unit is better than each of others."""

    kind: Literal["variants"]
    variant: Variant
    than: Distinct[Variant]

    @model_validator(mode="after")
    def than_others(self) -> Variants:
        """Nothing is better than itself."""
        return _than_others(self, self.variant, self.than)


class Steps(Section):
    """Figure 6: each of these residual units is better after the last step than after the first that is shown."""

    kind: Literal["steps"]
    variants: Distinct[Variant]


class Depth(Section):
    """Figure 7: each network is better than the next shallower one."""

    kind: Literal["depth"]
    gated: bool


class GatesByDepth(Section):
    """Figure 7: better with gates than without, in the mean over all depths or at the greatest one."""

    kind: Literal["gates_by_depth"]
    at: Literal["all", "deepest"]


class Sensitivity(Section):
    """Figure 5: how sensitive the loss is to the shallower half of the residual states, beside something else.

    That is another arm, after the last step that is shown; the same arm after the first one; or the deepest state.
    """

    kind: Literal["sensitivity"]
    row: str  # of Table 1
    arm: Arm
    direction: Literal["higher", "lower"]
    than: Arm | Literal["the first step", "the deepest state"]


class Unmeasured(Section):
    """Nothing that could be measured here."""

    kind: Literal["unmeasured"]
    reason: str


Statement = Annotated[
    Rows | Variants | Steps | Depth | GatesByDepth | Sensitivity | Unmeasured, Field(discriminator="kind")
]


class Claim(Section):
    """One claim."""

    text: str  # in the paper's words, or what a table of it prints
    where: str
    statement: Statement


class Claims(Section):
    """The whole file."""

    confidence: Fraction  # of each interval
    matters: Fraction  # the smallest effect that would matter, as a share of what it is an effect on
    claims: Annotated[dict[Name, Claim], Field(min_length=1)]
