"""Apptainer or Docker: which of them is there, and what both need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from rdm.containers import apptainer, oci
from rdm.devices import visible_gpus
from rdm.errors import RdmError, UsageError, nearest
from rdm.provenance.files import file_digest
from rdm.provenance.image import LOCK


def choose(name: str | None) -> ModuleType:
    """The engine of this name (`apptainer`, `docker`), or the first that is there.

    Raises RdmError if it is not there.
    """
    if name == "docker" or (name is None and not apptainer.program() and oci.answers()):
        return oci
    if apptainer.program():
        return apptainer
    if name:
        raise RdmError("Neither apptainer nor singularity is on PATH; install one of them, or try `--engine docker`.")
    raise RdmError(
        "Neither apptainer nor singularity is on PATH, and no Docker daemon answers; install Apptainer, "
        "or go without a container: `make reproduce`."
    )


def build_arguments(given: Iterable[str], definition: Path) -> dict[str, str]:
    """NAME=VALUE, each a build argument that the definition has. Raises UsageError otherwise."""
    known = set(re.findall(r"(?:\{\{ |^ARG )(\w+)", definition.read_text(encoding="utf-8"), re.MULTILINE))
    arguments = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        if not (equals and value):
            raise UsageError(f"--build-arg {argument}: write NAME=VALUE.")
        if name not in known:
            raise UsageError(f"--build-arg {argument}: {definition} has no {name!r}; {nearest(name, known)}")
        arguments[name] = value
    return arguments


def describe(engine: ModuleType, checkout: Path, image: str | None) -> dict[str, str | int | bool]:
    """What an image holds, whether it belongs to the checkout's lock, and how many GPUs are seen in it."""
    name, labels = engine.labels(checkout, image)
    facts = {key: value for key, value in labels.items() if "." not in key}  # the others are the engine's own
    facts["belongs to the present lock"] = labels.get("lock") == file_digest(checkout / LOCK)
    facts["GPUs here"] = visible_gpus()
    command = ["python", "-c", "import torch; print(torch.cuda.device_count())"]
    facts["GPUs seen in it"] = engine.output(checkout, name, command) if facts["GPUs here"] else 0
    return {"image": name, **facts}
