"""The container image that belongs to a checkout: its name carries a digest of everything that it is built from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rdm.errors import UsageError
from rdm.provenance.code import PACKAGE

CHECKOUT = PACKAGE.parents[1]
LOCK = Path("requirements.lock")
DEFINITION = Path("containers/rdm.def")
DOCKERFILE = Path("containers/Dockerfile")


def image_digest(checkout: Path, definition: Path) -> str:
    """12 hexadecimal digits of the sha256 over the lock and a definition, both looked for in `checkout`.

    Raises UsageError where they are not there.
    """
    content = hashlib.sha256()
    for name in (LOCK, definition):
        try:
            content.update((checkout / name).read_bytes())
        except FileNotFoundError:
            raise UsageError(
                f"{checkout / name} is not there; images are built from a checkout of rdm: install one by `make env`."
            ) from None
    return content.hexdigest()[:12]


def sif_file(checkout: Path) -> Path:
    """Apptainer's image of this checkout."""
    return checkout / "containers" / f"rdm-{image_digest(checkout, DEFINITION)}.sif"


def oci_tag(checkout: Path) -> str:
    """Docker's image of this checkout."""
    return f"rdm:{image_digest(checkout, DOCKERFILE)}"
