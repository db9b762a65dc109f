"""The paper's numbers, as `params/published.csv` holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table of the paper.

    values: column -> number, as printed; origins: column -> where the paper has it from; remarks: column -> what a
    reader should know about that number.
    """

    name: str
    architecture: str
    values: dict[str, float] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


def read_published(path: Path, table: str) -> list[PublishedRow]:
    """The rows of one table in the paper's order."""
    cells = pd.read_csv(path, keep_default_na=False)
    rows = []
    for name, group in cells[cells["table"] == table].groupby("row", sort=False):
        columns = [str(column) for column in group["column"]]
        values = {column: float(value) for column, value in zip(columns, group["value"], strict=True)}
        remarks = {column: str(remark) for column, remark in zip(columns, group["remark"], strict=True) if remark}
        origins = dict(zip(columns, map(str, group["origin"]), strict=True))
        rows.append(PublishedRow(str(name), str(group["architecture"].iloc[0]), values, remarks, origins))
    return rows
