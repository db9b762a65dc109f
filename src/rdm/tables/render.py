"""One table, four ways: CSV for machines, Markdown, LaTeX and HTML for readers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import pandas as pd

WORDS = ("", "Method", "Run", "Sampler", "Claim", "Tested", "Against", "Why")  # columns that hold words, not numbers
LONG = 30  # characters of a text that goes over several lines
NAMES = ("Method", "Run")  # and of these, what stays in sight when a wide table is moved
STYLE = """\
body { font: 12px/1.45 system-ui, sans-serif; margin: 1rem; color: #1b1f24; background: #fff }
h1 { font-size: 1.25rem } h2 { font-size: 1rem; margin-top: 1.6rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1rem }
th { background: #eef1f4; vertical-align: bottom }
th, td { padding: .26rem .42rem; border-bottom: 1px solid #d8dee4; text-align: right }
td { white-space: nowrap; background: #fff }
.text { text-align: left; white-space: normal; min-width: 4.5rem } .long { white-space: normal; min-width: 11rem }
.name { position: sticky; left: 0 } .quoted { color: #6b7480 }
tbody tr:hover td { background: #f6f8fa }
li, p { max-width: 60rem } code { background: #eef1f4; padding: 0 .2em }
"""


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


def to_html(page: Page, title: str) -> str:
    """The readable columns, notes and appendix as a page that loads nothing; rows with nothing of ours are grey."""
    notes = "".join(f"<li>{_code(escape(note))}</li>\n" for note in page.notes)
    body = f"<h1>{escape(title)}</h1>\n{_html(page.cells)}<ul>\n{notes}</ul>\n"
    if page.appendix is not None:
        heading, cells = page.appendix
        body += f"{_heading(heading)}{_html(cells)}"
    head = f'<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>\n{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}</body>\n</html>\n'


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
    text: str = cells.to_latex(index=False, escape=True)
    return text.replace("±", "$\\pm$").replace("−", "$-$")


def _markdown(table: pd.DataFrame) -> str:
    alignment = ["left" if column in WORDS else "right" for column in table.columns]
    return table.to_markdown(index=False, colalign=alignment, disable_numparse=True)


def _html(table: pd.DataFrame) -> str:
    columns = [["text"] * (c in WORDS) + ["name"] * (c in NAMES) for c in table.columns]

    def cell(tag: str, column: list[str], text: str) -> str:
        kinds = " ".join([*column, *(["long"] if len(text) > LONG else [])])
        shown = escape(text).replace(" %", "\N{NO-BREAK SPACE}%")  # else a line may begin with %
        return f'<{tag} class="{kinds}">{shown}</{tag}>' if kinds else f"<{tag}>{shown}</{tag}>"

    def row(tag: str, texts: Iterable[str]) -> str:
        return "".join(cell(tag, column, text) for column, text in zip(columns, texts, strict=True))

    lines = ['<tr class="quoted">' if "quoted" in texts else "<tr>" for texts in table.to_numpy()]
    rows = "".join(f"{line}{row('td', texts)}</tr>\n" for line, texts in zip(lines, table.to_numpy(), strict=True))
    return f"<table>\n<thead><tr>{row('th', table.columns)}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _heading(text: str) -> str:
    """Its first words as a heading; the rest, if there is any, as a paragraph."""
    title, rest = re.split(r"[,:.]\s*|$", text, maxsplit=1)
    return f"<h2>{escape(title)}</h2>\n" + (f"<p>{_code(escape(rest[0].upper() + rest[1:]))}</p>\n" if rest else "")


def _code(text: str) -> str:
    """Markdown's `code` as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _value_and_error(value: float | None, error: float | None, digits: str) -> str:
    if pd.isna(value):
        return ""
    text = f"{value:{digits}}".replace("-", "−")
    return text if pd.isna(error) else f"{text} ± {error:{digits.removeprefix('+')}}"
