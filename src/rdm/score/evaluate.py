"""Every metric of a protocol from one set of features, each with its error bar."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from rdm.errors import RdmError, UsageError
from rdm.params.protocol import Protocol
from rdm.score.features import Layers
from rdm.score.frechet import bias_corrected, frechet_distance, in_blocks, standard_error
from rdm.score.inception_score import inception_score
from rdm.score.kernel import kernel_distance
from rdm.score.neighbours import precision_recall
from rdm.score.reference import Reference, evenly, moments_of
from rdm.score.statistics import FeatureStatistics

BLOCKS = 10  # of the jackknife
ENOUGH = 2  # items for each dimension, for its bias to be corrected


@dataclass(frozen=True)
class Estimate:
    """One metric.

    standard_error: from the sampling of the samples alone: the reference is fixed, and so is the trained network. Of
        precision and recall it is binomial: for fixed manifolds, from the points that are tested against them.
    bias_corrected: without the bias of order 1/n, where there is one.
    spread: over splits or subsets, as evaluators print it; not an error of the value.
    dimension: of the features.
    """

    value: float
    standard_error: float
    dimension: int
    bias_corrected: float | None = None
    spread: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def evaluate(
    protocol: Protocol, reference: Reference, layers: Layers, labels: np.ndarray | None, device: torch.device
) -> dict[str, Estimate]:
    """The protocol's metrics of features: layer name -> float32 (n, d).

    labels: int64 (n,), one for each sample. Where the protocol deals them in fixed proportions, errors and bias
        corrections take that into account.
    Raises UsageError if the reference lacks what a metric needs, RdmError for a value that is not finite.
    """
    strata = None if protocol.labels == "random" else labels
    clips = protocol.clips is not None and not protocol.clips.as_frames
    estimates = {"fvd" if clips else "fid": _frechet(protocol, reference, layers["pool"], "pool", strata)}
    if protocol.sfid:
        estimates["sfid"] = _frechet(protocol, reference, layers["spatial"], "spatial", strata)
    if protocol.precision_recall is not None:
        rule = protocol.precision_recall
        real = _items(reference)
        real = real[evenly(len(real), rule.reference)]
        found = precision_recall(real, layers["pool"], rule.k, rule.half, device)
        counts = {"precision": len(layers["pool"]), "recall": len(real)}
        for name, count in counts.items():
            share = getattr(found, name)
            estimates[name] = Estimate(share, _binomial_error(share, count), layers["pool"].shape[1])
    if protocol.kernel_distance is not None:
        kernel = kernel_distance(
            _items(reference), layers["pool"], **protocol.kernel_distance.model_dump(), strata=strata
        )
        dimension = layers["pool"].shape[1]
        estimates["kid"] = Estimate(kernel.value, kernel.standard_error, dimension, spread=kernel.spread)
    return _finite(estimates) | evaluate_alone(protocol, layers, labels)


def evaluate_alone(protocol: Protocol, layers: Layers, labels: np.ndarray | None) -> dict[str, Estimate]:
    """The protocol's metrics that need no reference, of features and labels as in `evaluate`."""
    strata, estimates = None if protocol.labels == "random" else labels, {}
    if protocol.inception_score is not None:
        score = inception_score(layers["logits"], **protocol.inception_score.model_dump(), strata=strata)
        classes = layers["logits"].shape[1]
        estimates["is"] = Estimate(score.value, score.standard_error, classes, score.bias_corrected, score.spread)
    if protocol.extractor == "classifier" and "logits" in layers:
        estimates |= _seen(layers["logits"], labels, protocol.frames)
    return _finite(estimates)


def _finite(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    for metric, estimate in estimates.items():
        if not np.isfinite([estimate.value, estimate.standard_error]).all():
            raise RdmError(f"{metric} is {estimate.value} ± {estimate.standard_error}; look at the samples.")
    return estimates


def _frechet(
    protocol: Protocol, reference: Reference, features: np.ndarray, layer: str, strata: np.ndarray | None
) -> Estimate:
    other = reference.moments[layer]
    statistics = FeatureStatistics.of(features)
    own = statistics.moments(protocol.ddof, protocol.mean)
    enough = len(features) // protocol.frames >= ENOUGH * statistics.dimension  # frames of a clip may be alike
    blocks = in_blocks(features, BLOCKS, strata, protocol.frames) if enough else []
    return Estimate(
        value=frechet_distance(own, other),
        standard_error=standard_error(features, own, other, strata, protocol.frames),
        dimension=statistics.dimension,
        bias_corrected=bias_corrected(blocks, other, protocol.ddof) if enough else None,
    )


def _seen(logits: np.ndarray, labels: np.ndarray | None, frames: int) -> dict[str, Estimate]:
    """What a classifier sees.

    accuracy: how often the label asked for, if there are several. identity: of clips that are seen frame by frame, the
    share in which nine tenths of the frames or more are of one class.
    """
    seen, classes = logits.argmax(1).reshape(-1, frames), logits.shape[1]
    shares = {}
    if frames > 1:
        most = (seen[:, :, None] == np.arange(classes)).sum(1).max(1)
        shares["identity"] = float((most >= 0.9 * frames).mean())
    elif labels is not None and len(np.unique(labels)) > 1:
        shares["accuracy"] = float((seen[:, 0] == labels).mean())
    return {name: Estimate(share, _binomial_error(share, len(seen)), classes) for name, share in shares.items()}


def remarks_on(protocol: Protocol, layers: Layers, labels: np.ndarray | None) -> list[str]:
    """What a reader of the values should know that only the features tell."""
    remarks = []
    if labels is None and protocol.labels != "random":
        remarks.append(f"labels unknown: not checked to be {protocol.labels}, and errors are those of random labels")
    elif labels is None and protocol.order == "random":
        remarks.append("labels unknown: not checked to be in random order")
    for layer in moments_of(protocol):
        rows, dimension = layers[layer].shape
        count = rows // protocol.frames
        if count < ENOUGH * dimension:
            remarks.append(
                f"{count} items for {dimension} dimensions ({layer}): mostly bias, which cannot be corrected"
            )
    rule = protocol.inception_score
    if rule is not None and rule.shuffle_seed is None and rule.splits != 1:
        seen = layers["logits"].argmax(1)
        alike, by_chance = (seen[1:] == seen[:-1]).mean(), np.square(np.bincount(seen) / len(seen)).sum()
        if alike > by_chance + 0.25:  # labels may be missing, or not tell
            remarks.append(
                f"{alike:.0%} of neighbours look like one class, {by_chance:.0%} would by chance: if the samples are "
                "sorted, the Inception Score is too low"
            )
    return remarks


def _items(reference: Reference) -> np.ndarray:
    if reference.features is None:
        raise UsageError(
            f"{reference.facts['path']} holds statistics alone; precision, recall and KID need the reference's images."
        )
    return reference.features


def _binomial_error(share: float, count: int) -> float:
    """Of a share after two successes and two failures more (Agresti and Coull, 1998): not 0 for a share of 0 or 1."""
    shrunk = (share * count + 2) / (count + 4)
    return float(np.sqrt(shrunk * (1 - shrunk) / (count + 4)))
