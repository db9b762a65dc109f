"""What samples are compared with: the moments of real items, and those items' features where a metric needs them.

Our file is an npz: `mu, sigma` (pool) and `mu_s, sigma_s` (spatial, NHWC) under the names of ADM's files, so that
pytorch-fid reads it, too; `features` (float32) if precision, recall or KID need them, and in `rdm`
a JSON text: how the features were prepared, from which items of which classes, by which versions.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rdm.data.sources import open_images
from rdm.data.sources.base import readable
from rdm.errors import UsageError
from rdm.params.protocol import Pixels, Protocol
from rdm.provenance.files import file_digest, whole_file
from rdm.score.extractors import Extractor
from rdm.score.features import Items, Layers, check_preparation, extract, preparation, stream
from rdm.score.foreign import read_statistics
from rdm.score.statistics import FeatureStatistics, Moments

KEYS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


@dataclass(frozen=True)
class Reference:
    """One side of every comparison.

    moments: of the layers `pool` and, for sFID, `spatial`.
    features: pool, float32 (n, d), of the items for precision, recall and KID; None if no metric needs them.
    facts: where it came from: path, sha256, items (of the moments), format, remark; feature_items, if the features are
        of other items than the moments.
    labels: int64 (n,) of the items of the moments; None if they are not known.
    """

    moments: dict[str, Moments]
    features: np.ndarray | None
    facts: dict[str, Any]
    labels: np.ndarray | None = None


def moments_of(protocol: Protocol) -> tuple[str, ...]:
    """The layers whose moments a protocol compares."""
    return ("pool", "spatial") if protocol.sfid else ("pool",)


def measure_items(
    items: Items, protocols: Sequence[Protocol], extractor: Extractor, facts: dict[str, Any]
) -> list[Reference]:
    """The reference of each protocol from one pass over the items; protocols with clips must share their rule."""
    ways, count = ways_of(protocols), items.shape[0]
    wanted = {layer for protocol in protocols for layer in moments_of(protocol)}
    return measure(stream(items, extractor, ways, wanted, 0, count, "reference"), count, protocols, facts)


def measure(
    batches: Iterable[list[Layers]], count: int, protocols: Sequence[Protocol], facts: dict[str, Any]
) -> list[Reference]:
    """The same from batches of features, of `count` items together; each has one set of layers for each way."""
    ways = ways_of(protocols)
    positions = [_kept(protocol, count) for protocol in protocols]
    most = np.unique(np.concatenate(positions))
    statistics: list[dict[str, FeatureStatistics]] = [{} for _ in ways]
    kept: list[list[np.ndarray]] = [[] for _ in ways]
    done = 0
    for batch in batches:
        size = len(batch[0]["pool"])
        here = most[(most >= done) & (most < done + size)] - done
        for sums, rows, layers in zip(statistics, kept, batch, strict=True):
            for name in KEYS.keys() & layers.keys():
                sums.setdefault(name, FeatureStatistics(layers[name].shape[1])).add(layers[name])
            rows.append(layers["pool"][here])
        done += size
    references = []
    for protocol, wanted in zip(protocols, positions, strict=True):
        way = ways.index(protocol.pixels)
        moments = {name: statistics[way][name].moments(protocol.ddof, protocol.mean) for name in moments_of(protocol)}
        features = np.concatenate(kept[way])[np.searchsorted(most, wanted)] if len(wanted) else None
        references.append(Reference(moments, features, {**facts, "items": count}))
    return references


def ways_of(protocols: Iterable[Protocol]) -> list[Pixels | None]:
    """The different ways in which these protocols prepare images."""
    return list(dict.fromkeys(protocol.pixels for protocol in protocols))


def evenly(count: int, wanted: int | None) -> np.ndarray:
    """Indices of so many of `count` items, spread evenly, since they may be sorted by class; None: all."""
    number = min(count, wanted or count)
    return np.arange(number) * count // max(number, 1)


def _kept(protocol: Protocol, count: int) -> np.ndarray:
    """The items whose features a protocol needs, of `count`."""
    if protocol.kernel_distance is not None:
        return evenly(count, None)
    if protocol.precision_recall is not None:
        return evenly(count, protocol.precision_recall.reference)
    return np.empty(0, np.int64)


def is_statistics(path: Path) -> bool:
    """Whether this file holds moments rather than items."""
    if path.suffix == ".npz" and zipfile.is_zipfile(path):
        with readable(path, "a whole .npz"), zipfile.ZipFile(path) as archive:
            return "mu.npy" in archive.namelist()
    return path.suffix in (".pkl", ".pickle", ".pt")


def save(path: Path, reference: Reference, protocol: Protocol, extractor: Extractor, versions: dict[str, str]) -> Path:
    """Write a reference file, whole or not at all; returns its path."""
    said = {
        "preparation": preparation(protocol, "reference", extractor),
        "mean": protocol.mean,
        "ddof": protocol.ddof,
        "features": 0 if reference.features is None else len(reference.features),
        "items": reference.facts.get("feature_items", reference.facts.get("items", 0)),
        "counts": {name: moments.count for name, moments in reference.moments.items()},
        "facts": reference.facts,
        "versions": versions,
    }
    if reference.labels is not None:
        classes, counts = np.unique(reference.labels, return_counts=True)
        said["classes"] = dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True))
    arrays: dict[str, Any] = {"rdm": np.array(json.dumps(said, sort_keys=True))}
    for name, moments in reference.moments.items():
        mu, sigma = KEYS[name]
        arrays |= {mu: moments.mean, sigma: moments.covariance}
    if reference.features is not None:
        arrays["features"] = reference.features
    with whole_file(path) as temporary, temporary.open("wb") as stream_:
        np.savez(stream_, **arrays)
    return path


def about(path: Path) -> dict[str, Any] | None:
    """What a reference file of ours says of itself; None for any other file."""
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return None
    with readable(path, "a reference file"), np.load(path, allow_pickle=False) as content:
        if "rdm" not in content:
            return None
        said: dict[str, Any] = json.loads(str(content["rdm"]))
        if {"preparation", "mean", "ddof", "features", "items", "counts", "facts", "versions"} - said.keys():
            raise ValueError("its description is not complete")
        return said


def labels_in(path: Path) -> np.ndarray | None:
    """The labels of the items that a statistics file is of, int64 (n,), class by class; None if it does not tell."""
    classes = (about(path) or {}).get("classes")
    return None if classes is None else np.repeat([*map(int, classes)], [*classes.values()])


def load(path: Path, protocol: Protocol, name: str, extractor: Extractor) -> Reference:
    """A statistics file, ours or another evaluator's, for the protocol `name`.

    Raises UsageError for a file of another protocol, extractor or dimension, and one that lacks what the protocol
    compares.
    """
    foreign = read_statistics(path)
    said = about(path)
    facts = {"path": str(path), "sha256": file_digest(path), "format": foreign.format}
    features = None
    if said is not None:
        check_preparation(said["preparation"], preparation(protocol, "reference", extractor), str(path), name)
        rules = {"mean": protocol.mean, "ddof": protocol.ddof}
        check_preparation({key: said[key] for key in rules}, rules, str(path), name)
        facts |= {"built_from": said["facts"]}
        layers = {k: replace(m, count=said["counts"][k]) for k, m in foreign.layers.items()}
        needed = _kept(protocol, said["items"])
        if said["features"] < len(needed):
            raise UsageError(
                f"{path} keeps the features of {said['features']} items, protocol {name!r} needs {len(needed)}; "
                "build a reference under this protocol."
            )
        with np.load(path, allow_pickle=False) as content:
            features = content.get("features")
    else:
        facts["remark"] = "; ".join(
            filter(None, [foreign.note, "preparation taken on trust: the file does not name it"])
        )
        layers = {k: _with_ddof(m, protocol.ddof, path) for k, m in foreign.layers.items()}
    for layer in moments_of(protocol):
        if layer not in layers:
            raise UsageError(
                f"{path} has no {'_'.join(KEYS[layer])}, which protocol {name!r} compares; build a reference."
            )
    if layers["pool"].dimension != extractor.dimension:
        raise UsageError(
            f"{path} has {layers['pool'].dimension} dimensions, the {extractor.kind} {extractor.dimension}; "
            "take the reference that belongs to the extractor."
        )
    return Reference({layer: layers[layer] for layer in moments_of(protocol)}, features, facts)


def with_images(found: Reference, path: Path, protocol: Protocol, extractor: Extractor) -> Reference:
    """ADM's statistics files hold images for precision and recall beside the moments: add their features."""
    if found.features is not None or not len(_kept(protocol, 1)) or not read_statistics(path).images:
        return found
    images = open_images(path)
    [layers] = extract(images, extractor, [protocol.pixels], ("pool",), 0, images.shape[0], "reference")
    return replace(found, features=layers["pool"], facts={**found.facts, "feature_items": images.shape[0]})


def _with_ddof(moments: Moments, ddof: int, path: Path) -> Moments:
    """Moments of a foreign file, whose divisor is count - 1, with the protocol's divisor."""
    if ddof == 1:
        return moments
    if moments.count is None:
        raise UsageError(f"{path} does not say of how many items it is, which ddof: {ddof} needs; build a reference.")
    return replace(moments, covariance=moments.covariance * (moments.count - 1) / (moments.count - ddof))
