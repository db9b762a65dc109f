"""What a table rests on: its runs, what they cost, and the hashes by which they are found again."""

from __future__ import annotations

import pandas as pd

from rdm import paths
from rdm.params import Experiment
from rdm.params.dependencies import make_train, of_train
from rdm.provenance.files import digest
from rdm.provenance.manifest import read
from rdm.sample import store
from rdm.tables.render import Page

COLUMNS = [
    *("run", "sampler", "parameters", "steps", "device", "train_seconds", "sample_seconds"),
    *("settings_sha256", "weights_sha256", "samples_sha256"),
]
HASHES = ("Settings", "Weights", "Samples")
SHOWN = 12  # digits of a hash, for readers
NOTES = [
    "Seconds: by the clock, on the device named. Of a job that was interrupted, those since it was started again.",
    "Settings: sha256 over the parameters, the hashes of what was read, and the code, as in the `recipe` of "
    "`results/train/RUN/manifest.json`. Weights, samples: sha256 over the files of `results/train/RUN` and "
    "`results/sample/RUN/SAMPLER`. In full they stand in the CSV.",
]


def list_runs(experiment: Experiment, table: str) -> pd.DataFrame:
    """A row per run and sampler of `table1` or `table2`, controls included."""
    rows = []
    for system in experiment.shown_systems(table):
        for seed in experiment.seeds_of(system):
            run = paths.run_name(experiment.name, system, seed)
            trained = read(paths.train(run), make_train(run), of_train(experiment, run))
            for sampler in experiment.samplers_of(system):
                drawn = store.find(experiment, run, sampler)
                facts = [trained.facts.get(name) for name in ("parameters", "step", "device")]
                hashes = digest(trained.recipe), trained.digest, drawn.digest
                rows.append((run, sampler, *facts, trained.seconds, drawn.seconds, *hashes))
    return pd.DataFrame(rows, columns=COLUMNS).convert_dtypes()


def page_of_runs(runs: pd.DataFrame) -> Page:
    """For readers: hashes shortened."""
    columns = {
        "Run": runs["run"],
        "Sampler": runs["sampler"],
        "Parameters": runs["parameters"].map("{:,}".format, na_action="ignore"),
        "Steps": runs["steps"],
        "Device": runs["device"],
        "Training, s": runs["train_seconds"].map("{:.1f}".format),
        "Sampling, s": runs["sample_seconds"].map("{:.1f}".format),
        **{name: runs[f"{name.lower()}_sha256"].map(lambda text: text[:SHOWN]) for name in HASHES},
    }
    return Page(pd.DataFrame(columns).astype(object).fillna("").astype(str), NOTES)
