"""`rdm score features`: features of an index range, so that a large set can be worked off by independent jobs.

A folder of parts is a sample set like any other: together they hold the bits that one pass would give.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from rdm.errors import UsageError
from rdm.params.protocol import Protocol
from rdm.parts import Part
from rdm.provenance.files import whole_file
from rdm.score.features import Layers, check_preparation, extract, layers_of, preparation
from rdm.score.inputs import Settings, check_admitted, extractor_of, open_items

PATTERN = "features-*.safetensors"
SAME = ("shape", "samples", "preparation")  # of the parts of one set


@dataclass(frozen=True)
class Parts:
    """A complete folder of parts.

    shape: of the items together, (n, [T,] H, W, C). labels: int64 (n,) or None. digest: of the samples they are of.
    """

    path: Path
    files: tuple[Path, ...]
    shape: tuple[int, ...]
    labels: np.ndarray | None
    digest: str
    prepared: dict[str, Any]

    def layers(self) -> Layers:
        """Layer name -> float32 (n, d)."""
        loaded = [_load(file) for file in self.files]
        return {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0] if name != "labels"}

    def batches(self) -> Iterator[list[Layers]]:
        """Part after part, as `reference.measure` takes them."""
        for file in self.files:
            yield [_load(file)]

    def check(self, prepared: dict[str, Any], wanted: Collection[str], name: str) -> None:
        """Raise UsageError if they were prepared otherwise than protocol `name` does, or lack a layer."""
        check_preparation(self.prepared, prepared, str(self.path), name)
        with safe_open(self.files[0], framework="numpy") as content:
            for layer in wanted:
                if layer not in content.keys():  # noqa: SIM118
                    raise UsageError(
                        f"{self.path} lacks the layer {layer!r}, which protocol {name!r} needs; run it again."
                    )


def run(samples: Path, folder: Path, part: Part, protocols: dict[str, Protocol], settings: Settings) -> Path:
    """`rdm score features`: the features of a part of the samples; returns its file."""
    [(name, protocol)] = protocols.items()
    if protocol.frames > 1:
        raise UsageError(f"Protocol {name!r} scores the frames of clips, which is not done in parts; score them whole.")
    items = open_items(samples, protocol.clips, "samples")
    check_admitted(str(samples), items.shape[0], items.labels, protocol, name)
    extractor = extractor_of(protocols, settings)
    start, stop = bounds(protocol.samples, part, extractor.batch)
    if start == stop:
        batches = -(-protocol.samples // extractor.batch)
        raise UsageError(f"--part {part}: {protocol.samples} items are {batches} batches; take at most so many parts.")
    [layers] = extract(items, extractor, [protocol.pixels], layers_of([protocol]), start, stop, str(part))
    labels = None if items.labels is None else items.labels[start:stop]
    prepared = preparation(protocol, "samples", extractor)
    return save(folder, layers, labels, start, (protocol.samples, *items.shape[1:]), items.digest, prepared)


def bounds(count: int, part: Part, batch: int) -> tuple[int, int]:
    """The items of a part: whole batches, so that each item meets the same neighbours as in one pass."""
    batches = part.share(-(-count // batch))
    return batch * batches.start, min(count, batch * batches.stop)


def save(
    folder: Path,
    layers: Layers,
    labels: np.ndarray | None,
    start: int,
    shape: tuple[int, ...],
    digest: str,
    prepared: dict[str, Any],
) -> Path:
    """Write items start to start + n of all, which are of this shape; returns the file, whose name tells its range.

    Parts of the same set that share items with it are removed: there may have been another number of parts before.
    """
    tensors = dict(layers) if labels is None else {**layers, "labels": labels}
    stop = start + len(layers["pool"])
    path = folder / f"features-{start:08d}-{stop:08d}.safetensors"
    about = {"start": start, "stop": stop, "shape": shape, "samples": digest, "preparation": prepared}
    text = json.dumps(about, sort_keys=True)
    with whole_file(path) as temporary:
        save_file(tensors, temporary, {"rdm": text})
    _remove_others(path, json.loads(text))
    return path


def _remove_others(path: Path, new: dict[str, Any]) -> None:
    """Remove those parts of the same set that hold items which this one, `new`, holds now."""
    for other in sorted(set(path.parent.glob(PATTERN)) - {path}):
        with suppress(UsageError, FileNotFoundError):  # damaged, of which `open_parts` tells; or removed by another job
            old = _about(other)
            same = all(old[key] == new[key] for key in SAME)
            if same and old["start"] < new["stop"] and new["start"] < old["stop"]:
                other.unlink()


def is_parts(path: Path) -> bool:
    """Whether this is a folder of parts."""
    return path.is_dir() and any(path.glob(PATTERN))


def open_parts(path: Path) -> Parts:
    """Read what the parts say of themselves. Raises UsageError if they are not of one set, or do not cover it."""
    files = tuple(sorted(path.glob(PATTERN)))
    said = [_about(file) for file in files]
    for file, one in zip(files, said, strict=True):
        for key in SAME:
            if one[key] != said[0][key]:
                raise UsageError(
                    f"{file} and {files[0].name} are of different {key}; keep the parts of one set in a folder."
                )
    reaches, starts = [0, *(one["stop"] for one in said)], [*(one["start"] for one in said), said[0]["shape"][0]]
    for number, (reached, start) in enumerate(zip(reaches, starts, strict=True)):
        if start > reached:
            raise UsageError(
                f"{path}: items {reached} to {start} are not there yet; run their part, or all parts if N was another."
            )
        if start < reached:
            both = " and ".join(file.name for file in files[number - 1 : number + 1])
            raise UsageError(f"{path}: {both} hold some of the same items; remove one of them.")
    labels = [part for part in map(_labels, files) if part is not None]
    return Parts(
        path,
        files,
        tuple(said[0]["shape"]),
        np.concatenate(labels) if labels else None,
        said[0]["samples"],
        said[0]["preparation"],
    )


def _about(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="numpy") as content:
            said: dict[str, Any] = json.loads(content.metadata()["rdm"])
            return {key: said[key] for key in ("start", "stop", *SAME)}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{file} is no whole part of `rdm score features` ({error}); remove it, and run its part again."
        ) from None


def _labels(file: Path) -> np.ndarray | None:
    with safe_open(file, framework="numpy") as content:
        return content.get_tensor("labels") if "labels" in content.keys() else None  # noqa: SIM118


def _load(file: Path) -> Layers:
    with safe_open(file, framework="numpy") as content:
        return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
