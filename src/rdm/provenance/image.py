"""The container image that belongs to a checkout: its name carries a digest of what it is built from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from rdm.errors import UsageError, nearest
from rdm.provenance.code import PACKAGE

CHECKOUT = PACKAGE.parents[1]
LOCK = Path("requirements.lock")
DEFINITION = Path("containers/rdm.def")
DOCKERFILE = Path("containers/Dockerfile")


def sif_file(checkout: Path) -> Path:
    """Apptainer's image of this checkout. Raises UsageError if it is no checkout."""
    return checkout / "containers" / f"rdm-{_digest(checkout, DEFINITION)}.sif"


def oci_tag(checkout: Path) -> str:
    """Docker's image of this checkout. Raises UsageError if it is no checkout."""
    return f"rdm:{_digest(checkout, DOCKERFILE)}"


def build_arguments(checkout: Path, definition: Path, given: Iterable[str]) -> dict[str, str]:
    """Parse NAME=VALUE, each a build argument that the definition has. Raises UsageError if it has not."""
    known = set(re.findall(r"(?:\{\{ |^ARG )(\w+)", _read(checkout, definition).decode(), re.MULTILINE))
    arguments = {}
    for argument in given:
        name, _, value = argument.partition("=")
        if not value:
            raise UsageError(f"--build-arg {argument}: write NAME=VALUE.")
        if name not in known:
            raise UsageError(f"--build-arg {argument}: {definition} has no {name!r}; {nearest(name, known)}")
        arguments[name] = value
    return arguments


def _digest(checkout: Path, definition: Path) -> str:
    return hashlib.sha256(_read(checkout, LOCK) + _read(checkout, definition)).hexdigest()[:12]


def _read(checkout: Path, name: Path) -> bytes:
    try:
        return (checkout / name).read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{checkout / name} is not there; images belong to a checkout of rdm: install one by `make env`."
        ) from None
