"""Apptainer or Docker: which of them is there, and what both need."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from rdm.containers import apptainer, oci
from rdm.devices import visible_gpus
from rdm.errors import RdmError
from rdm.provenance.files import file_digest
from rdm.provenance.image import LOCK

COUNT = "import torch; print(torch.cuda.device_count())"


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


def describe(engine: ModuleType, checkout: Path, image: str | None) -> dict[str, str | int | bool]:
    """What an image holds, whether it belongs to the checkout's lock, and how many GPUs are seen in it."""
    name, labels = engine.labels(checkout, image)
    facts = {key: value for key, value in labels.items() if "." not in key}  # the others are the engine's own
    facts["belongs to the present lock"] = labels.get("lock") == file_digest(checkout / LOCK)
    facts["GPUs here"] = visible_gpus()
    if facts["GPUs here"]:
        try:
            facts["GPUs seen in it"] = int(engine.output(checkout, name, ["python", "-c", COUNT]))
        except RdmError as error:
            facts["GPUs seen in it"] = f"cannot tell: {error}"
    return {"image": name, **facts}
