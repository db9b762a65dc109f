"""What trainings leave: in their logs how sensitive the loss is to each residual state, and their gates."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

from rdm import paths
from rdm.errors import ArtefactError, MissingError
from rdm.params import Experiment
from rdm.params.dependencies import make_train, of_train
from rdm.params.gates import METADATA
from rdm.provenance.manifest import read


class State(NamedTuple):
    """The sensitivity of one residual state relative to that of the last one, n_i / n_L, to six digits."""

    seed: int
    step: int
    state: int
    sensitivity: float


def read_sensitivity(experiment: Experiment, gated: str, arm: str) -> list[State]:
    """Of every seed and state, at the steps that Figure 5 shows. arm: a label of `Experiment.arms_of(gated)`.

    Raises MissingError for a run that is not there.
    """
    system, found = experiment.arms_of(gated)[arm], list[State]()
    for seed in experiment.seeds_of(system):
        for line in read_log(experiment, system, seed):
            if line["step"] in experiment.figures.figure5.steps and line["sensitivity"] is not None:
                # log(n_i / n_L); the last state is what the others are measured by
                states = enumerate([*line["sensitivity"], 0.0])
                found += [State(seed, line["step"], i, float(f"{math.exp(r):.6g}")) for i, r in states]
    return found


def read_kept_sensitivity(experiment: Experiment, gated: str, arm: str, kept: Path) -> list[State]:
    """The same from the numbers of a kept Figure 5. Raises MissingError if it, or these runs of it, are not there."""
    path = paths.within(kept, paths.figure("figure5", "csv"))
    if not path.is_file():
        raise MissingError(f"{path} is not there yet; run `rdm figures figure5` and keep it.")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = [line for line in csv.DictReader(stream) if (line["system"], line["arm"]) == (gated, arm)]
        found = [
            State(int(line["seed"]), int(line["step"]), int(line["state"]), float(line["sensitivity"]))
            for line in lines
        ]
        if any(state.sensitivity <= 0 for state in found):
            raise ValueError
    except (KeyError, ValueError, TypeError, csv.Error):
        raise ArtefactError(f"{path} is damaged; run `rdm figures figure5` and keep it again.") from None
    wanted = {(s, t) for s in experiment.seeds_of(gated) for t in experiment.figures.figure5.steps}
    if not wanted <= {(state.seed, state.step) for state in found}:
        raise MissingError(f"{path} lacks seeds or steps of {gated!r}; run `rdm figures figure5` and keep it again.")
    return found


def shallower_half(ratios: list[float]) -> float:
    """Mean of log(n_i / n_L) over the shallower half, i < L / 2, of the states 0 to L - 1, given shallow to deep."""
    return statistics.fmean(ratios[: math.ceil(len(ratios) / 2)])


def read_log(experiment: Experiment, system: str, seed: int) -> list[dict[str, Any]]:
    """The lines of a finished run's log."""
    return list(map(json.loads, run_file(experiment, system, seed, "log.jsonl").read_text("utf-8").splitlines()))


def run_file(experiment: Experiment, system: str, seed: int, name: str) -> Path:
    """A file of a finished run, verified against the parameters."""
    run = paths.run_name(experiment.name, system, seed)
    return read(paths.train(run), make_train(run), of_train(experiment, run)).folder / name


def load_gates(path: Path) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """Per unit of a gates file, shallow to deep: its name, alpha and beta, float32 (C,) or (1,). Needs no torch."""
    with safe_open(path, framework="np") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        gates = json.loads(stored.metadata()[METADATA])["gates"]
    return [(label, weights[f"{gate}.delta"] + 1, weights.get(f"{gate}.beta")) for label, gate in gates.items()]
