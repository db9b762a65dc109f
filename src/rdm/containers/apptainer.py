"""Images for Apptainer or Singularity: a file that an ordinary user builds and runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from rdm.containers import host
from rdm.devices import visible_gpus
from rdm.errors import ArtefactError, RdmError, UsageError
from rdm.provenance.files import whole_file
from rdm.provenance.image import DEFINITION, build_arguments, sif_file

# gzip, the default, takes ten times as long
COMPRESSION = {"APPTAINER_MKSQUASHFS_ARGS": "-comp zstd -Xcompression-level 3"}
# while an image is being built there is no place in it to bind anything to
FOR_JOBS = {f"{who}_{what}" for who in ("APPTAINER", "SINGULARITY") for what in ("BIND", "BINDPATH", "MOUNT", "NV")}


def program() -> str | None:
    """Where apptainer, or else singularity, is: the order in which Snakemake looks, too."""
    return shutil.which("apptainer") or shutil.which("singularity")


def job_environment(checkout: Path, *others: Path) -> dict[str, str]:
    """What the environment must hold for a command in the image to see the checkout, its rdm, `others`, and GPUs.

    Snakemake passes none of this on by itself, and the environment is the only way to tell it.
    """
    prefix = "SINGULARITY" if Path(program() or "apptainer").name == "singularity" else "APPTAINER"
    given = os.environ.get("APPTAINER_BIND") or os.environ.get("SINGULARITY_BIND") or ""
    _, *elsewhere = host.folders(checkout, *others)  # the working folder is always bound
    # each once: the jobs of a cluster come here a second time
    bound = dict.fromkeys([*filter(None, given.split(",")), *map(str, elsewhere)])
    return {
        **host.variables(),
        f"{prefix}ENV_PYTHONPATH": str(checkout / "src"),
        **({f"{prefix}_BIND": ",".join(bound)} if bound else {}),
        **({f"{prefix}_NV": "1"} if visible_gpus() else {}),
    }


def build(checkout: Path, given: Iterable[str], overwrite: bool) -> Path:
    """Build the image of this checkout, with these build arguments, unless it is there. Raises RdmError if it fails."""
    image, arguments = sif_file(checkout), build_arguments(checkout, DEFINITION, given)
    if image.exists() and not overwrite:
        return image
    options = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    environment = COMPRESSION | {name: value for name, value in os.environ.items() if name not in FOR_JOBS}
    with whole_file(image) as temporary:
        command = [str(program()), "build", *options, str(temporary), str(DEFINITION)]
        done = subprocess.run(command, cwd=checkout, env=environment, stdout=sys.stderr, check=False)
        if done.returncode:
            raise RdmError(
                f"{image} could not be built from {DEFINITION}: {Path(command[0]).name} ended with exit code "
                f"{done.returncode}; its last lines, above, say why."
            )
    return image


def labels(checkout: Path, image: str | None) -> tuple[str, dict[str, str]]:
    """An image, by default that of this checkout, and what its build wrote into it."""
    file = Path(image) if image else _built(checkout)
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file; name an image, or leave it out for that of this checkout.")
    done = subprocess.run(
        [str(program()), "inspect", "--json", "--labels", file], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RdmError(f"{file} is no image: {_last_line(done.stderr)}")
    return str(file), json.loads(done.stdout)["data"]["attributes"]["labels"]


def output(checkout: Path, image: str, command: list[str]) -> str:
    """What a command prints in an image; raises RdmError with its last line if it fails."""
    done = subprocess.run(
        _exec(image, command),
        env=os.environ | job_environment(checkout),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RdmError(_last_line(done.stderr))
    return done.stdout.strip()


def run(checkout: Path, command: list[str], folders: Iterable[Path]) -> None:
    """Become this command, in the image of this checkout; it sees these folders, too."""
    image = str(_built(checkout))
    os.execve(str(program()), _exec(image, command), os.environ | job_environment(checkout, *folders))


def _exec(image: str, command: list[str]) -> list[str]:
    # as Snakemake does it: the working folder is home, so that nothing of the user's own is read
    return [str(program()), "exec", "--home", str(Path.cwd()), image, *command]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it did not say why."])[-1].removeprefix("FATAL:").strip()


def _built(checkout: Path) -> Path:
    image = sif_file(checkout)
    if not image.exists():
        raise ArtefactError(f"{image} is not there yet; run `rdm container build` first.")
    return image
