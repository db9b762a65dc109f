"""Our score files: read, checked, summarised over seeds."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdm import paths
from rdm.data.sources import open_images, open_videos
from rdm.errors import ArtefactError, MissingError, UsageError, nearest
from rdm.params import CONTROL, Experiment
from rdm.params.dependencies import (
    Values,
    make_floor,
    make_score,
    of_published_score,
    of_score,
    of_scoring,
)
from rdm.params.evaluation import Cell
from rdm.sample import store

METRICS = ("fvd", "fid", "sfid", "is", "accuracy", "identity")
HIGHER_IS_BETTER = ("is", "accuracy", "identity")
JUDGES = {
    "extractor": "the score of another extractor than",
    "reference": "the score against another reference than",
}


@dataclass(frozen=True)
class Measured:
    """One metric over seeds. values: one per seed, in the order of the experiment's seeds.

    errors: the standard error of each value, from its finite number of samples; none for differences.
    """

    values: tuple[float, ...]
    errors: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Of the mean, from the finite number of samples alone: the seeds' errors are independent."""
        return math.hypot(*self.errors) / len(self.errors) if self.errors else None

    def minus(self, other: Measured) -> Measured:
        """Paired differences, seed by seed."""
        return Measured(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))


Scores = dict[str, Measured]


@dataclass(frozen=True)
class Ours:
    """What stands for a cell under one score. differences: to the ungated control; empty for what has none.

    origin: `run`, trained and sampled here; `samples`, published ones scored here.
    """

    scores: Scores
    origin: str = "run"
    sampler: str | None = None
    seeds: int | None = None
    differences: Scores = field(default_factory=dict)


def measure(experiment: Experiment, cell: Cell, score: str, control: bool = False) -> Ours | None:
    """A cell's numbers; control: those of its ungated twin, None if it has none."""
    if cell.system is None or cell.sampler is None:
        return None if control else Ours(read_published_score(experiment, str(cell.samples), score), "samples")
    gated, seeds = cell.system in experiment.train.gated, len(experiment.seeds_of(cell.system))
    if control and not gated:
        return None
    twin = read_scores(experiment, cell.system + CONTROL, cell.sampler, score) if gated else {}
    if control:
        return Ours(twin, "run", cell.sampler, seeds)
    scores = read_scores(experiment, cell.system, cell.sampler, score)
    return Ours(scores, "run", cell.sampler, seeds, {metric: scores[metric].minus(twin[metric]) for metric in twin})


def pick(scores: Scores, metric: str, score: str) -> Measured:
    """One metric of a score. Raises UsageError if its protocol does not give it."""
    if metric not in scores:
        raise UsageError(f"score.{score} gives no {metric!r}; {nearest(metric, scores)}")
    return scores[metric]


def read_scores(experiment: Experiment, system: str, sampler: str, score: str, kept: Path | None = None) -> Scores:
    """Every metric of a system over its seeds.

    kept: a folder of scores without the samples that were scored, such as results/example, to read instead of results;
    what a kept score says of its parameters must hold, and keys that are younger than it are not compared.
    Raises MissingError for a score that is not there, ArtefactError for one of other parameters or another protocol.
    """
    runs = [paths.run_name(experiment.name, system, seed) for seed in experiment.seeds_of(system)]
    return _over_seeds([_read_run(experiment, run, sampler, score, kept) for run in runs])


def read_published_score(experiment: Experiment, name: str, score: str, kept: Path | None = None) -> Scores:
    """The scores of a published sample set, which must still be what was scored. kept: see `read_scores`."""
    samples = None
    if kept is None:
        source = Path(experiment.find_samples(name).path)
        if not source.exists():
            raise MissingError(f"{source} is not there yet; get it, and run `{make_score(name)}` again.")
        samples = (open_images if experiment.protocols[score].clips is None else open_videos)(source).digest
    path = paths.published_score(name, experiment.score[score].protocol)
    parameters = of_published_score(experiment, name, score)
    of = judges(experiment, score, kept) | {"samples": samples}
    return _over_seeds([_read(path, make_score(name), score, parameters, of, kept)])


def read_floor(experiment: Experiment, score: str) -> Scores:
    """The scores of real items."""
    path = paths.floor(experiment.score[score].data, experiment.score[score].protocol)
    return _over_seeds([_read(path, make_floor(score), score, of_scoring(experiment, score), {}, None)])


def judges(experiment: Experiment, score: str, kept: Path | None = None) -> dict[str, str]:
    """The digests of the extractor and the reference that the floor was scored with, if it was.

    What stands in one column must be seen by the same extractor and against the same items: a difference of seeds of a
    classifier alone is many times that of gates.
    """
    path = paths.floor(experiment.score[score].data, experiment.score[score].protocol)
    path = path if kept is None else paths.within(kept, path)
    try:
        inputs = json.loads(path.read_text(encoding="utf-8"))["recipe"]["inputs"]
        return {name: inputs[name] for name in JUDGES if name in inputs}
    except (OSError, ValueError, KeyError, TypeError):  # the table that shows it says what is wrong with it
        return {}


Estimates = dict[str, tuple[float, float]]  # metric -> value and standard error


def _over_seeds(scores: list[Estimates]) -> Scores:
    """The metrics that every seed has."""
    found = {}
    for metric in METRICS:
        if all(metric in score for score in scores):
            values, errors = zip(*(score[metric] for score in scores), strict=True)
            found[metric] = Measured(values, errors)
    return found


def _read_run(experiment: Experiment, run: str, sampler: str, score: str, kept: Path | None) -> Estimates:
    path, samples = paths.score(run, sampler, experiment.score[score].protocol), None
    if kept is None:
        samples = store.find(experiment, run, sampler).digest
    of = judges(experiment, score, kept) | {"samples": samples}
    return _read(path, make_score(run), score, of_score(experiment, run, sampler, score), of, kept)


def _read(
    path: Path, remedy: str, score: str, parameters: Values, of: dict[str, str | None], kept: Path | None
) -> Estimates:
    """The values of one score file. of: the digests of the inputs that it must be of, as far as they are known."""
    path = path if kept is None else paths.within(kept, path)
    if not path.is_file():
        raise MissingError(f"{path} is not there yet; run `{remedy}` first.")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        recipe = content["recipe"]["parameters"]
        values = {
            name: (float(estimate["value"]), float(estimate["standard_error"]))
            for name, estimate in content["values"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtefactError(f"{path} is damaged; run `{remedy}` again.") from None
    wanted = json.loads(json.dumps(parameters))
    if not (recipe == wanted if kept is None else _holds(recipe, wanted)):
        raise ArtefactError(f"{path} was made with other parameters; run `{remedy}` again.")
    inputs = content["recipe"]["inputs"]
    if of.get("samples") is not None and inputs.get("samples") != of["samples"]:
        raise ArtefactError(f"{path} is the score of earlier samples; run `{remedy}` again.")
    for name, what in JUDGES.items():
        if name in of and inputs.get(name) != of[name]:
            raise ArtefactError(f"{path} is {what} the floor's; run `{make_floor(score)}` and `{remedy}` again.")
    return values


def _holds(recorded: Any, present: Any) -> bool:
    """Whether all that was recorded is as it was; keys that have come since are not compared."""
    if isinstance(recorded, dict) and isinstance(present, dict):
        return all(key in present and _holds(value, present[key]) for key, value in recorded.items())
    return bool(recorded == present)
