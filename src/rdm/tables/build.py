"""Tables 1 and 2: every row of the paper, with our measurement beside it; then controls, further rows and the floor.

Origins: `run`, trained and sampled here; `samples`, published ones scored here; `quoted`, copied from the paper. What
was not run is empty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rdm.errors import UsageError
from rdm.params import CONTROL_ROW, Experiment
from rdm.params.evaluation import Cell, Column, Row, Table2, VideoRow
from rdm.tables.measured import Measured, Ours, measure, pick, read_floor
from rdm.tables.published import PublishedRow, read_published

IMAGE_METRICS = ("fid", "sfid", "is")
VIDEO_COLUMNS = {  # of Table 2, as published.csv calls them, and as readers see them; identity is not in the paper
    "frame_fid": "Frame FID",
    "frame_is": "Frame IS",
    "skytimelapse_fvd": "Sky FVD",
    "taichi_hd_fvd": "Taichi FVD",
    "ucf101_fvd": "UCF FVD",
    "skytimelapse_identity": "Sky identity",
    "taichi_hd_identity": "Taichi identity",
    "ucf101_identity": "UCF identity",
}
EXTRA = "not in the paper"
FLOORS = {"table1": "real images of the other split (floor)", "table2": "real clips (floor)"}
Cells = dict[str, str | float | int | None]


def build_table1(experiment: Experiment, published_path: Path) -> pd.DataFrame:
    """One row per method; per metric the paper's value, ours with its errors, verdict and origin; then from text."""
    first, rows = experiment.tables.table1, []
    published = read_published(published_path, "table1")
    for line in arrange(published, first.rows, experiment.train.gated):
        ours = measure(experiment, line.cells[0], first.score, line.control) if line.cells else None
        drawn = [measure(experiment, cell, str(first.text_score), line.control) for cell in text_cells(line)]
        rows.append(_image_cells(experiment, line.row, ours, *drawn))
    floor = PublishedRow(FLOORS["table1"], EXTRA)
    floors = [Ours(read_floor(experiment, score)) if score else None for score in (first.score, first.text_score)]
    rows.append(_image_cells(experiment, floor, *floors))
    return pd.DataFrame(rows)


def build_table2(experiment: Experiment, published_path: Path) -> pd.DataFrame:
    """One row per method; per column the paper's value and ours, with its errors, control, verdict and protocol."""
    published, rows = read_published(published_path, "table2"), []
    for line in arrange(published, _table2(experiment).rows, experiment.train.gated):
        rows.append(_video_cells(experiment, line.row, _measure_clips(experiment, line)))
    floors = {score: Ours(read_floor(experiment, score)) for score in experiment.scores_in("table2")}
    rows.append(_video_cells(experiment, PublishedRow(FLOORS["table2"], EXTRA), floors))
    return pd.DataFrame(rows)


def columns_of(experiment: Experiment) -> dict[str, Column]:
    """The columns of Table 2 that this experiment measures, by the paper's name."""
    return {str(name): column for name, column in _table2(experiment).columns.items()}


def verdict(paper: float | None, ours: Measured | None, tolerance: float, paper_scale: bool) -> str:
    """reproduced: within `tolerance` of the paper's value, relative. Numbers of another scale are not comparable."""
    if paper is None:
        return ""
    if ours is None:
        return "not run"
    if not paper_scale:
        return "not comparable"
    return "reproduced" if abs(ours.mean - paper) <= tolerance * abs(paper) else "differs"


# ---------------------------------------------------------------- which rows


@dataclass(frozen=True)
class Line:
    """A row to be: the paper's, and the cells that we measure for it. control: their ungated twins instead."""

    row: PublishedRow
    cells: tuple[Cell, ...] = ()
    control: bool = False


def arrange(published: list[PublishedRow], rows: Sequence[Row | VideoRow], gated: Collection[str]) -> list[Line]:
    """The paper's rows in its order, then the ungated controls of these, then further rows, each before its control."""
    cells = {row.row: row.cells if isinstance(row, VideoRow) else (row,) for row in rows}
    names = {row.name for row in published}
    controls = {
        name: Line(PublishedRow(name + CONTROL_ROW, EXTRA), found, control=True)
        for name, found in cells.items()
        if any(cell.system in gated for cell in found)
    }
    lines = [Line(row, cells.get(row.name, ())) for row in published]
    lines += [line for name, line in controls.items() if name in names]
    for name, found in cells.items():
        if name not in names:
            lines += [Line(PublishedRow(name, EXTRA), found), *([controls[name]] if name in controls else [])]
    return lines


# ---------------------------------------------------------------- what stands in them


def data_of(experiment: Experiment, cell: Cell) -> str:
    """The data set that a cell's samples are to be like."""
    return experiment.data_of(cell.system) if cell.system else experiment.published[str(cell.samples)].data


def text_cells(line: Line) -> tuple[Cell, ...]:
    """What stands in a row's text-to-image columns: one cell or none."""
    return tuple(cell.text for cell in line.cells if isinstance(cell, Row) and cell.text is not None)


def _image_cells(experiment: Experiment, row: PublishedRow, ours: Ours | None, text: Ours | None = None) -> Cells:
    """All cells of a row of Table 1. ours, text: of images drawn from labels, and of those drawn from text."""
    first = experiment.tables.table1
    cells: Cells = {
        "architecture": row.architecture,
        "method": row.name,
        "scale": experiment.tables.scale if ours or text else None,
    }
    cells |= _drawn_cells(experiment, row, "c2i", "", first.score, ours)
    cells |= _drawn_cells(experiment, row, "t2i", "t2i_", first.text_score, text)
    cells["remarks"] = "; ".join(dict.fromkeys(row.remarks.values()))
    return cells


def _drawn_cells(
    experiment: Experiment, row: PublishedRow, kind: str, prefix: str, score: str | None, ours: Ours | None
) -> Cells:
    """One half of a row of Table 1. kind, prefix: how the names of the paper's columns and of our own begin."""
    scores = ours.scores if ours else {}
    difference = ours.differences.get("fid") if ours else None
    cells: Cells = {
        f"{prefix}protocol": experiment.score[score].protocol if ours and score else None,
        f"{prefix}sampler": ours.sampler if ours else None,
        f"{prefix}seeds": ours.seeds if ours else None,
    }
    for metric in IMAGE_METRICS:
        paper = row.values.get(f"{kind}_{metric}")
        cells |= _compare(experiment, f"{kind}_{metric}", paper, score or "", ours, scores.get(metric))
    return cells | {
        f"{prefix}accuracy": scores["accuracy"].mean if "accuracy" in scores else None,
        f"{prefix}fid_minus_control": difference.mean if difference else None,
        f"{prefix}fid_minus_control_spread": difference.spread if difference else None,
    }


def _table2(experiment: Experiment) -> Table2:
    if experiment.tables.table2 is None:
        raise UsageError(f"Experiment {experiment.name!r} has no videos; describe tables.table2 in its parameter file.")
    return experiment.tables.table2


def _measure_clips(experiment: Experiment, line: Line) -> dict[str, Ours]:
    """Score -> what the cell of its data set gives."""
    scores, found = experiment.scores_in("table2"), {}
    for cell in line.cells:
        for score in experiment.scores_of(data_of(experiment, cell)):
            ours = measure(experiment, cell, score, line.control) if score in scores else None
            if ours is not None:
                found[score] = ours
    return found


def _video_cells(experiment: Experiment, row: PublishedRow, found: dict[str, Ours]) -> Cells:
    """All cells of a row of Table 2. found: our numbers by score."""
    cells: Cells = {
        "architecture": row.architecture,
        "method": row.name,
        "scale": experiment.tables.scale if found else None,
    }
    for name in VIDEO_COLUMNS:
        column = columns_of(experiment).get(name)
        score, metric = (column.score, column.metric) if column else ("", "")
        ours = found.get(score)
        measured = pick(ours.scores, metric, score) if ours else None
        difference = ours.differences.get(metric) if ours else None
        cells |= _compare(experiment, name, row.values.get(name), score, ours, measured)
        cells |= {
            f"{name}_minus_control": difference.mean if difference else None,
            f"{name}_minus_control_spread": difference.spread if difference else None,
            f"{name}_protocol": experiment.score[score].protocol if ours else None,
            f"{name}_sampler": ours.sampler if ours else None,
            f"{name}_seeds": ours.seeds if ours else None,
        }
    cells["remarks"] = _remarks_by_column(row)
    return cells


def _compare(
    experiment: Experiment,
    column: str,
    paper: float | None,
    score: str,
    ours: Ours | None,
    measured: Measured | None,
) -> Cells:
    """The paper's number and ours, side by side."""
    comparable = score in experiment.protocols and experiment.protocols[score].paper_scale
    return {
        f"{column}_paper": paper,
        f"{column}_ours": measured.mean if measured else None,
        f"{column}_spread": measured.spread if measured else None,
        f"{column}_standard_error": measured.standard_error if measured else None,
        f"{column}_verdict": verdict(paper, measured, experiment.tables.tolerance, comparable),
        f"{column}_origin": ours.origin if ours and measured else "quoted" if paper is not None else "",
    }


def _remarks_by_column(row: PublishedRow) -> str:
    """Each remark once, first those on the whole row, then those on some columns."""
    columns: dict[str, list[str]] = {}
    for column, remarks in row.remarks.items():
        for remark in remarks.split("; "):
            columns.setdefault(remark, []).append(column)
    whole = [remark for remark, on in columns.items() if len(on) == len(row.values)]
    some = [f"{', '.join(VIDEO_COLUMNS[c] for c in on)}: {r}" for r, on in columns.items() if len(on) < len(row.values)]
    return "; ".join(whole + some)
