"""`rdm gates`: what a run's gates learnt, the run without them, and gates for a model of your own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import safe_open
from torch import nn

from rdm import paths
from rdm.errors import ArtefactError, RdmError, UsageError
from rdm.models.dit import DiT
from rdm.models.export import save_diffusers
from rdm.models.gates import attach_gates, detach_gates, fold_gates, gate_table, gates_of, load_gates, save_gates
from rdm.models.latte import Latte
from rdm.params import Experiment
from rdm.params.gates import Gating
from rdm.provenance.files import whole_folder
from rdm.train import stage

GATES = "gates.safetensors"
OWN = {kind.__name__: kind for kind in (DiT, Latte)}  # networks that diffusers does not have
WEIGHTS = "diffusion_pytorch_model.safetensors"


def show(experiment: Experiment | None, name: str) -> list[dict[str, Any]]:
    """A row per unit of a run, or of a diffusers folder with gates: alpha and beta over its channels."""
    return gate_table(_gated(experiment, name))


def fold(experiment: Experiment | None, name: str, out: Path) -> Path:
    """Write a run, or a diffusers folder with gates, as a plain diffusers model whose weights hold the gates."""
    _check_new(out)
    model = fold_gates(_gated(experiment, name))
    with whole_folder(out) as scratch:
        save_diffusers(model, scratch)
    return out


def attach(source: Path, out: Path, gating: Gating, units: list[str] | None) -> list[dict[str, Any]]:
    """Write a diffusers folder again, with fresh gates beside its weights; returns the gates' table."""
    _check_new(out)
    if gating.variant == "resnet":
        raise UsageError("Variant 'resnet' has no gates to attach; choose one of: rdm, adaln, skip, rezero.")
    model = attach_gates(_load_diffusers(source), gating, units)
    rows = gate_table(model)
    with whole_folder(out) as scratch:
        save_gates(model, scratch / GATES)
        detach_gates(model).save_pretrained(scratch)  # type: ignore[operator]
    return rows


def _gated(experiment: Experiment | None, name: str) -> nn.Module:
    """The network of a run's name, or (without an experiment) of a folder, with its gates."""
    if experiment is None:
        return load_gates(_load_diffusers(Path(name)), Path(name) / GATES)
    model = stage.load(experiment, name, torch.device("cpu")).network
    if not gates_of(model):
        raise RdmError(f"{name} has no gates; name a gated run, for example that of which it is the control.")
    return model


def _load_diffusers(folder: Path) -> Any:
    """A model from a local folder, in the precision of its weights. Raises ArtefactError if it is not whole."""
    if (folder / paths.MANIFEST).is_file():
        raise UsageError(f"{folder} is a run's own folder, no diffusers model; give the run's name, {folder.name}.")
    if not (folder / "config.json").is_file():
        raise ArtefactError(f"{folder} is no diffusers model: it has no config.json; name what save_pretrained wrote.")
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = OWN[name] if name in OWN else getattr(diffusers, name)
        model, report = kind.from_pretrained(
            folder,
            torch_dtype=_precision(folder),
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a foreign folder makes diffusers raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArtefactError(f"{folder} cannot be loaded as a diffusers model ({reason}); save it again.") from None
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            raise ArtefactError(
                f"{folder} has {problem.replace('_', ' ')}, {report[problem][0]} for one; save the whole network "
                "without gates (save_gates keeps those, detach_gates takes them off)."
            )
    return model


def _precision(folder: Path) -> torch.dtype:
    """The one dtype of a folder's weights. Raises ArtefactError if there are several, or no weights."""
    index = folder / f"{WEIGHTS}.index.json"
    names = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {WEIGHTS}
    dtypes: set[torch.dtype] = set()
    for name in names:
        with safe_open(folder / name, framework="pt") as stored:
            dtypes |= {stored.get_tensor(key).dtype for key in stored.keys()}  # noqa: SIM118
    if len(dtypes) != 1:
        raise ArtefactError(f"its weights have {len(dtypes)} precisions")
    (dtype,) = dtypes
    return dtype


def _check_new(out: Path) -> None:
    """Raise UsageError rather than replace a folder."""
    if out.exists():
        raise UsageError(f"{out} is there already; name a new folder, or remove it.")
