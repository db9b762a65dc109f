"""Where the numbers of a written table come from: which score files a cell is the mean of, and whether it still is."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rdm import paths
from rdm.errors import ArtefactError, UsageError, nearest
from rdm.params import CONTROL, Experiment
from rdm.params.evaluation import Row, VideoRow
from rdm.provenance.chain import Step, Tree
from rdm.tables import build
from rdm.tables.build import EXTRA, FLOORS, IMAGE_METRICS, VIDEO_COLUMNS, Line, arrange
from rdm.tables.pages import METRICS, OWN
from rdm.tables.published import PublishedRow, read_published


@dataclass(frozen=True)
class Column:
    """A column of numbers. title: as readers see it; name: in the CSV; quoted: copied from the paper.

    score, metric: what is measured; score is empty in a quoted column that the experiment does not measure.
    difference: to the ungated control; text: of images drawn from text.
    """

    title: str
    name: str
    score: str
    metric: str
    quoted: bool = False
    difference: bool = False
    text: bool = False


@dataclass(frozen=True)
class Number:
    """A number of a table. row, column: as readers see them; value: as the CSV has it.

    scores: the files that it is the mean of, by their paths in `results/`; controls: those of the ungated twins.
    values: of each seed, less those of the twins. Of a number that is copied from the paper these are empty; origin
    says where the paper has it from, remark what else is known about it.
    """

    row: str
    column: str
    value: str
    scores: tuple[Path, ...] = ()
    controls: tuple[Path, ...] = ()
    values: tuple[float, ...] = ()
    origin: str = ""
    remark: str = ""


def numbers(
    experiment: Experiment,
    published: Path,
    name: str,
    tree: Tree,
    row: str | None = None,
    column: str | None = None,
) -> list[Number]:
    """The numbers of ours in a written table; of one row or column, or of the cell where they meet (also a quoted one).

    published: the paper's numbers; tree: where the results are.
    Raises UsageError for a row, column or cell without a number, ArtefactError for one that its scores do not give.
    """
    lines, columns = _lines(experiment, published, name), columns_of(experiment, name)
    rows = [_choose(row, [line.row.name for line in lines], "row", name)] if row else [line.row.name for line in lines]
    titles = [_choose(column, [c.title for c in columns], "column", name)] if column else [c.title for c in columns]
    file = tree.step(paths.table(name, "csv")).path
    written = {cells["method"]: cells for cells in csv.DictReader(file.read_text(encoding="utf-8").splitlines())}
    found = []
    for line in (line for line in lines if line.row.name in rows):
        for each in (each for each in columns if each.title in titles):
            value = written.get(line.row.name, {}).get(each.name)
            if value and (not each.quoted or (row and column)):
                number = _number(experiment, line, each, value, tree, name)
                given = f"{statistics.fmean(number.values):.6g}" if number.values else "none"
                if not each.quoted and given != value:
                    raise ArtefactError(
                        f"{file} says {value} for {number.row}, {number.column}, where its scores give {given}; run "
                        f"`rdm tables {name}`."
                    )
                found.append(number)
    if not found:
        where = ", ".join(text for text in (row, column) if text) or "all"
        raise UsageError(f"{file} has no number of ours at {where}: it was not run.")
    return found


def _lines(experiment: Experiment, published: Path, name: str) -> list[Line]:
    """The rows of a table, the floor last."""
    table = experiment.tables.table1 if name == "table1" else experiment.tables.table2
    rows: Sequence[Row | VideoRow] = table.rows if table else ()
    floor = Line(PublishedRow(FLOORS[name], EXTRA))
    return [*arrange(read_published(published, name), rows, experiment.train.gated), floor]


def columns_of(experiment: Experiment, name: str) -> list[Column]:
    """The columns of numbers of a table: all of the paper's, and ours of what the experiment measures."""
    found = []
    if name == "table1":
        first = experiment.tables.table1
        found = [*_image_columns(first.score, False), *_image_columns(first.text_score or "", True)]
        return [column for column in found if column.score or column.quoted]
    columns = build.columns_of(experiment)
    for column, title in VIDEO_COLUMNS.items():
        score, metric = (columns[column].score, columns[column].metric) if column in columns else ("", "")
        if column not in OWN:
            found.append(Column(f"{title} paper", f"{column}_paper", score, metric, quoted=True))
        if score:
            found.append(Column(f"{title} ours", f"{column}_ours", score, metric))
            found.append(Column(f"{title} − control", f"{column}_minus_control", score, metric, difference=True))
    return found


def _image_columns(score: str, text: bool) -> list[Column]:
    """Those of Table 1 of images drawn from labels, or from text."""
    title, kind, prefix, obeyed = ("Text ", "t2i", "t2i_", "Text obeyed") if text else ("", "c2i", "", "Class accuracy")
    found = []
    for metric in IMAGE_METRICS:
        name, column = title + METRICS[metric], f"{kind}_{metric}"
        found.append(Column(f"{name} paper", f"{column}_paper", score, metric, quoted=True, text=text))
        found.append(Column(f"{name} ours", f"{column}_ours", score, metric, text=text))
    found.append(Column(obeyed, f"{prefix}accuracy", score, "accuracy", text=text))
    difference = f"{prefix}fid_minus_control"
    return [*found, Column(f"{title}FID − control", difference, score, "fid", difference=True, text=text)]


def _choose(given: str, known: list[str], what: str, table: str) -> str:
    """The name that was meant: capitals do not matter, and a minus sign may be typed as a hyphen."""
    names = {name.replace("−", "-").casefold(): name for name in known}
    found = names.get(given.replace("−", "-").casefold())
    if found is None:
        raise UsageError(f"{table} has no {what} {given!r}; {nearest(given, known)}")
    return found


def _number(experiment: Experiment, line: Line, column: Column, value: str, tree: Tree, table: str) -> Number:
    if column.quoted:
        name = column.name.removesuffix("_paper")
        origin, remark = line.row.origins.get(name, "not recorded"), line.row.remarks.get(name, "")
        return Number(line.row.name, column.title, value, origin=origin, remark=remark)
    protocol = experiment.score[column.score].protocol
    if line.row.name == FLOORS[table]:
        scores = [paths.floor(experiment.score[column.score].data, protocol)]
    else:
        scores = _scores(experiment, line, column)
    values = [_value(tree.step(path), column) for path in scores]
    controls = _scores(experiment, replace(line, control=True), column) if column.difference else []
    if controls:
        twins = [_value(tree.step(path), column) for path in controls]
        values = [ours - theirs for ours, theirs in zip(values, twins, strict=True)]
    return Number(line.row.name, column.title, value, tuple(scores), tuple(controls), tuple(values))


def _scores(experiment: Experiment, line: Line, column: Column) -> list[Path]:
    """The files of a row's scores in a column, one per seed."""
    score = column.score
    protocol = experiment.score[score].protocol
    for cell in build.text_cells(line) if column.text else line.cells:
        if score not in experiment.scores_of(build.data_of(experiment, cell)):
            continue
        if cell.system is None or cell.sampler is None:
            return [paths.published_score(str(cell.samples), protocol)]
        system, seeds = cell.system + CONTROL * line.control, experiment.seeds_of(cell.system)
        return [paths.score(paths.run_name(experiment.name, system, s), cell.sampler, protocol) for s in seeds]
    return []


def _value(score: Step, column: Column) -> float:
    if column.metric not in score.facts["values"]:
        raise ArtefactError(f"{score.path} gives no {column.metric}; run `{score.command}` again.")
    return float(score.facts["values"][column.metric]["value"])
