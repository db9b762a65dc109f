"""The sections of a parameter file that say how samples are judged: score, published, tables, figures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from rdm.params.schema import Distinct, Fraction
from rdm.params.section import Name, Section

# ---------------------------------------------------------------- score


class Classifier(Section):
    """A small convolutional classifier trained on the data set; its features stand in for Inception's."""

    kind: Literal["classifier"]
    channels: tuple[PositiveInt, ...]
    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    seed: int = 0


class Pretrained(Section):
    """A published network: torch-fidelity's port of the FID-Inception, or StyleGAN-V's TorchScript of I3D."""

    kind: Literal["inception", "i3d"]
    weights: str  # the path of its file


Extractor = Classifier | Pretrained


def _whose(extractor: Any) -> str:
    """Which is meant: the name of a score whose extractor it is, or a section."""
    return "<named>" if isinstance(extractor, str) else "<own>"


class Score(Section):
    """One way to score a data set: by which named protocol, through which network (or another score's, by its name)."""

    data: Name
    protocol: str
    extractor: Annotated[
        Annotated[Name, Tag("<named>")] | Annotated[Annotated[Extractor, Field(discriminator="kind")], Tag("<own>")],
        Discriminator(_whose),
    ]
    reference: str | None = None  # a reference file or set of items; None: the data set's own split


class Published(Section):
    """A sample set of others, scored in every way in which its data set is."""

    data: Name
    path: str  # anything that `rdm score` reads


# ---------------------------------------------------------------- tables, figures


class Cell(Section):
    """What stands for a row: a system's samples, or published ones."""

    system: Name | None = None
    sampler: Name | None = None
    samples: Name | None = None

    @model_validator(mode="after")
    def run_or_samples(self) -> Cell:
        """Either a system and a sampler, or published samples."""
        if (self.system is None) != (self.sampler is None) or (self.system is None) == (self.samples is None):
            raise ValueError("give either system and sampler, or samples")
        return self


class Row(Cell):
    """One row of Table 1, a row of the paper, or such a row, a comma and what is different.

    text: what stands in its text-to-image columns.
    """

    row: str
    text: Cell | None = None


class VideoRow(Section):
    """One row of Table 2: a cell for each data set that it was measured on."""

    row: str
    cells: Annotated[tuple[Cell, ...], Field(min_length=1)]


# the paper's own, and in how many clips a digit stays the same digit
VideoColumn = Literal[
    "frame_fid",
    "frame_is",
    "skytimelapse_fvd",
    "taichi_hd_fvd",
    "ucf101_fvd",
    "skytimelapse_identity",
    "taichi_hd_identity",
    "ucf101_identity",
]


class Column(Section):
    """Where the numbers of a column come from."""

    score: Name
    metric: Literal["fvd", "fid", "is", "identity"]


class Table1(Section):
    """Images: FID, sFID and IS, of images from labels and of images from text."""

    score: Name
    text_score: Name | None = None  # of the text-to-image columns; None: they are quoted alone
    picture: Distinct[Name]  # of each gated system the images by the first of these samplers that a row of it has
    rows: tuple[Row, ...]


class Table2(Section):
    """Videos: FVD by data set, FID of frames, IS of clips."""

    columns: dict[VideoColumn, Column]
    rows: tuple[VideoRow, ...]


class Tables(Section):
    """What is put beside the paper's numbers."""

    scale: str  # printed in each row: at which scale our numbers were measured
    tolerance: Fraction  # |ours - paper| / paper that still counts as reproduced, at the paper's own scale
    table1: Table1
    table2: Table2 | None = None


class Figure5(Section):
    """Sensitivity by depth (the paper's Fig. 5), the gates by depth, and the losses."""

    systems: Distinct[Name]  # gated ones
    steps: Distinct[PositiveInt]  # of fine-tuning; each must be a step that is logged


class Curve(Section):
    """Systems derived from a baseline, all trained from random weights with equal seeds, and how they are measured."""

    base: Name
    sampler: Name
    score: Name
    metric: Literal["fvd", "fid", "sfid", "is"]


class Figure6(Curve):
    """The five residual variants against training steps (the paper's Fig. 6)."""

    steps: Distinct[PositiveInt]

    def at(self, step: int) -> str:
        """The name of the sampler that draws from the weights after `step` steps."""
        return self.sampler if step == max(self.steps) else f"{self.sampler}-step{step}"


class Figure7(Curve):
    """Quality by depth, with gates and without (the paper's Fig. 7)."""

    depths: Distinct[PositiveInt]
    steps: PositiveInt


class Rates(Section):
    """Gates that move further: gated systems, and themselves with their gates trained at higher rates, by all metrics.

    factors: of the gates' learning rate, and so of their supervision's; the weights' stays what it is.
    """

    systems: Distinct[Name]  # gated ones, or their twins without supervision
    factors: Distinct[Annotated[int, Field(gt=1)]]
    samplers: Distinct[Name]
    score: Name


class Figures(Section):
    """What is drawn beside the tables."""

    figure5: Figure5
    figure6: Figure6 | None = None
    figure7: Figure7 | None = None
    rates: Rates | None = None
