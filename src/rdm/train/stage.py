"""`rdm train`: one run, a system trained with one seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rdm import paths
from rdm.latents import stage as latents
from rdm.models.gates import attach_gates, gates_of, load_gates, save_gates, split_state
from rdm.models.zoo import build_network
from rdm.params import Experiment
from rdm.params.dependencies import make_train, of_train
from rdm.params.schema import FineTuned
from rdm.provenance.files import canonical_json
from rdm.provenance.manifest import Artefact, Recipe, build, is_current, read
from rdm.randomness import seed_of
from rdm.runtime import prepare
from rdm.train.loop import Job, fit


@dataclass(frozen=True)
class TrainedRun:
    """A finished run: its EMA network in eval mode, on the device asked for."""

    network: nn.Module
    latent_shape: list[int]
    classes: int
    artefact: Artefact


def run(experiment: Experiment, name: str, overwrite: bool = False) -> Path:
    """Train the run `name` (`<experiment>-<system>-s<seed>`); returns its folder."""
    system, seed = experiment.find_run(name)
    entry, baseline = experiment.systems[system], experiment.baseline(system)
    data = latents.load(experiment, baseline.latents)
    inputs = {"latents": data.artefact.digest}
    if isinstance(entry, FineTuned):
        inputs["start"] = _open(experiment, paths.run_name(experiment.name, entry.start, seed)).digest
    recipe = Recipe("train", of_train(experiment, name), inputs)
    folder = paths.train(name)
    if is_current(folder, recipe, make_train(name), overwrite):
        return folder
    device = prepare(experiment)
    shape = list(data.latents.shape[1:])
    network = build_network(baseline.network, shape, data.classes, seed)
    gates, phase = None, "train"
    if isinstance(entry, FineTuned):
        start = load_file(paths.train(paths.run_name(experiment.name, entry.start, seed)) / "model.safetensors")
        network.load_state_dict(start)
        gates, phase = entry.gates, "fine-tune"
    if gates is not None:
        attach_gates(network, gates)
    stream = seed_of(seed, phase)  # the gated run and its control see the same batches and noise
    digest, state_path = f"{recipe.digest}-{device.type}", paths.train_state(name)
    job = Job(entry, baseline.diffusion, gates, data.latents, data.labels, data.classes, stream, digest, state_path)
    with build(folder, recipe) as (scratch, facts):
        state = fit(network, job, device)
        save_file(split_state(state.ema)[0], scratch / "model.safetensors")
        if gates_of(state.ema):
            save_gates(state.ema, scratch / "gates.safetensors")
        config = {"network": baseline.network.model_dump(), "latent_shape": shape, "classes": data.classes}
        (scratch / "config.json").write_text(canonical_json(config), encoding="utf-8")
        lines = [json.dumps(line) + "\n" for line in state.log]
        (scratch / "log.jsonl").write_text("".join(lines), encoding="utf-8")
        facts |= {"system": system, "seed": seed, "step": state.step, "device": device.type}
    state_path.unlink(missing_ok=True)
    return folder


def load(experiment: Experiment, name: str, device: torch.device) -> TrainedRun:
    """Open a finished run, verified against the parameters."""
    system, seed = experiment.find_run(name)
    baseline = experiment.baseline(system)
    artefact = _open(experiment, name)
    config = json.loads((artefact.folder / "config.json").read_text(encoding="utf-8"))
    network = build_network(baseline.network, config["latent_shape"], config["classes"], seed)
    network.load_state_dict(load_file(artefact.folder / "model.safetensors"))
    if (artefact.folder / "gates.safetensors").is_file():
        load_gates(network, artefact.folder / "gates.safetensors")
    return TrainedRun(network.to(device).eval(), config["latent_shape"], config["classes"], artefact)


def _open(experiment: Experiment, name: str) -> Artefact:
    return read(paths.train(name), make_train(name), of_train(experiment, name))
