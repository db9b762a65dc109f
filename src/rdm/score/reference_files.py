"""`rdm score reference`: build, import, explain and verify reference files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rdm.errors import RdmError, UsageError
from rdm.params.protocol import Protocol
from rdm.score import pair, reference
from rdm.score.foreign import read_statistics
from rdm.score.frechet import frechet_distance, root_of
from rdm.score.inputs import Settings, extractor_of, open_items, versions

AGREES = 1e-6  # of the covariance's trace: other batches, kernels and machines move features by some 1e-7

Row = dict[str, Any]


def build(items: Path, out: Path, protocols: dict[str, Protocol], settings: Settings) -> Path:
    """Measure images or videos and write the reference of one protocol; returns its file."""
    [protocol] = protocols.values()
    source = open_items(items, protocol.clips, "reference")
    extractor = extractor_of(protocols, settings)
    facts = {"path": str(items), "sha256": source.digest}
    [measured] = reference.measure_items(source, [protocol], extractor, facts)
    return reference.save(out, measured, protocol, extractor, versions())


def convert(file: Path, out: Path, protocols: dict[str, Protocol], settings: Settings) -> Path:
    """Import another evaluator's statistics, and features of the images beside them; returns the new file.

    Raises UsageError for a file that holds no statistics, or not those that the protocol compares.
    """
    if not reference.is_statistics(file):
        raise UsageError(f"{file} holds no statistics; measure its items with `rdm score reference build`.")
    [protocol] = protocols.values()
    extractor = extractor_of(protocols, settings)
    [found] = pair.references_of(file, protocols, extractor).values()
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


def verify(file: Path, items: Path, protocols: dict[str, Protocol], settings: Settings) -> list[Row]:
    """Measure items again, and compare: one row for each layer, with the Fréchet distance between file and items."""
    [(name, protocol)] = protocols.items()
    source = open_items(items, protocol.clips, "reference")
    extractor = extractor_of(protocols, settings)
    there = reference.load(file, protocol, name, extractor)
    [here] = reference.measure_items(source, [protocol], extractor, {})
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
