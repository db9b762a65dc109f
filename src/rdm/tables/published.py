"""The paper's numbers, as `params/published.csv` holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table of the paper. values: column -> number, as printed; remarks: what a reader should know."""

    name: str
    architecture: str
    values: dict[str, float]
    remarks: list[str]


def read_published(path: Path, table: str) -> list[PublishedRow]:
    """The rows of one table in the paper's order."""
    cells = pd.read_csv(path, keep_default_na=False)
    rows = []
    for name, group in cells[cells["table"] == table].groupby("row", sort=False):
        values = {str(column): float(value) for column, value in zip(group["column"], group["value"], strict=True)}
        remarks = [str(remark) for remark in group["remark"].unique() if remark]
        rows.append(PublishedRow(str(name), str(group["architecture"].iloc[0]), values, remarks))
    return rows
