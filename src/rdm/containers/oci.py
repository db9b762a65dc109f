"""Images for Docker, through its daemon."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]

from rdm.devices import visible_gpus
from rdm.errors import ArtefactError, RdmError
from rdm.provenance.files import file_digest
from rdm.provenance.image import DOCKERFILE, LOCK, oci_tag

DEFINITION = DOCKERFILE
VISIBLE = "CUDA_VISIBLE_DEVICES"


def answers() -> bool:
    """Whether a Docker daemon can be asked."""
    try:
        _daemon()
    except RdmError:
        return False
    return True


def build(checkout: Path, arguments: dict[str, str], overwrite: bool) -> str:
    """Build the image of this checkout, unless it is there. Raises RdmError if that fails."""
    daemon, tag = _daemon(), oci_tag(checkout)
    if not overwrite and _find(daemon, tag):
        return tag
    context = io.BytesIO()  # these two files, not the checkout with all its results
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name in (LOCK, DOCKERFILE):
            archive.add(checkout / name, str(name))
    context.seek(0)
    steps = daemon.api.build(
        fileobj=context,
        custom_context=True,
        dockerfile=str(DOCKERFILE),
        tag=tag,
        buildargs={"LOCK": file_digest(checkout / LOCK), **arguments},
        rm=True,
        decode=True,
    )
    for step in steps:
        if "error" in step:
            raise RdmError(f"{tag} could not be built from {DOCKERFILE}: {step['error'].strip()}")
        print(step.get("stream", ""), end="", file=sys.stderr)
    return tag


def labels(checkout: Path, image: str | None) -> tuple[str, dict[str, str]]:
    """An image, by default that of this checkout, and what its build wrote into it."""
    daemon, tag = _daemon(), image or oci_tag(checkout)
    found = _find(daemon, tag)
    if not found:
        raise _missing(tag)
    return tag, found.labels


def output(checkout: Path, image: str, command: list[str]) -> str:
    """What a command prints in an image; raises RdmError with its last line if it fails."""
    try:
        printed = _daemon().containers.run(image, command, remove=True, **_settings(checkout))
    except DockerException as error:
        raise RdmError(str(error)) from None
    return str(printed.decode()).strip()


def run(checkout: Path, command: list[str]) -> None:
    """Run this command in the image of this checkout, and end as it ends."""
    daemon, tag = _daemon(), oci_tag(checkout)
    if not _find(daemon, tag):  # or the daemon would look for it on the net
        raise _missing(tag)
    container = daemon.containers.create(tag, command, **_settings(checkout))
    try:
        printed = container.attach(stream=True, logs=True, demux=True)
        container.start()
        for out, err in printed:
            sys.stdout.buffer.write(out or b"")
            sys.stderr.buffer.write(err or b"")
            sys.stdout.flush()
        sys.exit(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def _settings(checkout: Path) -> dict[str, Any]:
    """As Apptainer does it: the caller's own user, no writing into the image, the working folder is home."""
    here = str(Path.cwd())
    passed = {name: value for name, value in os.environ.items() if name.startswith("RDM_") or name == VISIBLE}
    gpus = [docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])] if visible_gpus() else []
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "working_dir": here,
        "volumes": {folder: {"bind": folder, "mode": "rw"} for folder in (str(checkout), here)},
        "environment": {**passed, "PYTHONPATH": str(checkout / "src"), "HOME": here},
        "read_only": True,
        "tmpfs": {"/tmp": ""},
        "ipc_mode": "host",
        "device_requests": gpus,
    }


def _daemon() -> Any:
    try:
        daemon = docker.from_env()
        daemon.ping()
    except DockerException as error:
        raise RdmError(f"No Docker daemon answers ({error}); start it, or try `--engine apptainer`.") from None
    return daemon


def _find(daemon: Any, tag: str) -> Any:
    try:
        return daemon.images.get(tag)
    except ImageNotFound:
        return None


def _missing(tag: str) -> RdmError:
    return ArtefactError(f"The image {tag} is not there yet; run `rdm container build --engine docker` first.")
