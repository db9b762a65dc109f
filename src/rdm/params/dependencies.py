"""Which parameters each artefact depends on, and the command that makes it.

The stages write these values into their manifests, the Snakefile hands them to its rules, and both compare by value:
a comment re-runs nothing, a changed value re-runs what depends on it. No torch here, so that planning stays fast.
"""

from __future__ import annotations

from typing import Any

from rdm.params.experiment import Experiment
from rdm.params.schema import FashionData, FineTuned

Values = dict[str, Any]


def of_data(experiment: Experiment, dataset: str) -> Values:
    """A stored data set. Where Fashion-MNIST's files came from does not matter, since they are verified."""
    data = experiment.data[dataset]
    return {"data": data.model_dump(exclude={"folder"} if isinstance(data, FashionData) else None)}


def of_autoencoder(experiment: Experiment, name: str) -> Values:
    """A trained autoencoder, and the latents it makes."""
    autoencoder = experiment.latents[name]
    return {**of_data(experiment, autoencoder.data), "latents": autoencoder.model_dump()}


def of_extractor(experiment: Experiment) -> Values:
    """The network whose features are compared."""
    return {**of_data(experiment, experiment.score.data), "extractor": experiment.score.extractor.model_dump()}


def of_train(experiment: Experiment, run: str) -> Values:
    """A trained run."""
    system, seed = experiment.find_run(run)
    entry, baseline = experiment.systems[system], experiment.baseline(system)
    values = {"train": entry.model_dump(), "seed": seed, **of_autoencoder(experiment, baseline.latents)}
    return {**values, "baseline": baseline.model_dump()} if isinstance(entry, FineTuned) else values


def of_sample(experiment: Experiment, run: str, sampler: str) -> Values:
    """The images of one run and sampler; of the protocol, only how many and of which labels."""
    protocol = experiment.protocol
    dealt: Values = {"samples": protocol.samples, "labels": protocol.labels}
    if protocol.labels == "reference":
        dealt |= {"reference": protocol.reference, **of_data(experiment, experiment.score.data)}
    return {"sample": experiment.sample[sampler].model_dump(), "dealt": dealt, **of_train(experiment, run)}


def of_scoring(experiment: Experiment) -> Values:
    """How images are scored, whatever images they are."""
    protocol = {"name": experiment.score.protocol, **experiment.protocol.model_dump()}
    return {"protocol": protocol, "reference": experiment.score.reference, **of_extractor(experiment)}


def of_score(experiment: Experiment, run: str, sampler: str) -> Values:
    """One score file."""
    return {**of_sample(experiment, run, sampler), "score": of_scoring(experiment)}


def of_samples_score(experiment: Experiment, name: str) -> Values:
    """The score of a published sample set."""
    return {"samples": name, "score": of_scoring(experiment)}


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


def make_score(run: str) -> str:
    """The command that scores a run."""
    return f"rdm score {run}"


MAKE_EXTRACTOR = "rdm extractor"
MAKE_FLOOR = "rdm score floor"
