"""Score files, samples and runs written by hand, as the stages would leave them: tables need nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rdm import paths
from rdm.data.sources import open_images, open_videos
from rdm.params.dependencies import of_published_score, of_sample, of_score, of_scoring, of_train
from rdm.params.gates import METADATA
from rdm.provenance.files import write_json
from rdm.provenance.manifest import Input, Recipe, build, read

# what can be wrong with a score's file, and what is said of it
SPOILT = pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s["recipe"]["parameters"]["score"].update(reference="0"), "made with other parameters"),
        (lambda s: s["recipe"]["parameters"].update(seed=7), "made with other parameters"),
        (lambda s: s["recipe"]["inputs"].update(samples="0" * 64), "is the score of earlier samples"),
        (lambda s: s["recipe"]["inputs"].update(extractor="0" * 64), "of another extractor than the floor's"),
        (lambda s: s["recipe"]["inputs"].update(reference="0" * 64), "against another reference than the floor's"),
        (lambda s: s.pop("values"), "is damaged"),
    ],
)

JUDGES = {"extractor": Input(Path("extractor"), "a classifier"), "reference": Input(Path("data"), "real items")}


def with_seeds(experiment, seeds):
    return experiment.model_copy(update={"seeds": tuple(seeds)})


def over_seeds_drawn_by(module, monkeypatch):
    """What this module will draw: (place of the panel, label) -> means, and standard deviations, over seeds."""
    drawn, plot = {}, module.plot_over_seeds

    def spy(axes, table, x, y, label, marker="o"):
        by_x = table.groupby(x)[y]
        drawn[axes.get_subplotspec().num1, label] = by_x.mean().tolist(), by_x.std().tolist()
        plot(axes, table, x, y, label, marker)

    monkeypatch.setattr(module, "plot_over_seeds", spy)
    return drawn


def write_train(experiment, run, log="", gates=None, **facts):
    """A run without weights. gates: unit -> alpha, and beta if it has one, as lists."""
    with build(paths.train(run), Recipe("train", of_train(experiment, run))) as (scratch, recorded):
        (scratch / "log.jsonl").write_text(log)
        if gates is not None:
            _write_gates(scratch / "gates.safetensors", gates)
        recorded |= facts
    return read(paths.train(run), "")


def _write_gates(path, gates):
    """As `save_gates` does: alpha as its difference from 1."""
    weights = {}
    for unit, (alpha, *beta) in gates.items():
        weights[f"{unit}.delta"] = np.array(alpha, np.float32) - 1
        weights |= {f"{unit}.beta": np.array(values, np.float32) for values in beta}
    save_file(weights, path, {METADATA: json.dumps({"gates": {unit: unit for unit in gates}})})


def write_sample(experiment, run, sampler, images=None, labels=None):
    """Samples of a run, which is written, too, if it is not there: one shard, of few items or of none."""
    there = (paths.train(run) / paths.MANIFEST).is_file()
    trained = read(paths.train(run), "") if there else write_train(experiment, run)
    images = np.zeros((0, 1, 1, 1), np.uint8) if images is None else images
    labels = np.zeros(len(images), np.int64) if labels is None else labels
    recipe = Recipe("sample", of_sample(experiment, run, sampler), {"train": trained.as_input})
    with build(paths.sample(run, sampler), recipe) as (scratch, _):
        np.savez(scratch / "00000.npz", arr_0=images, arr_1=labels)
    return read(paths.sample(run, sampler), "")


def write_scores(experiment, system, sampler, score, metrics):
    """The score file of each seed, of its samples or, if there are none, of none.

    metrics: name -> [(value, standard error) of each seed].
    """
    for number, seed in enumerate(experiment.seeds_of(system)):
        run = paths.run_name(experiment.name, system, seed)
        there = (paths.sample(run, sampler) / paths.MANIFEST).is_file()
        samples = read(paths.sample(run, sampler), "") if there else write_sample(experiment, run, sampler)
        values = {name: estimates[number] for name, estimates in metrics.items()}
        path = paths.score(run, sampler, experiment.score[score].protocol)
        _write(path, experiment, score, of_score(experiment, run, sampler, score), values, samples.as_input)


def write_floor(experiment, score, metrics):
    """metrics: name -> (value, standard error)."""
    path = paths.floor(experiment.score[score].data, experiment.score[score].protocol)
    _write(
        path,
        experiment,
        score,
        of_scoring(experiment, score),
        metrics,
        Input(paths.data(experiment.score[score].data), "real"),
    )


def write_published(experiment, name, score, metrics):
    """metrics: name -> (value, standard error)."""
    source = Path(experiment.published[name].path)
    opened = open_images(source) if experiment.protocols[score].clips is None else open_videos(source)
    path = paths.published_score(name, experiment.score[score].protocol)
    _write(path, experiment, score, of_published_score(experiment, name, score), metrics, Input(source, opened.digest))


def _write(path, experiment, score, parameters, values, samples):
    content = {
        "values": {name: {"value": value, "standard_error": error} for name, (value, error) in values.items()},
        "recipe": Recipe("score", parameters, {"samples": samples, **JUDGES}).as_dict(),
    }
    write_json(path, content)
