"""Which parameters each artefact depends on, and the command that makes it.

The stages write these values into their manifests, the Snakefile hands them to its rules, and both compare by value:
a comment re-runs nothing, a changed value re-runs what depends on it. No torch here, so that planning stays fast.
"""

from __future__ import annotations

from typing import Any

from rdm.params.experiment import FLOOR, Experiment
from rdm.params.schema import FashionData, Optimisation
from rdm.paths import run_name

Values = dict[str, Any]


def of_data(experiment: Experiment, dataset: str) -> Values:
    """A stored data set. Where Fashion-MNIST's files came from does not matter, since they are verified."""
    data = experiment.data[dataset]
    return {"data": data.model_dump(exclude={"folder"} if isinstance(data, FashionData) else None)}


def of_autoencoder(experiment: Experiment, name: str) -> Values:
    """The autoencoder of this entry: its own, or another's."""
    autoencoder = experiment.autoencoder(name)
    return {**of_data(experiment, autoencoder.data), "latents": autoencoder.model_dump()}


def of_latents(experiment: Experiment, name: str) -> Values:
    """A data set's latents, and what they are decoded with."""
    values = {**of_autoencoder(experiment, name), "encoded": _performance(experiment, "autoencoder")}
    # the autoencoder's data are those that it encodes, unless it is another entry's
    if name in experiment.autoencoders:
        return values
    encodes = of_data(experiment, experiment.latents[name].data) | {"mirror": experiment.is_mirrored(name)}
    return values | {"encodes": encodes}


def _performance(experiment: Experiment, *stages: str) -> Values:
    """What of the section `performance` moves the last digits of these stages."""
    return experiment.performance.model_dump(include={*stages, "compile", "channels_last"})


def of_extractor(experiment: Experiment, score: str) -> Values:
    """The network whose features are compared."""
    judge = experiment.judge(score)
    frames = {"as_frames": experiment.protocols[judge].frames > 1}
    data = of_data(experiment, experiment.score[judge].data)
    return {**data, "extractor": experiment.extractor(score).model_dump() | frames}


def of_train(experiment: Experiment, run: str) -> Values:
    """A trained run, with the run that it starts from."""
    system, seed = experiment.find_run(run)
    entry, baseline = experiment.systems[system], experiment.baseline(system)
    values = {
        "train": entry.model_dump(exclude={"seeds"}),
        "seed": seed,
        **of_latents(experiment, baseline.latents),
    }
    if isinstance(entry, Optimisation):
        values["trained"] = _performance(experiment, "train")
    return values | {"start": of_train(experiment, start) if (start := start_of(experiment, run)) else None}


def start_of(experiment: Experiment, run: str) -> str | None:
    """The run whose weights a run starts from."""
    system, seed = experiment.find_run(run)
    start = experiment.systems[system].start
    return run_name(experiment.name, start, seed) if start else None


def of_sample(experiment: Experiment, run: str, sampler: str) -> Values:
    """The items of one run and sampler; of the protocols, only how many and of which labels or captions."""
    system, _ = experiment.find_run(run)
    dataset, labels = experiment.data_of(system), experiment.label_rule(system, sampler)
    protocol = experiment.dealing(dataset)
    dealt: Values = {"samples": protocol.samples, "labels": labels}
    if labels in ("reference", "captions"):
        dealt |= {"reference": protocol.reference, **of_data(experiment, dataset)}
    drawn = {"dealt": dealt, "drawn": _performance(experiment, "sample", "autoencoder")}
    chosen = experiment.samplers[sampler].model_dump(exclude={"labels"})  # which `dealt` has, whoever says it
    return {"sample": chosen, **drawn, **of_train(experiment, run)}


def of_scoring(experiment: Experiment, score: str) -> Values:
    """One way of scoring, whatever is scored."""
    parameters = experiment.score[score]
    protocol = {"name": parameters.protocol, **experiment.protocols[score].model_dump()}
    values = {"protocol": protocol, "reference": parameters.reference, **of_extractor(experiment, score)}
    # the extractor's data are those that it judges, unless it is another score's
    return values if experiment.judge(score) == score else values | {"judged": of_data(experiment, parameters.data)}


def of_score(experiment: Experiment, run: str, sampler: str, score: str) -> Values:
    """One score file."""
    return {**of_sample(experiment, run, sampler), "score": of_scoring(experiment, score)}


def of_published_score(experiment: Experiment, name: str, score: str) -> Values:
    """The score of a published sample set."""
    return {"samples": name, "score": of_scoring(experiment, score)}


def make_data(dataset: str) -> str:
    """The command that stores a data set."""
    return f"rdm data {dataset}"


def make_autoencoder(name: str) -> str:
    """The command that trains an autoencoder."""
    return f"rdm autoencoder {name}"


def make_latents(name: str) -> str:
    """The command that encodes a data set."""
    return f"rdm latents {name}"


def make_train(run: str) -> str:
    """The command that trains a run."""
    return f"rdm train {run}"


def make_sample(run: str) -> str:
    """The command that samples a run."""
    return f"rdm sample {run}"


def make_score(name: str) -> str:
    """The command that scores a run, or published samples."""
    return f"rdm score {name}"


def make_extractor(score: str) -> str:
    """The command that trains the classifier of a score that has its own."""
    return f"rdm extractor {score}"


def make_floor(score: str) -> str:
    """The command that scores real items."""
    return f"rdm score {FLOOR}{score}"
