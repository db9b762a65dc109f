"""`rdm score reference`: build, import, explain and verify reference files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rdm.errors import RdmError, UsageError
from rdm.score import reference
from rdm.score.foreign import read_statistics
from rdm.score.frechet import frechet_distance, root_of
from rdm.score.inputs import Settings, extractor_of, versions
from rdm.score.pair import Protocols, references_of

AGREES = 1e-6  # of the covariance's trace: other batches, kernels and machines move features by some 1e-7

Row = dict[str, Any]


def build(items: Path, out: Path, protocols: Protocols, settings: Settings) -> Path:
    """Measure images, videos or a folder of `rdm score features`, and write the reference of one protocol.

    Returns its file. Raises UsageError for a file of statistics.
    """
    if reference.is_statistics(items):
        raise UsageError(f"{items} holds statistics already; take them over with `rdm score reference import`.")
    return _write(items, out, protocols, settings)


def convert(file: Path, out: Path, protocols: Protocols, settings: Settings) -> Path:
    """Import another evaluator's statistics, and features of the images beside them; returns the new file.

    Raises UsageError for a file that holds no statistics, or not those that the protocol compares.
    """
    if not reference.is_statistics(file):
        raise UsageError(f"{file} holds no statistics; measure its items with `rdm score reference build`.")
    return _write(file, out, protocols, settings)


def _write(source: Path, out: Path, protocols: Protocols, settings: Settings) -> Path:
    extractor = extractor_of(protocols, settings)
    [protocol] = protocols.values()
    [found] = references_of(source, protocols, extractor).values()
    return reference.save(out, found, protocol, extractor, versions())


def explain(file: Path) -> list[Row]:
    """What a statistics file holds, as rows of `what` and `value`."""
    foreign = read_statistics(file)
    said = reference.about(file)
    rows = {"format": "rdm score reference" if said else foreign.format}
    for layer, moments in foreign.layers.items():
        count = said["counts"][layer] if said else moments.count
        rows[layer] = (
            f"d = {moments.dimension}, n = {count or 'not said'}, rank {root_of(moments).shape[1]}, "
            f"|mean| {np.linalg.norm(moments.mean):.6g}, trace {np.trace(moments.covariance):.6g}"
        )
    rows["images"] = "beside the statistics, for precision and recall" if foreign.images else "none"
    if said:
        rows |= {"features": said["features"], "mean": said["mean"], "ddof": said["ddof"]}
        for section in ("facts", "preparation", "versions"):
            rows |= {f"{section}: {key}": value for key, value in said[section].items() if value is not None}
    elif foreign.note:
        rows["remark"] = foreign.note
    return [{"what": what, "value": str(value)} for what, value in rows.items()]


def verify(file: Path, items: Path, protocols: Protocols, settings: Settings) -> list[Row]:
    """Measure items again, and compare: one row for each layer, with the Fréchet distance between file and items."""
    [(name, protocol)] = protocols.items()
    extractor = extractor_of(protocols, settings)
    there = reference.load(file, protocol, name, extractor)
    [here] = references_of(items, protocols, extractor).values()
    rows = []
    for layer, moments in here.moments.items():
        distance = frechet_distance(moments, there.moments[layer])
        relative = distance / np.trace(moments.covariance)
        agrees = bool(relative < AGREES)
        rows.append(
            {"layer": layer, "distance": f"{distance:.3g}", "of the trace": f"{relative:.2g}", "agrees": agrees}
        )
    return rows


def require_agreement(rows: list[Row]) -> None:
    """Raise RdmError that names the layers, or metrics, which do not agree."""
    wrong = [str(next(iter(row.values()))) for row in rows if not row["agrees"]]
    if wrong:
        raise RdmError(
            f"{', '.join(wrong)} do not agree; look at the items, the weights, the versions and the precision."
        )
