"""`rdm train`: one run, a system trained with one seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rdm import paths
from rdm.checkpoints import published_file
from rdm.distributed import PATIENCE, joined
from rdm.errors import ArtefactError
from rdm.latents import stage as latents
from rdm.models.cost import forward_flops
from rdm.models.gates import attach_gates, gate_table, gates_of, load_gates, save_gates, split_state
from rdm.models.latte import Latte
from rdm.models.published import load_published
from rdm.models.zoo import start_from_frames
from rdm.params import Experiment, schema
from rdm.params.dependencies import make_train, of_train, start_of
from rdm.params.schema import Denoiser, FineTuned, Optimisation, PublishedBaseline
from rdm.progress import is_first
from rdm.provenance.card import card
from rdm.provenance.files import canonical_json, file_digest
from rdm.provenance.manifest import Artefact, Input, Recipe, build, is_current, read
from rdm.randomness import seed_of
from rdm.runtime import prepare
from rdm.train import conditioning
from rdm.train.loop import Job, ema_decay, fit
from rdm.train.state import TrainingState
from rdm.train.trackers import check, following

CONFIG = "config.json"


@dataclass(frozen=True)
class TrainedRun:
    """A finished run: its EMA network in eval mode, on the device asked for."""

    network: nn.Module
    latent_shape: list[int]
    classes: int
    artefact: Artefact

    @property
    def null_label(self) -> int | Tensor:
        """The label that means none, or the tokens of the empty caption."""
        return conditioning.null_label(self.network, self.classes)


def run(experiment: Experiment, name: str, overwrite: bool = False, trackers: Sequence[str] = ()) -> Path:
    """Train the run `name` (`<experiment>-<system>-s<seed>`); returns its folder.

    trackers: `tensorboard`, `mlflow`, `wandb`, or none; they look on.
    """
    check(trackers)
    system, _ = experiment.find_run(name)
    baseline, folder = experiment.baseline(system), paths.train(name)
    published = isinstance(experiment.systems[system], PublishedBaseline)
    if not published and not folder.exists():  # a GPU that is not there is missed before the latents are verified
        prepare(experiment)
    encoded = latents.read_manifest(experiment, baseline.latents)
    inputs = {"latents": encoded.as_input}
    start = start_of(experiment, name)
    if start is not None:
        inputs["start"] = _open(experiment, start).as_input
    if isinstance(baseline, PublishedBaseline) and start is None:
        inputs["weights"] = Input.of_file(published_file(Path(baseline.weights)))
    inputs |= conditioning.inputs(experiment, baseline, encoded)
    recipe = Recipe("train", of_train(experiment, name), inputs)
    if is_current(folder, recipe, make_train(name), overwrite):
        return folder
    if published:
        if is_first():
            _import(experiment, name, recipe, encoded)
        return folder
    data = _training_data(latents.load(experiment, baseline.latents), baseline)
    device = prepare(experiment)
    with joined(device, PATIENCE):  # the first process verifies the latents, the others wait for it
        _train(experiment, name, recipe, data, device, trackers)
    return folder


def _train(
    experiment: Experiment,
    name: str,
    recipe: Recipe,
    data: latents.Latents,
    device: torch.device,
    trackers: Sequence[str],
) -> None:
    """Train, alone or as one of several processes, and write the run's folder."""
    system, seed = experiment.find_run(name)
    entry, baseline = experiment.systems[system], experiment.baseline(system)
    start = start_of(experiment, name)
    shape = list(data.latents.shape[1:])
    network, config = conditioning.build(experiment, baseline, shape, data.classes, seed)
    if start is not None:
        _take_weights(network, load_file(paths.train(start) / "model.safetensors"))
    if entry.gates is not None:
        attach_gates(network, entry.gates)
    # the gated run and its control see the same batches and noise
    stream = seed_of(seed, "fine-tune" if isinstance(entry, FineTuned) else "train")
    digest, state_path = f"{recipe.digest}-{device.type}", paths.train_state(name)
    assert isinstance(entry, Optimisation)
    labels = conditioning.labels(experiment, baseline, network, data)
    null_label = conditioning.null_label(network, data.classes)
    what = entry, baseline.diffusion, entry.gates, data.latents, labels, null_label
    job = Job(*what, stream, digest, state_path, data.spread, experiment.performance)
    if not is_first():
        fit(network, job, device)
        return
    tracked = following(trackers, experiment.name, name, recipe)
    with build(paths.train(name), recipe) as (scratch, facts), tracked as watch:
        facts |= _facts(experiment, name, network, shape, data.artefact) | {"device": device.type}
        facts["base"] = f"the run {start}" if start else "random weights"
        state = fit(network, job, device, watch)
        _write(state, scratch)
        facts |= {"step": state.step, "ema_decay": ema_decay(entry, state.step)}
        if gates_of(state.ema):
            facts["gates"] = _learnt(state.ema)
        _describe(name, recipe, facts, config, scratch)
    state_path.unlink(missing_ok=True)


def _import(experiment: Experiment, name: str, recipe: Recipe, encoded: Artefact) -> None:
    """Write published weights as a run's folder. Raises UsageError if they are not those of the declared network."""
    system, seed = experiment.find_run(name)
    entry, shape, classes = experiment.systems[system], encoded.facts["shape"], encoded.facts["classes"]
    assert isinstance(entry, PublishedBaseline)
    if len(shape) == 4 and not isinstance(entry.network, schema.Latte):
        shape = shape[1:]  # one frame
    network, config = conditioning.build(experiment, entry, shape, classes, seed)
    load_published(network, Path(entry.weights))
    with build(paths.train(name), recipe) as (scratch, facts):
        facts |= _facts(experiment, name, network, shape, encoded) | {"device": "cpu", "step": 0}
        facts["base"] = f"the published {Path(entry.weights).name}"
        _write_weights(network, scratch, None)
        (scratch / "log.jsonl").touch()
        _describe(name, recipe, facts, config, scratch)


def _facts(
    experiment: Experiment, name: str, network: nn.Module, shape: list[int], encoded: Artefact
) -> dict[str, Any]:
    system, seed = experiment.find_run(name)
    return {
        "system": system,
        "seed": seed,
        "parameters": sum(p.numel() for p in network.parameters()),
        "forward_flops": forward_flops(network, shape),
        "data": encoded.facts["data"],
    }


def _learnt(network: nn.Module) -> dict[str, Any]:
    """How many units have gates, and the extremes of alpha and beta over all of them."""
    table, ranges = gate_table(network), {}
    for what in ("alpha", "beta"):
        if f"{what}_min" in table[0]:
            ranges[what] = [min(row[f"{what}_min"] for row in table), max(row[f"{what}_max"] for row in table)]
    return {"units": len(table), "ranges": ranges}


def _describe(name: str, recipe: Recipe, facts: dict[str, Any], config: dict[str, Any], folder: Path) -> None:
    """Beside the weights: the network's sizes, and the model card."""
    text = canonical_json(config)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    weights = {file.name: file_digest(file) for file in sorted(folder.glob("*.safetensors"))}
    # from the file's own order of keys, as `rdm card` reads it
    about = card(name, recipe.as_dict(), facts, weights, json.loads(text))
    (folder / "README.md").write_text(about, encoding="utf-8")


def _training_data(data: latents.Latents, baseline: Denoiser) -> latents.Latents:
    """Clips for a Latte; a network for images is trained on single frames."""
    if len(data.latents.shape) == 4 or isinstance(baseline.network, schema.Latte):
        return data
    frames, spread = data.latents.shape[1], None if data.spread is None else data.spread.frames()
    labels, items = (numbers.repeat_interleave(frames) for numbers in (data.labels, data.items))
    return replace(data, latents=data.latents.frames(), spread=spread, labels=labels, items=items)


def _take_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Start from another run's EMA weights, of the same network or (a Latte) of one for single frames."""
    if isinstance(network, Latte) and weights.keys() != network.state_dict().keys():
        start_from_frames(network, weights)
    else:
        network.load_state_dict(weights)


def _write(state: TrainingState, folder: Path) -> None:
    """EMA weights and gates, of each snapshot and of the end, and the log."""
    lines = [json.dumps(line) + "\n" for line in state.log]
    (folder / "log.jsonl").write_text("".join(lines), encoding="utf-8")
    end = copy.deepcopy(state.ema.state_dict())
    for step, weights in [*state.snapshots.items(), (None, end)]:  # last the end, which `state.ema` is again
        state.ema.load_state_dict(weights)
        _write_weights(state.ema, folder, step)


def _write_weights(network: nn.Module, folder: Path, step: int | None) -> None:
    save_file(split_state(network)[0], folder / _weights("model", step))
    if gates_of(network):
        save_gates(network, folder / _weights("gates", step))


def _weights(what: str, step: int | None) -> str:
    return f"{what}.safetensors" if step is None else f"{what}-step{step}.safetensors"


def load(experiment: Experiment, name: str, device: torch.device, step: int | None = None) -> TrainedRun:
    """Open a finished run, verified against the parameters. step: of a snapshot; None: the end."""
    system, seed = experiment.find_run(name)
    baseline = experiment.baseline(system)
    artefact = _open(experiment, name)
    config: dict[str, Any] = json.loads((artefact.folder / CONFIG).read_text(encoding="utf-8"))
    encoders = {name: source.digest for name, source in conditioning.encoder(baseline).items()}
    if not encoders.items() <= artefact.recipe["inputs"].items():
        raise ArtefactError(
            f"{artefact.folder} learned with another text encoder; run `{make_train(name)} --overwrite`."
        )
    network = conditioning.rebuild(baseline, config, seed)
    network.load_state_dict(load_file(artefact.folder / _weights("model", step)))
    gates = artefact.folder / _weights("gates", step)
    if gates.is_file():
        load_gates(network, gates)
    return TrainedRun(network.to(device).eval(), config["latent_shape"], config["classes"], artefact)


def _open(experiment: Experiment, name: str) -> Artefact:
    return read(paths.train(name), make_train(name), of_train(experiment, name))
