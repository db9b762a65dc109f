"""Gates in a file of their own: kilobytes beside the network they belong to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rdm.errors import ArtefactError, RdmError, UsageError
from rdm.models.gates.attach import attach_gates, detach_gates, gates_of, places_of, split_state, unwrapped
from rdm.params.gates import METADATA, Gating
from rdm.provenance.files import whole_file


def save_gates(model: nn.Module, path: str | Path) -> Path:
    """Write the gates of `model` as safetensors, with their kind and the hash of the weights they belong to.

    Raises RdmError if there are none.
    """
    places = places_of(model)
    if not places:
        raise RdmError(f"{type(model).__name__} has no gates to save.")
    own, gate_weights = split_state(model)
    gating = {name: getattr(places[0].gate.gating, name) for name in Gating.model_fields}
    description = {
        "gating": gating,
        "units": list(dict.fromkeys(place.unit for place in places)),
        "gates": {place.label: place.path for place in places},
        "base": base_digest(own),
    }
    with whole_file(Path(path)) as temporary:
        # one key: safetensors writes several in no fixed order
        save_file(gate_weights, temporary, {METADATA: json.dumps(description)})
    return Path(path)


def load_gates(model: nn.Module, path: str | Path) -> nn.Module:
    """Attach the gates of a file to `model`, in place, and return it.

    Raises ArtefactError if the file is missing, damaged, of another kind, or was saved for other weights; RdmError if
    the model has gates already. Then the model is as it was.
    """
    if gates_of(model):
        raise RdmError(f"{type(model).__name__} has gates already; call detach_gates first.")
    gating, units, base, weights = _read(Path(path))
    if base != base_digest(split_state(model)[0]):
        raise ArtefactError(
            f"{path} was saved for another base: the weights of {type(model).__name__} differ; load the network beside "
            "it, in the precision in which it was saved."
        )
    try:
        attach_gates(model, gating, units)
    except UsageError as error:
        raise ArtefactError(f"{path} does not fit this network: {error}") from None
    there = {name: tensor.shape for name, tensor in weights.items()}
    here = {name: tensor.shape for name, tensor in split_state(model)[1].items()}
    if here != there:
        detach_gates(model)
        name = next(name for name in here | there if here.get(name) != there.get(name))
        raise ArtefactError(
            f"{path} is damaged: {name} is {there.get(name)} there, not {here.get(name)}; save it again."
        )
    unwrapped(model).load_state_dict(weights, strict=False)
    return model


def base_digest(own: dict[str, Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of a network's own weights."""
    content = hashlib.sha256()
    for name in sorted(own):
        tensor = own[name].detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def _read(path: Path) -> tuple[Gating, list[str], str, dict[str, Tensor]]:
    if not path.is_file():
        raise ArtefactError(f"{path} is not there; save_gates writes it, and so does `rdm train` of a gated run.")
    try:
        with safe_open(path, framework="pt") as stored:
            description = json.loads((stored.metadata() or {})[METADATA])
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        units = [str(unit) for unit in description["units"]]
        return Gating(**description["gating"]), units, description["base"], weights
    except KeyError:
        raise ArtefactError(f"{path} holds no gates: its metadata have no {METADATA!r}.") from None
    except (SafetensorError, ValueError, TypeError, ValidationError):
        raise ArtefactError(f"{path} is damaged; save the gates again.") from None
