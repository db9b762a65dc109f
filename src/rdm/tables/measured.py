"""Our score files: read, checked, summarised over seeds."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdm import paths
from rdm.data.sources import open_images
from rdm.errors import ArtefactError
from rdm.params import CONTROL, Experiment
from rdm.params.dependencies import (
    MAKE_FLOOR,
    Values,
    make_sample,
    make_score,
    of_sample,
    of_samples_score,
    of_score,
    of_scoring,
)
from rdm.provenance.files import digest
from rdm.provenance.manifest import read

METRICS = ("fid", "sfid", "is", "accuracy")


@dataclass(frozen=True)
class Measured:
    """One metric over seeds. values: one per seed, in the order of the experiment's seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def minus(self, other: Measured) -> Measured:
        """Paired differences, seed by seed."""
        return Measured(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))


def read_scores(experiment: Experiment, system: str, sampler: str) -> dict[str, Measured]:
    """Every metric of a system over its seeds. Raises ArtefactError for a score of other parameters or protocol."""
    runs = [paths.run_name(experiment.name, system, seed) for seed in experiment.seeds]
    scores = [_read_run(experiment, run, sampler) for run in runs]
    return {m: Measured(tuple(score[m] for score in scores)) for m in METRICS if all(m in score for score in scores)}


def read_samples(experiment: Experiment, name: str) -> dict[str, Measured]:
    """The scores of a published sample set, which must still be what was scored."""
    path, source = paths.samples_score(name, experiment.score.protocol), Path(experiment.find_samples(name))
    images = open_images(source)
    score = _read(path, make_score(name), experiment, of_samples_score(experiment, name), images.digest)
    return {metric: Measured((score[metric],)) for metric in METRICS if metric in score}


def read_control(experiment: Experiment, system: str, sampler: str) -> dict[str, Measured] | None:
    """The scores of a gated system's ungated twin; None for a baseline."""
    return read_scores(experiment, system + CONTROL, sampler) if system in experiment.train.gated else None


def read_floor(experiment: Experiment) -> dict[str, Measured]:
    """The scores of real images."""
    path = paths.floor(experiment.score.data, experiment.score.protocol)
    score = _read(path, MAKE_FLOOR, experiment, of_scoring(experiment))
    return {metric: Measured((score[metric],)) for metric in METRICS if metric in score}


def _read_run(experiment: Experiment, run: str, sampler: str) -> dict[str, float]:
    path = paths.score(run, sampler, experiment.score.protocol)
    samples = read(paths.sample(run, sampler), make_sample(run), of_sample(experiment, run, sampler))
    return _read(path, make_score(run), experiment, of_score(experiment, run, sampler), samples.digest)


def _read(
    path: Path, remedy: str, experiment: Experiment, parameters: Values, samples: str | None = None
) -> dict[str, float]:
    """The values of one score file; samples: the digest of the images that it must be of."""
    if not path.is_file():
        raise ArtefactError(f"{path} is not there yet; run `{remedy}` first.")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        protocol, recipe = content["scoring_sha256"], content["recipe"]["parameters"]
        values = {name: float(estimate["value"]) for name, estimate in content["values"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtefactError(f"{path} is damaged; run `{remedy}` again.") from None
    if protocol != digest(of_scoring(experiment)):
        raise ArtefactError(f"{path} was scored under another protocol or extractor; run `{remedy}` again.")
    if recipe != json.loads(json.dumps(parameters)):
        raise ArtefactError(f"{path} was made with other parameters; run `{remedy}` again.")
    if samples is not None and content["recipe"]["inputs"]["samples"] != samples:
        raise ArtefactError(f"{path} is the score of earlier samples; run `{remedy}` again.")
    return values
