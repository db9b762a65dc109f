"""`rdm score SAMPLES --against REFERENCE`: any pair of sources, under one protocol or several."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rdm.data.sources import Images
from rdm.errors import UsageError
from rdm.params.protocol import Clips, Protocol
from rdm.provenance.files import file_digest
from rdm.score import parts, reference
from rdm.score.clips import ClipItems, FrameItems
from rdm.score.evaluate import evaluate, remarks_on
from rdm.score.extractors import Extractor
from rdm.score.features import Layers, extract, layers_of, preparation
from rdm.score.inputs import Settings, check_admitted, describe, extractor_of, open_items
from rdm.score.reference import Reference, ways_of

Protocols = dict[str, Protocol]
Side = Literal["reference", "samples"]
Source = parts.Parts | Images | ClipItems | FrameItems
RANDOM = "errors are those of random labels"
UNLIKE = f"labels are not in the reference's proportions, as the protocol says: {RANDOM}"
UNKNOWN = f"the reference's labels are unknown, whose proportions the protocol asks for: {RANDOM}"


def score_pair(samples: Path, against: Path, protocols: Protocols, settings: Settings) -> list[dict[str, Any]]:
    """Score the samples against the reference; one result for each protocol, as `report.render` shows it.

    samples: whatever `open_images` or `open_videos` read, or a folder of `rdm score features`.
    against: the same, or a statistics file. All items of the reference count, whatever the protocol's n.
    Raises UsageError, before any work where that is possible, for what a protocol does not admit.
    """
    started = time.monotonic()
    sources = {clips: _open(samples, clips, "samples") for clips in {p.clips: None for p in protocols.values()}}
    remarks = {name: _check(sources[p.clips], against, p, name) for name, p in protocols.items()}
    dealt = {name: _random(p) if {UNLIKE, UNKNOWN} & {*remarks[name]} else p for name, p in protocols.items()}
    extractor = extractor_of(protocols, settings)
    results = []
    for clips, source in sources.items():  # protocols that see the same clips, or images, share a pass
        group = {name: protocol for name, protocol in protocols.items() if protocol.clips == clips}
        references = references_of(against, group, extractor)
        layers = _features_of(source, group, extractor)
        for name, protocol in group.items():
            found = {layer: values[: protocol.samples * protocol.frames] for layer, values in layers[name].items()}
            labels = None if source.labels is None else source.labels[: protocol.samples]
            estimates = evaluate(dealt[name], references[name], found, labels, settings.device)
            results.append(
                {
                    **describe(protocol, name, extractor, references[name]),
                    "values": {metric: estimate.as_dict() for metric, estimate in estimates.items()},
                    "samples": {"path": str(samples), "sha256": source.digest, "items": protocol.samples},
                    "remarks": remarks[name] + remarks_on(protocol, found, labels),
                }
            )
    seconds = round(time.monotonic() - started, 3)
    results.sort(key=lambda result: list(protocols).index(result["protocol"]["name"]))
    return [{**result, "seconds": seconds} for result in results]


def _check(source: Source, against: Path, protocol: Protocol, name: str) -> list[str]:
    """Remarks about samples; raises UsageError for those that the protocol does not admit."""
    remarks = check_admitted(str(source.path), source.shape[0] // protocol.frames, source.labels, protocol, name)
    if reference.is_statistics(against):
        return remarks + of_labels(protocol, source.labels, reference.labels_in(against))
    other = _open(against, protocol.clips, "reference")
    remarks += of_labels(protocol, source.labels, other.labels)
    if other.shape[1:-1] != source.shape[1:-1]:
        pair = [f"{s.path} holds items of {'x'.join(map(str, s.shape[1:-1]))}" for s in (other, source)]
        if protocol.extractor == "classifier":
            raise UsageError(f"{', '.join(pair)}; scale one of them, the {protocol.extractor} takes them as they are.")
        if protocol.clips is not None and _aspect(other) != _aspect(source):  # both would be stretched to one square
            raise UsageError(
                f"{', '.join(pair)}: frames of another aspect; crop them alike first, as the samples were."
            )
        remarks.append(", ".join(pair))
    return remarks


def of_labels(protocol: Protocol, labels: np.ndarray | None, real: np.ndarray | None) -> list[str]:
    """UNLIKE, if the protocol deals labels as the reference's and these are not, to within one of each class.

    labels: of the samples; of None, which are not known, `remarks_on` tells. real: of the reference; None: UNKNOWN.
    """
    if protocol.labels != "reference" or labels is None:
        return []
    if real is None:
        return [UNKNOWN]
    count = protocol.samples
    classes = np.union1d(labels[:count], real)
    sides = [np.searchsorted(classes, given) for given in (labels[:count], real)]
    own, theirs = (np.bincount(side, minlength=len(classes)) / len(side) for side in sides)
    return [] if np.abs(own - theirs).max() * count <= 1 + 1e-9 else [UNLIKE]


def _random(protocol: Protocol) -> Protocol:
    return protocol.model_copy(update={"labels": "random"})


def _aspect(items: Source) -> Fraction:
    """Width by height."""
    height, width = items.shape[-3:-1]
    return Fraction(width, height)


def digest_of(against: Path, clips: Clips | None) -> str:
    """sha256 of a reference, without a look at its features."""
    return file_digest(against) if reference.is_statistics(against) else _open(against, clips, "reference").digest


def references_of(against: Path, protocols: Protocols, extractor: Extractor) -> dict[str, Reference]:
    """The reference of each protocol; all must have the same clips."""
    if reference.is_statistics(against):
        found = {name: reference.load(against, protocol, name, extractor) for name, protocol in protocols.items()}
        return {name: reference.with_images(found[name], against, protocols[name], extractor) for name in found}
    [clips] = {protocol.clips for protocol in protocols.values()}
    source, ordered = _open(against, clips, "reference"), list(protocols.values())
    facts = {"path": str(against), "sha256": source.digest}
    if isinstance(source, parts.Parts):
        if clips is not None:
            raise UsageError(
                f"{against} holds features of clips that were chosen as samples are, the reference's are by a rule of "
                "their own; give the videos, or a file of `rdm score reference`."
            )
        for name, protocol in protocols.items():
            source.check(preparation(protocol, "reference", extractor), reference.moments_of(protocol), name)
        measured = reference.measure(source.batches(), source.shape[0], ordered, facts)
    else:
        measured = reference.measure_items(source, ordered, extractor, facts)
    return dict(zip(protocols, (replace(found, labels=source.labels) for found in measured), strict=True))


def _features_of(source: Source, protocols: Protocols, extractor: Extractor) -> dict[str, Layers]:
    """The layers of the samples for each protocol; all must have the same clips."""
    if isinstance(source, parts.Parts):
        for name, protocol in protocols.items():
            source.check(preparation(protocol, "samples", extractor), layers_of([protocol]), name)
        return dict.fromkeys(protocols, source.layers())
    ways, most = ways_of(protocols.values()), max(protocol.samples * protocol.frames for protocol in protocols.values())
    found = extract(source, extractor, ways, layers_of(protocols.values()), 0, most, "samples")
    return {name: found[ways.index(protocol.pixels)] for name, protocol in protocols.items()}


def _open(path: Path, clips: Clips | None, side: Side) -> Source:
    return parts.open_parts(path) if parts.is_parts(path) else open_items(path, clips, side)
