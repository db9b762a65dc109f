"""What every way of scoring shares: settings, the extractor, opened items, and which samples a protocol admits."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from rdm.data.sources import Images, is_class_sorted, open_images, open_videos
from rdm.errors import UsageError
from rdm.params.performance import Precision
from rdm.params.protocol import Clips, Protocol
from rdm.provenance.files import digest
from rdm.score.clips import ClipItems, FrameItems
from rdm.score.extractors import Extractor, build_extractor
from rdm.score.reference import Reference

LIBRARIES = ("rdm", "torch", "torch-fidelity", "numpy", "scipy", "pillow", "av")


@dataclass(frozen=True)
class Settings:
    """What is no part of a protocol. weights: None downloads those that are published."""

    device: torch.device
    weights: Path | None = None
    precision: Precision = "float32"


def extractor_of(protocols: dict[str, Protocol], settings: Settings) -> Extractor:
    """The one extractor of all protocols. Raises UsageError if they need several."""
    kinds = {(protocol.extractor, protocol.weights) for protocol in protocols.values()}
    if len(kinds) > 1:
        names = ", ".join(f"{name}: {protocol.extractor}" for name, protocol in protocols.items())
        raise UsageError(f"These protocols need different extractors ({names}); compare those of one.")
    [(kind, expected)] = kinds
    return build_extractor(kind, settings.weights, settings.device, expected, settings.precision)


def open_items(
    path: Path, clips: Clips | None, side: Literal["reference", "samples"]
) -> Images | ClipItems | FrameItems:
    """Images, the clips of videos by their rule, or the frames of those. side: reference or samples."""
    if clips is None:
        return open_images(path)
    items = ClipItems(open_videos(path), clips, side)
    return FrameItems(items) if clips.as_frames else items


def check_admitted(where: str, count: int, labels: np.ndarray | None, protocol: Protocol, name: str) -> list[str]:
    """Remarks about samples of this number and labels; raises UsageError for those that a protocol does not admit."""
    needed, remarks = protocol.samples, []
    if count < needed:
        raise UsageError(
            f"{where} holds {count} samples, protocol {name!r} scores {needed}; make more, or --set samples={count}, "
            "which is another protocol."
        )
    if count > needed:
        remarks.append(f"the first {needed} of {count} samples")
    if labels is None:
        return remarks
    if is_class_sorted(labels):
        if protocol.order == "random" or count > needed:
            raise UsageError(f"{where} is sorted by class, and protocol {name!r} takes samples in order; shuffle them.")
        rule = protocol.inception_score
        if rule is not None and rule.shuffle_seed is None and rule.splits != 1:
            remarks.append("sorted by class: the Inception Score, taken in parts in this order, is too low")
    counts = np.unique(labels[:needed], return_counts=True)[1]
    if protocol.labels == "balanced" and (len(counts) == 1 or np.ptp(counts) > 1):
        raise UsageError(
            f"{where} has unequal numbers of samples per class; protocol {name!r} wants every class equally often."
        )
    return remarks


def describe(protocol: Protocol, name: str, extractor: Extractor, against: Reference) -> dict[str, Any]:
    """Everything about a result that is not a value: what was done, with what, in which precision."""
    rules = protocol.model_dump(mode="json")
    return {
        "protocol": {"name": name, "sha256": digest({"name": name, **rules}), **rules},
        "extractor": {"kind": extractor.kind, "sha256": extractor.digest},
        "precision": {"network": extractor.precision, "statistics": "float64", "mean": protocol.mean},
        "reference": against.facts,
        "device": extractor.device.type,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and the libraries that compute."""
    return {"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}}
