"""`rdm score SAMPLES --against REFERENCE`: any pair of sources, under one protocol or several."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rdm.data.sources import Images
from rdm.errors import UsageError
from rdm.params.protocol import Protocol
from rdm.score import parts, reference
from rdm.score.clips import ClipItems
from rdm.score.evaluate import evaluate, remarks_on
from rdm.score.extractors import Extractor
from rdm.score.features import Layers, extract, preparation
from rdm.score.inputs import Settings, check_admitted, describe, extractor_of, open_items
from rdm.score.reference import Reference

T = TypeVar("T")


def score_pair(
    samples: Path, against: Path, protocols: dict[str, Protocol], settings: Settings
) -> list[dict[str, Any]]:
    """Score the samples against the reference; one result for each protocol, as `report.render` shows it.

    samples: whatever `open_images` or `open_videos` read, or a folder of `rdm score features`.
    against: the same, or a statistics file. All items of the reference count, whatever the protocol's n.
    Raises UsageError, before any work where that is possible, for what a protocol does not admit.
    """
    started = time.monotonic()
    remarks = {name: _check_samples(samples, against, protocol, name) for name, protocol in protocols.items()}
    extractor = extractor_of(protocols, settings)
    references = _by_clips(protocols, lambda group: references_of(against, group, extractor))
    layers = _by_clips(protocols, lambda group: _layers_of(samples, group, extractor))
    results = []
    for name, protocol in protocols.items():
        features, labels, facts = layers[name]
        estimates = evaluate(protocol, references[name], features, labels, settings.device)
        results.append(
            {
                **describe(protocol, name, extractor, references[name]),
                "values": {metric: estimate.as_dict() for metric, estimate in estimates.items()},
                "samples": facts,
                "remarks": remarks[name] + remarks_on(protocol, features),
                "seconds": round(time.monotonic() - started, 3),
            }
        )
    return results


def _check_samples(path: Path, against: Path, protocol: Protocol, name: str) -> list[str]:
    """Remarks about samples; raises UsageError for those that the protocol does not admit."""
    source = _open(path, protocol)
    remarks = check_admitted(str(path), source.shape[0], source.labels, protocol, name)
    if isinstance(source, parts.Parts) or reference.is_statistics(against):
        return remarks
    other = open_items(against, protocol.clips, "reference")
    if other.shape[1:-1] != source.shape[1:-1]:
        pair = ((against, other), (path, source))
        sizes = [f"{where} holds items of {'x'.join(map(str, items.shape[1:-1]))}" for where, items in pair]
        if protocol.extractor == "classifier":
            raise UsageError(f"{', '.join(sizes)}; scale one of them, the {protocol.extractor} takes them as they are.")
        remarks.append(", ".join(sizes))
    return remarks


def references_of(against: Path, protocols: dict[str, Protocol], extractor: Extractor) -> dict[str, Reference]:
    """The reference of each protocol; all must have the same clips."""
    if not reference.is_statistics(against):
        [clips] = {protocol.clips for protocol in protocols.values()}
        items = open_items(against, clips, "reference")
        facts = {"path": str(against), "sha256": items.digest}
        return dict(zip(protocols, reference.measure(items, list(protocols.values()), extractor, facts), strict=True))
    found = {name: reference.load(against, protocol, name, extractor) for name, protocol in protocols.items()}
    return {name: reference.with_images(found[name], against, protocols[name], extractor) for name in found}


def _layers_of(
    path: Path, protocols: dict[str, Protocol], extractor: Extractor
) -> dict[str, tuple[Layers, np.ndarray | None, dict[str, Any]]]:
    """Features, labels and facts of the samples for each protocol; all must have the same clips."""
    source = _open(path, next(iter(protocols.values())))
    ways = list(dict.fromkeys(protocol.pixels for protocol in protocols.values()))
    if isinstance(source, parts.Parts):
        for name, protocol in protocols.items():
            source.check(preparation(protocol, "samples", extractor), name)
        found = [source.layers()]
    else:
        found = extract(source, extractor, ways, 0, max(p.samples for p in protocols.values()), "samples")
    cut = {}
    for name, protocol in protocols.items():
        whole = found[ways.index(protocol.pixels)]
        layers = {layer: values[: protocol.samples] for layer, values in whole.items()}
        labels = None if source.labels is None else source.labels[: protocol.samples]
        cut[name] = (layers, labels, {"path": str(path), "sha256": source.digest, "items": protocol.samples})
    return cut


def _open(path: Path, protocol: Protocol) -> parts.Parts | Images | ClipItems:
    return parts.open_parts(path) if parts.is_parts(path) else open_items(path, protocol.clips, "samples")


def _by_clips(protocols: dict[str, Protocol], work: Callable[[dict[str, Protocol]], dict[str, T]]) -> dict[str, T]:
    """Do `work` once for all protocols that see the same clips (or images)."""
    done: dict[str, T] = {}
    for clips in dict.fromkeys(protocol.clips for protocol in protocols.values()):
        done |= work({name: protocol for name, protocol in protocols.items() if protocol.clips == clips})
    return done
