"""`rdm gates`: what a run's gates learnt, the run without them, and gates for a model of your own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoModel
from safetensors import SafetensorError, safe_open
from torch import nn

from rdm.errors import ArtefactError, RdmError, UsageError
from rdm.models.export import save_diffusers
from rdm.models.gates import attach_gates, fold_gates, gate_table, gates_of, load_gates, save_gates
from rdm.params import Experiment
from rdm.params.gates import Gating
from rdm.provenance.files import whole_folder
from rdm.train import stage

GATES = "gates.safetensors"


def show(experiment: Experiment | None, name: str) -> list[dict[str, Any]]:
    """A row per unit of a run, or of a diffusers folder with gates: alpha and beta over its channels."""
    return gate_table(_gated(experiment, name))


def fold(experiment: Experiment | None, name: str, out: Path) -> Path:
    """Write a run, or a diffusers folder with gates, as a plain diffusers model whose weights hold the gates."""
    model = _gated(experiment, name)
    with _new_folder(out) as scratch:
        save_diffusers(fold_gates(model), scratch)
    return out


def attach(source: Path, out: Path, gating: Gating, units: list[str] | None) -> list[dict[str, Any]]:
    """Write a diffusers folder again, with fresh gates beside its weights; returns the gates' table."""
    model = _load_diffusers(source)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if gating.variant == "resnet":
        raise UsageError("Variant 'resnet' has no gates to attach; choose one of: rdm, adaln, skip, rezero.")
    attach_gates(model, gating, units)
    with _new_folder(out) as scratch:
        plain = _load_diffusers(source)
        plain.load_state_dict(own)
        plain.save_pretrained(scratch)
        save_gates(model, scratch / GATES)
    return gate_table(model)


def _gated(experiment: Experiment | None, name: str) -> nn.Module:
    """The network of a run's name, or (without an experiment) of a folder, with its gates."""
    if experiment is None:
        return load_gates(_load_diffusers(Path(name)), Path(name) / GATES)
    model = stage.load(experiment, name, torch.device("cpu")).network
    if not gates_of(model):
        raise RdmError(f"{name} has no gates; name a gated run, for example that of which it is the control.")
    return model


def _load_diffusers(folder: Path) -> Any:
    """A model from a local folder, in the precision of its weights. Raises ArtefactError if there is none."""
    if not (folder / "config.json").is_file():
        raise ArtefactError(f"{folder} is no diffusers model: it has no config.json; name what save_pretrained wrote.")
    weights = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    if not weights:
        raise ArtefactError(
            f"{folder} has no diffusion_pytorch_model*.safetensors; save it with safe_serialization=True."
        )
    try:
        with safe_open(weights[0], framework="pt") as stored:
            dtype = stored.get_tensor(next(iter(stored.keys()))).dtype
        return AutoModel.from_pretrained(
            str(folder), torch_dtype=dtype, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ArtefactError(f"{folder} cannot be loaded as a diffusers model ({reason}); save it again.") from None


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears when it is whole. Raises UsageError rather than replace one."""
    if out.exists():
        raise UsageError(f"{out} is there already; name a new folder, or remove it.")
    with whole_folder(out) as scratch:
        yield scratch
