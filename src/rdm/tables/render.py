"""One table, three ways: CSV for machines, Markdown and LaTeX for readers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

WORDS = ("", "Method", "Claim", "Tested", "Against", "Why")  # columns that hold words, not numbers


@dataclass(frozen=True)
class Page:
    """A table for readers. cells: text; notes: what the numbers are; appendix: a heading and a second table."""

    cells: pd.DataFrame
    notes: list[str]
    appendix: tuple[str, pd.DataFrame] | None = None


def to_csv(table: pd.DataFrame) -> str:
    """All columns, six significant digits."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def to_markdown(page: Page) -> str:
    """The readable columns, with notes that say what the numbers are, and the appendix apart."""
    text = f"{_markdown(page.cells)}\n\n" + "".join(f"- {note}\n" for note in page.notes)
    if page.appendix is not None:
        heading, cells = page.appendix
        text += f"\n{heading}\n\n{_markdown(cells)}\n"
    return text


def to_latex(page: Page) -> str:
    """The readable columns as booktabs tabulars, the notes as comments."""
    text = "".join(f"% {note}\n" for note in page.notes) + _latex(page.cells)
    if page.appendix is not None:
        heading, cells = page.appendix
        text += f"\n% {heading}\n{_latex(cells)}"
    return text


def number(value: float | None) -> str:
    """A number of the paper's, as it prints it."""
    return "" if pd.isna(value) else f"{value:g}"


def with_error(values: pd.Series, errors: pd.Series, digits: str = ".3f") -> pd.Series:
    """Value ± error, or the value alone."""
    pairs = zip(values, errors, strict=True)
    return pd.Series([_value_and_error(value, error, digits) for value, error in pairs])


def decimals(values: pd.Series) -> int:
    """As many for a column as show four digits of its largest value, but one to three."""
    largest = values.abs().max()
    digits = 0 if pd.isna(largest) or largest < 1 else int(math.log10(largest))
    return min(3, max(1, 3 - digits))


def _latex(cells: pd.DataFrame) -> str:
    cells = cells.map(lambda cell: cell.replace("±", "$\\pm$").replace("−", "$-$").replace("%", "\\%"))
    cells.columns = [column.replace("−", "$-$") for column in cells.columns]
    text: str = cells.to_latex(index=False, escape=False)
    return text


def _markdown(table: pd.DataFrame) -> str:
    alignment = ["left" if column in WORDS else "right" for column in table.columns]
    return table.to_markdown(index=False, colalign=alignment, disable_numparse=True)


def _value_and_error(value: float | None, error: float | None, digits: str) -> str:
    if pd.isna(value):
        return ""
    text = f"{value:{digits}}".replace("-", "−")
    return text if pd.isna(error) else f"{text} ± {error:{digits.removeprefix('+')}}"
