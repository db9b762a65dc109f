"""What a claim rests on: the comparisons that its statement asks for, seed by seed, from scores and logs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from rdm import paths
from rdm.errors import MissingError
from rdm.params import CONTROL, CONTROL_ROW, Experiment
from rdm.params.claims import Depth, GatesByDepth, Rows, Sensitivity, Statement, Steps, Variants
from rdm.params.evaluation import Cell, Curve
from rdm.params.presentation import metrics_of
from rdm.tables.build import columns_of, data_of
from rdm.tables.logs import State, read_kept_sensitivity, read_sensitivity, shallower_half
from rdm.tables.measured import HIGHER_IS_BETTER, Scores, pick, read_published_score, read_scores
from rdm.tables.pages import METRICS


@dataclass(frozen=True)
class Numbers:
    """values: one per seed; of published samples, or of what needs no run, {None: value}. files: where they stand.

    error: the standard error of a published value, from its finite number of samples; of seeds their spread tells.
    """

    values: dict[int | None, float]
    files: tuple[Path, ...] = ()
    error: float = 0.0


Source = Callable[[], Numbers]  # raises MissingError


@dataclass(frozen=True)
class Comparison:
    """What is claimed to be better, minus what it is compared with, seed by seed.

    level: |mean| of the latter; of logarithms 1, since their differences are relative. reason: why there is nothing.
    error: the standard error that all differences share, that of a published value: it never shows in their spread.
    """

    than: str
    differences: tuple[float, ...] = ()
    level: float = 1.0
    logarithms: bool = False
    files: tuple[Path, ...] = ()
    reason: str = ""
    error: float = 0.0


@dataclass(frozen=True)
class Tested:
    """A statement in an experiment. higher: what is claimed of every comparison, else lower. metric: its name."""

    comparisons: tuple[Comparison, ...]
    metric: str
    higher: bool
    paper_scale: bool


class Evidence:
    """The results of an experiment, read once each."""

    def __init__(self, experiment: Experiment, kept: Path | None = None) -> None:
        """kept: a folder of scores and figures to read instead of results; see `read_scores`."""
        self.experiment, self.kept = experiment, kept
        self._scores: dict[tuple[str, ...], Scores] = {}
        self._states: dict[tuple[str, str], list[State]] = {}

    def on(self, statement: Statement) -> Tested | None:
        """The comparisons of a statement; None if no table or figure of the experiment measures it.

        Raises ArtefactError for results of other parameters or of another protocol.
        """
        match statement:
            case Rows():
                return self._rows(statement)
            case Variants() | Steps():
                return self._variants(statement)
            case Depth() | GatesByDepth():
                return self._depths(statement)
            case Sensitivity():
                return self._sensitivity(statement)
        return None

    # ---------------------------------------------------------------- tables

    def _rows(self, statement: Rows) -> Tested | None:
        tables, text = self.experiment.tables, statement.column.startswith("t2i_")
        if statement.table == "table1":
            metric = statement.column.partition("_")[2]
            score = tables.table1.text_score if text else tables.table1.score
        else:
            column = columns_of(self.experiment).get(statement.column) if tables.table2 else None
            score, metric = (column.score, column.metric) if column else (None, "")
        if score is None or metric not in metrics_of(self.experiment.protocols[score]):
            return None
        row = partial(self._row, statement.table, text=text, score=score, metric=metric)
        own, others = row(statement.row), {name: row(name) for name in statement.than}
        if own is None or not any(others.values()):
            return None
        return self._tested([_compare(name, own, other) for name, other in others.items()], score, metric)

    def _row(self, table: str, row: str, text: bool, score: str, metric: str) -> Source | None:
        """What stands for a row, or for a gated row's control; None if nothing does. text: in its columns of text."""
        name, gated = row.removesuffix(CONTROL_ROW), self.experiment.train.gated
        cells, data = self._cells(table, name, text), self.experiment.score[score].data
        cell = next((cell for cell in cells if data_of(self.experiment, cell) == data), None)
        if cell is None or (row != name and cell.system not in gated):
            return None
        if cell.system is None or cell.sampler is None:
            return partial(self._of_published, str(cell.samples), score, metric)
        system = cell.system if row == name else cell.system + CONTROL
        return partial(self._of_system, system, cell.sampler, score, metric)

    def _cells(self, table: str, name: str, text: bool) -> tuple[Cell, ...]:
        tables = self.experiment.tables
        if table == "table1":
            found = [row.text if text else row for row in tables.table1.rows if row.row == name]
            return tuple(cell for cell in found if cell is not None)
        return next((row.cells for row in tables.table2.rows if row.row == name), ()) if tables.table2 else ()

    def _of_system(self, system: str, sampler: str, score: str, metric: str) -> Numbers:
        experiment, key = self.experiment, (system, sampler, score)
        if key not in self._scores:
            self._scores[key] = read_scores(experiment, system, sampler, score, self.kept)
        seeds = experiment.seeds_of(system)
        runs = [paths.run_name(experiment.name, system, seed) for seed in seeds]
        files = tuple(paths.score(run, sampler, experiment.score[score].protocol) for run in runs)
        return Numbers(dict(zip(seeds, pick(self._scores[key], metric, score).values, strict=True)), files)

    def _of_published(self, samples: str, score: str, metric: str) -> Numbers:
        if (samples, score) not in self._scores:
            self._scores[samples, score] = read_published_score(self.experiment, samples, score, self.kept)
        file = paths.published_score(samples, self.experiment.score[score].protocol)
        found = pick(self._scores[samples, score], metric, score)
        return Numbers({None: found.mean}, (file,), found.standard_error or 0.0)

    def _tested(self, comparisons: list[Comparison], score: str, metric: str) -> Tested:
        higher, protocol = metric in HIGHER_IS_BETTER, self.experiment.protocols[score]
        return Tested(tuple(comparisons), METRICS[metric], higher, protocol.paper_scale)

    # ---------------------------------------------------------------- Figures 6 and 7

    def _variants(self, statement: Variants | Steps) -> Tested | None:
        figure = self.experiment.figures.figure6
        if figure is None:
            return None

        def after(variant: str, step: int) -> Source:
            return partial(self._of_system, f"{figure.base}-{variant}", figure.at(step), figure.score, figure.metric)

        first, last = min(figure.steps), max(figure.steps)
        if isinstance(statement, Steps):
            if first == last:
                return None
            found = [_compare(f"{v} after {first} steps", after(v, last), after(v, first)) for v in statement.variants]
        else:
            own = after(statement.variant, last)
            found = [_compare(other, own, after(other, last)) for other in statement.than]
        return self._tested(found, figure.score, figure.metric)

    def _depths(self, statement: Depth | GatesByDepth) -> Tested | None:
        figure = self.experiment.figures.figure7
        if figure is None:
            return None
        depths = sorted(figure.depths)
        if isinstance(statement, GatesByDepth):
            chosen = depths if statement.at == "all" else depths[-1:]
            gated, plain = (partial(self._mean_over, figure, chosen, gates) for gates in (True, False))
            return self._tested([_compare("without gates", gated, plain)], figure.score, figure.metric)
        at = {depth: partial(self._mean_over, figure, [depth], statement.gated) for depth in depths}
        found = [_compare(f"depth {a}", at[b], at[a]) for a, b in pairwise(depths)]
        return self._tested(found, figure.score, figure.metric) if found else None

    def _mean_over(self, figure: Curve, depths: list[int], gated: bool) -> Numbers:
        """Seed by seed the mean over depths."""
        names = [name for name, depth, gates, _ in self.experiment.by_depth if depth in depths and gates == gated]
        found = [self._of_system(name, figure.sampler, figure.score, figure.metric) for name in names]
        means = {seed: statistics.fmean(numbers.values[seed] for numbers in found) for seed in found[0].values}
        return Numbers(means, tuple(file for numbers in found for file in numbers.files))

    # ---------------------------------------------------------------- Figure 5

    def _sensitivity(self, statement: Sensitivity) -> Tested | None:
        experiment, figure = self.experiment, self.experiment.figures.figure5
        systems = [row.system for row in experiment.tables.table1.rows if row.row == statement.row]
        gated = next((str(system) for system in systems if system in figure.systems), None)
        if gated is None:
            return None
        arms, first, last = experiment.arms_of(gated), min(figure.steps), max(figure.steps)
        other: Source | None
        if statement.than == "the deepest state":
            other = lambda: Numbers({None: 0.0})  # noqa: E731
        elif statement.than == "the first step":
            other = partial(self._shallow, gated, statement.arm, first) if first < last else None
        else:
            other = partial(self._shallow, gated, statement.than, last) if statement.than in arms else None
        if statement.arm not in arms or other is None:
            return None
        found = _compare(statement.than, partial(self._shallow, gated, statement.arm, last), other, logarithms=True)
        protocols = [experiment.protocols[score] for score in experiment.scores_of(experiment.data_of(gated))]
        paper_scale = all(protocol.paper_scale for protocol in protocols)
        return Tested((found,), "log sensitivity", statement.direction == "higher", paper_scale)

    def _shallow(self, gated: str, arm: str, step: int) -> Numbers:
        """Seed by seed the mean of log(n_i / n_L) over the shallower half of the states."""
        experiment, key = self.experiment, (gated, arm)
        if key not in self._states:
            if self.kept is None:
                self._states[key] = read_sensitivity(experiment, gated, arm)
            else:
                self._states[key] = read_kept_sensitivity(experiment, gated, arm, self.kept)
        logs: dict[int | None, list[float]] = {}
        for state in sorted(state for state in self._states[key] if state.step == step):
            logs.setdefault(state.seed, []).append(math.log(state.sensitivity))
        system = experiment.arms_of(gated)[arm]
        runs = [paths.run_name(experiment.name, system, seed) for seed in experiment.seeds_of(system)]
        # the last state is what the others are measured by
        means = {seed: shallower_half(found[:-1]) for seed, found in logs.items() if len(found) > 1}
        return Numbers(means, tuple(paths.train(run) / "log.jsonl" for run in runs))


def _compare(than: str, own: Source, other: Source | None, logarithms: bool = False) -> Comparison:
    """Paired by seed. A published sample set has none: its value, with its error, is compared with every seed."""
    if other is None:
        return Comparison(than, reason="nothing here stands for it")
    try:
        ours, theirs = own(), other()
    except MissingError as error:
        return Comparison(than, reason=str(error))
    seeds = list(theirs.values if None in ours.values else ours.values)
    pairs = [(_at(ours, seed), _at(theirs, seed)) for seed in seeds]
    paired = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not paired:
        return Comparison(than, reason="no seed has both")
    level = 1.0 if logarithms else abs(statistics.fmean(b for _, b in paired))
    files = tuple(dict.fromkeys(ours.files + theirs.files))
    shared = math.hypot(ours.error, theirs.error)
    return Comparison(than, tuple(a - b for a, b in paired), level, logarithms, files, error=shared)


def _at(numbers: Numbers, seed: int | None) -> float | None:
    return numbers.values.get(seed, numbers.values.get(None))
