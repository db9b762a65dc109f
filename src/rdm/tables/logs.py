"""The trainings' logs: how sensitive the loss is to each residual state."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

from rdm import paths
from rdm.params import Experiment
from rdm.params.dependencies import make_train, of_train
from rdm.provenance.manifest import read


class State(NamedTuple):
    """The sensitivity of one residual state, relative to that of the last one, n_i / n_L."""

    seed: int
    step: int
    state: int
    sensitivity: float


def read_sensitivity(experiment: Experiment, system: str) -> list[State]:
    """Of every seed and state, at the steps that Figure 5 shows. Raises MissingError for a run that is not there."""
    found = []
    for seed in experiment.seeds_of(system):
        for line in map(json.loads, run_file(experiment, system, seed, "log.jsonl").open(encoding="utf-8")):
            if line["step"] in experiment.figures.figure5.steps and line["sensitivity"] is not None:
                # log(n_i / n_L); the last state is what the others are measured by
                states = enumerate([*line["sensitivity"], 0.0])
                found += [State(seed, line["step"], i, round(math.exp(r), 6)) for i, r in states]
    return found


def run_file(experiment: Experiment, system: str, seed: int, name: str) -> Path:
    """A file of a finished run, verified against the parameters."""
    run = paths.run_name(experiment.name, system, seed)
    return read(paths.train(run), make_train(run), of_train(experiment, run)).folder / name
