"""Published checkpoints: their tensors by name, read without running anything that the file names."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import MAGIC_NUMBER, get_unsafe_globals_in_checkpoint, safe_globals

from rdm.errors import UsageError

Tensors = dict[str, Tensor]
OLD = pickle.dumps(MAGIC_NUMBER, protocol=2)  # how files begin that torch wrote before it zipped them, in 1.6
AVERAGED_FIRST = ("ema", "state_dict", "model")  # the sets of tensors that a file may hold beside each other


class Ignored:
    """Stands for whatever else than tensors a checkpoint holds: arguments, callbacks, an optimiser's settings."""

    def __init__(self, *_: Any, **__: Any) -> None: ...


def read_tensors(file: Path) -> Tensors:
    """The tensors of a checkpoint of torch's or of safetensors, by name; the averaged ones if it holds several sets.

    Raises UsageError if it cannot be read, or holds no tensors by name.
    """
    with published_file(file).open("rb") as stream:
        if stream.read(len(OLD)) == OLD:
            raise UsageError(
                f"{file} has torch's format of before 1.6, which is not read; load it with torch, and save its tensors "
                "again, with a present torch or as safetensors."
            )
    try:
        content: Any = load_file(file) if file.suffix == ".safetensors" else _read_pickled(file)
    except pickle.UnpicklingError:
        raise UsageError(
            f"{file} is damaged, or holds code beside its tensors, which is not run; download it again, or (if you "
            "trust it) save its tensors alone."
        ) from None
    except Exception as error:  # whatever a foreign file makes torch raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{file} cannot be read as a checkpoint ({reason}); download it again.") from None
    for part in AVERAGED_FIRST:
        if isinstance(content, dict) and isinstance(content.get(part), dict):
            content = content[part]
            break
    tensors = content if isinstance(content, dict) else {}
    if not tensors or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in tensors.items()):
        raise UsageError(f"{file} holds no state dict (tensors by name); give a published checkpoint.")
    return tensors


def _read_pickled(file: Path) -> Any:
    """Names that are not torch's own become a class that does nothing: neither imported nor called."""
    inert: list[Any] = [(Ignored, name) for name in get_unsafe_globals_in_checkpoint(file)]
    with safe_globals(inert):
        return torch.load(file, weights_only=True, map_location="cpu", mmap=True)


def published_file(file: Path) -> Path:
    """The file itself. Raises UsageError if it is not there, or is none."""
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name the checkpoint in it.")
    if not file.is_file():
        raise UsageError(f"{file} is not there; `rdm models fetch` lists what is published, and downloads it.")
    return file


def check_names(file: Path, what: str, given: Iterable[str], needed: Iterable[str]) -> None:
    """Raise UsageError with every tensor that is missing or that nothing is known of."""
    missing, unexpected = sorted(set(needed) - set(given)), sorted(set(given) - set(needed))
    if missing or unexpected:
        raise UsageError(
            f"{file} is not a whole {what} or more than one: missing are {', '.join(missing) or 'none'}, unexpected "
            f"{', '.join(unexpected) or 'none'}; give the published checkpoint."
        )


def check_shapes(file: Path, given: Tensors, needed: Tensors) -> None:
    """Raise UsageError for a tensor of another shape than that of the same name in the network."""
    for name, tensor in given.items():
        if tensor.shape != needed[name].shape:
            raise UsageError(
                f"{file}: what becomes {name} has shape {tuple(tensor.shape)}, where {tuple(needed[name].shape)} is "
                "needed; give the published checkpoint, and declare its sizes."
            )


def check_dimensions(file: Path, tensors: Tensors, dimensions: dict[str, int]) -> None:
    """Raise UsageError for a tensor from which a size is to be read, and which has another number of dimensions."""
    for name, number in dimensions.items():
        if tensors[name].ndim != number or 0 in tensors[name].shape:
            raise UsageError(
                f"{file}: {name} has shape {tuple(tensors[name].shape)}, where {number} dimensions are needed; "
                "give the published checkpoint."
            )


def thirds(name: str) -> tuple[str, ...]:
    """The names that `{q,k,v}` in a name stands for: a tensor of theirs that holds three of ours; else the name."""
    return tuple(name.replace("{q,k,v}", letter) for letter in "qkv") if "{q,k,v}" in name else (name,)
