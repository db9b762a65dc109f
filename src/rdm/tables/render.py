"""One table, three ways: CSV for machines, Markdown and LaTeX for readers."""

from __future__ import annotations

import pandas as pd

from rdm.params import Experiment

NAMES = {"fid": "FID", "sfid": "sFID", "is": "IS"}


def to_csv(table: pd.DataFrame) -> str:
    """All columns, six significant digits."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def to_markdown(table: pd.DataFrame, experiment: Experiment) -> str:
    """The readable columns, with notes that say what the numbers are, and the text-to-image columns apart."""
    notes = "".join(f"- {note}\n" for note in _notes(experiment))
    quoted = "Text-to-image, quoted from the paper; none of it is run here:"
    return f"{_markdown(_readable(table))}\n\n{notes}\n{quoted}\n\n{_markdown(_text_to_image(table))}\n"


def to_latex(table: pd.DataFrame, experiment: Experiment) -> str:
    """The readable columns as a booktabs tabular, the notes as comments."""
    notes = "".join(f"% {note}\n" for note in _notes(experiment))
    readable = _readable(table).map(lambda cell: cell.replace("±", "$\\pm$").replace("−", "$-$").replace("%", "\\%"))
    readable.columns = [column.replace("−", "$-$") for column in readable.columns]
    return notes + readable.to_latex(index=False, escape=False)


def _markdown(table: pd.DataFrame) -> str:
    alignment = ["left" if column in ("", "Method") else "right" for column in table.columns]
    return table.to_markdown(index=False, colalign=alignment, disable_numparse=True)


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """Text cells: per metric the paper's value and ours, then what the gates changed."""
    columns = {"": table["architecture"], "Method": table["method"]}
    for metric, name in NAMES.items():
        columns[f"{name} paper"] = table[f"c2i_{metric}_paper"].map(_number)
        columns[f"{name} ours"] = _with_spread(table, f"c2i_{metric}_ours", f"c2i_{metric}_spread")
    columns["Class accuracy"] = table["accuracy"].map(lambda value: "" if pd.isna(value) else f"{100 * value:.1f} %")
    columns["FID − control"] = _with_spread(table, "fid_minus_control", "fid_minus_control_spread", "+.4f")
    columns["Verdict"] = table["c2i_fid_verdict"]
    columns["Origin"] = table["c2i_fid_origin"]
    return pd.DataFrame(columns)


def _text_to_image(table: pd.DataFrame) -> pd.DataFrame:
    """The rows for which the paper prints text-to-image numbers."""
    rows = table[table["t2i_fid_paper"].notna()]
    cells = {f"{name} paper": rows[f"t2i_{metric}_paper"].map(_number) for metric, name in NAMES.items()}
    return pd.DataFrame({"Method": rows["method"], **cells})


def _with_spread(table: pd.DataFrame, value: str, spread: str, digits: str = ".3f") -> pd.Series:
    pairs = zip(table[value], table[spread], strict=True)
    return pd.Series([_value_and_spread(mean, deviation, digits) for mean, deviation in pairs])


def _value_and_spread(value: float | None, spread: float | None, digits: str) -> str:
    if pd.isna(value):
        return ""
    text = f"{value:{digits}}".replace("-", "−")
    return text if pd.isna(spread) else f"{text} ± {spread:{digits.removeprefix('+')}}"


def _number(value: float | None) -> str:
    return "" if pd.isna(value) else f"{value:g}"


def _notes(experiment: Experiment) -> list[str]:
    protocol, tables = experiment.protocol, experiment.tables
    notes = [
        f"Ours: mean ± standard deviation over {len(experiment.seeds)} seeds of training and sampling, at the scale "
        f"`{tables.scale}`, protocol `{experiment.score.protocol}`: {protocol.samples:,} images against the "
        f"{protocol.reference} split, features of the {protocol.extractor}.",
    ]
    if not protocol.paper_scale:
        notes.append(
            "Not comparable: other data and other features than the paper's ImageNet 256x256 with Inception. "
            "Compare rows of ours with each other and with the floor, never with the paper's column."
        )
    else:
        notes.append(f"Reproduced: within {100 * tables.tolerance:g} % of the paper's value.")
    return [
        *notes,
        "Ungated control: the same start weights, steps, data and noise as the gated row, without gates. "
        "FID − control is the paired difference over seeds: what the gates changed.",
        "Floor: real images of the other split under the same protocol.",
        "Origin: `run`, trained and sampled here; `samples`, published images scored here; `quoted`, copied from the "
        "paper. Empty: not run.",
    ]
