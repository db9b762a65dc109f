"""Table 1: every row of the paper, with our measurement beside it; then controls, further rows and the floor."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rdm.params import Experiment
from rdm.params.schema import Row
from rdm.tables.measured import Measured, read_control, read_floor, read_samples, read_scores
from rdm.tables.published import PublishedRow, read_published

IMAGE_METRICS = ("fid", "sfid", "is")
EXTRA = "not in the paper"
Cells = dict[str, str | float | int | None]


def build_table1(experiment: Experiment, published_path: Path) -> pd.DataFrame:
    """One row per method; per metric the paper's value, our mean, spread, verdict and origin.

    Origins: `run`, trained and sampled here; `samples`, published images scored here; `quoted`, copied from the paper.
    What was not run is empty.
    """
    published = read_published(published_path, "table1")
    specs = {row.row: row for row in experiment.tables.rows}
    rows = [_row(experiment, row, specs.get(row.name)) for row in published]
    further = [PublishedRow(name, EXTRA, {}, []) for name in specs if name not in {row.name for row in published}]
    for name in specs:
        if name in {row.name for row in published}:
            rows += _control(experiment, specs[name])
    for row in further:
        rows += [_row(experiment, row, specs[row.name]), *_control(experiment, specs[row.name])]
    floor = PublishedRow("real images of the other split (floor)", EXTRA, {}, [])
    rows.append(_cells(experiment, floor, read_floor(experiment)))
    return pd.DataFrame(rows)


def verdict(paper: float | None, ours: Measured | None, tolerance: float, paper_scale: bool) -> str:
    """reproduced: within `tolerance` of the paper's value, relative. Numbers of another scale are not comparable."""
    if paper is None:
        return ""
    if ours is None:
        return "not run"
    if not paper_scale:
        return "not comparable"
    return "reproduced" if abs(ours.mean - paper) <= tolerance * abs(paper) else "differs"


def _row(experiment: Experiment, row: PublishedRow, spec: Row | None) -> Cells:
    if spec is None:
        return _cells(experiment, row, {})
    if spec.samples is not None:
        return _cells(experiment, row, read_samples(experiment, spec.samples), origin="samples")
    assert spec.system is not None
    assert spec.sampler is not None
    scores = read_scores(experiment, spec.system, spec.sampler)
    control = read_control(experiment, spec.system, spec.sampler)
    difference = scores["fid"].minus(control["fid"]) if control is not None else None
    return _cells(experiment, row, scores, difference, spec.sampler)


def _control(experiment: Experiment, spec: Row) -> list[Cells]:
    """The ungated twin of a gated row, as a row of its own."""
    if spec.system is None or spec.sampler is None:
        return []
    control = read_control(experiment, spec.system, spec.sampler)
    if control is None:
        return []
    row = PublishedRow(f"{spec.row}: ungated control", EXTRA, {}, [])
    return [_cells(experiment, row, control, sampler=spec.sampler)]


def _cells(
    experiment: Experiment,
    row: PublishedRow,
    scores: dict[str, Measured],
    difference: Measured | None = None,
    sampler: str | None = None,
    origin: str = "run",
) -> Cells:
    """All cells of a row. difference: FID minus that of the control, per seed. origin: of our numbers, if any."""
    cells: Cells = {
        "architecture": row.architecture,
        "method": row.name,
        "scale": experiment.tables.scale if scores else None,
        "protocol": experiment.score.protocol if scores else None,
        "sampler": sampler,
        "seeds": len(scores["fid"].values) if sampler else None,
    }
    for metric in IMAGE_METRICS:
        paper, ours = row.values.get(f"c2i_{metric}"), scores.get(metric)
        cells |= {
            f"c2i_{metric}_paper": paper,
            f"c2i_{metric}_ours": ours.mean if ours else None,
            f"c2i_{metric}_spread": ours.spread if ours else None,
            f"c2i_{metric}_verdict": verdict(paper, ours, experiment.tables.tolerance, experiment.protocol.paper_scale),
            f"c2i_{metric}_origin": origin if ours else "quoted" if paper is not None else "",
        }
    cells["accuracy"] = scores["accuracy"].mean if "accuracy" in scores else None
    cells["fid_minus_control"] = difference.mean if difference else None
    cells["fid_minus_control_spread"] = difference.spread if difference else None
    for metric in IMAGE_METRICS:
        cells[f"t2i_{metric}_paper"] = row.values.get(f"t2i_{metric}")
    cells["t2i_origin"] = "quoted" if row.values.get("t2i_fid") is not None else ""
    cells["remarks"] = "; ".join(row.remarks)
    return cells
