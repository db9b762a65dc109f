"""Images for Docker, through its daemon."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]
from docker.types import DeviceRequest  # type: ignore[import-untyped]

from rdm.containers import host
from rdm.devices import visible_gpus
from rdm.errors import ArtefactError, RdmError
from rdm.provenance.files import file_digest
from rdm.provenance.image import DOCKERFILE, LOCK, build_arguments, oci_tag

FORBIDDEN = "join the group `docker`, name a rootless daemon's socket in DOCKER_HOST"


def answers() -> bool:
    """Whether a Docker daemon can be asked."""
    try:
        with _daemon():
            return True
    except RdmError:
        return False


def build(checkout: Path, given: Iterable[str], overwrite: bool) -> str:
    """Build the image of this checkout, with these build arguments, unless it is there. Raises RdmError if it fails."""
    tag, arguments = oci_tag(checkout), build_arguments(checkout, DOCKERFILE, given)
    with _daemon() as daemon:
        if not overwrite and daemon.images.list(tag):
            return tag
        steps = daemon.api.build(
            fileobj=_context(checkout),
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
    tag = image or oci_tag(checkout)
    with _daemon() as daemon:
        return tag, _get(daemon, tag).labels


def output(checkout: Path, image: str, command: list[str]) -> str:
    """What a command prints in an image; raises RdmError if it fails."""
    with _daemon() as daemon:
        settings = _settings(daemon, checkout)
        return str(daemon.containers.run(image, command, remove=True, **settings).decode()).strip()


def run(checkout: Path, command: list[str], folders: Iterable[Path]) -> None:
    """Run this command in the image of this checkout, and exit as it exits; it sees these folders, too."""
    with _daemon() as daemon:
        image = _get(daemon, oci_tag(checkout))  # or the daemon would look for it on the net
        container = daemon.containers.create(image, command, **_settings(daemon, checkout, *folders))
        try:
            printed = container.attach(stream=True, logs=True, demux=True)
            container.start()
            with _signals_to(container):
                for out, err in printed:
                    sys.stdout.buffer.write(out or b"")
                    sys.stdout.flush()
                    sys.stderr.buffer.write(err or b"")
                    sys.stderr.flush()
                sys.exit(container.wait()["StatusCode"])
        finally:
            container.remove(force=True)


@contextmanager
def _signals_to(container: Any) -> Iterator[None]:
    """What asks this process to stop asks the container's instead: a training there saves its state first."""

    def pass_on(number: int, _: Any) -> None:
        with suppress(DockerException):  # it has just ended
            container.kill(signal=number)

    usual = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _settings(daemon: Any, checkout: Path, *folders: Path) -> dict[str, Any]:
    """As Apptainer does it: the caller's own user, nothing written into the image, the working folder as home.

    /tmp is the host's: there lie the locks by which processes share GPUs, in containers and outside.
    """
    here = str(Path.cwd())
    chosen = {name: value for name, value in os.environ.items() if name.startswith(("RDM_", "CUDA_", "OMP_"))}
    return {
        "user": _caller(daemon),
        "working_dir": here,
        "volumes": [*(f"{at}:{at}:rw" for at in host.folders(checkout, *folders)), f"{tempfile.gettempdir()}:/tmp:rw"],
        "environment": {**chosen, **host.variables(), "PYTHONPATH": str(checkout / "src"), "HOME": here},
        "read_only": True,
        "init": True,  # as process 1 a command would ignore signals that it does not handle
        "ipc_mode": "host",  # processes that share tensors
        "device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])] if visible_gpus() else [],
    }


def _caller(daemon: Any) -> str:
    """The caller's user and group as a container knows them: where Docker runs without root, they are root there."""
    rootless = "name=rootless" in (daemon.info().get("SecurityOptions") or [])
    return "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"


def _context(checkout: Path) -> io.BytesIO:
    """The two files that the image is built from, and none of the checkout's results."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name in (LOCK, DOCKERFILE):
            archive.add(checkout / name, str(name))
    context.seek(0)
    return context


@contextmanager
def _daemon() -> Iterator[Any]:
    """Docker's daemon; what it objects to becomes one sentence."""
    try:
        daemon = docker.from_env()
    except DockerException as error:
        where = os.environ.get("DOCKER_HOST", "its socket")
        found = re.search("No such file or directory|Connection refused|Permission denied", str(error))
        reason = found[0] if found else str(error)
        remedy = FORBIDDEN if reason == "Permission denied" else "start one"
        raise RdmError(
            f"No Docker daemon answers at {where} ({reason}); {remedy}, or use `--engine apptainer`."
        ) from None
    try:
        yield daemon
    except DockerException as error:
        raise RdmError(f"Docker: {getattr(error, 'explanation', None) or error}") from None
    finally:
        daemon.close()


def _get(daemon: Any, tag: str) -> Any:
    try:
        return daemon.images.get(tag)
    except ImageNotFound:
        raise ArtefactError(
            f"Docker has no image {tag} yet; run `rdm container build --engine docker` first."
        ) from None
