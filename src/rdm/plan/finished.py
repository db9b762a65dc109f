"""What finished jobs took, beside what a plan makes of them."""

from __future__ import annotations

import json
from pathlib import Path

from rdm import paths
from rdm.errors import ArtefactError


def seconds_of(path: Path) -> float:
    """Seconds of a finished artefact; of figures they are not written down, and of a table beside its CSV.

    Raises ArtefactError where the file that says them is damaged.
    """
    written = paths.note(path) if path.suffix in (".csv", ".json") else path / paths.MANIFEST
    if not written.is_file():
        return 0.0
    try:
        return float(json.loads(written.read_text(encoding="utf-8"))["seconds"])
    except (ValueError, KeyError, TypeError):
        raise ArtefactError(f"{written} is damaged; remove {path}, and make it again.") from None
