"""One pass of a network over a set of images or clips, for all metrics and several protocols at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any
from typing import Protocol as Interface

import numpy as np

from rdm.ahead import ahead
from rdm.errors import UsageError
from rdm.params.protocol import Pixels, Protocol
from rdm.progress import progress
from rdm.score.extractors import Extractor

READERS = 4  # threads that decode ahead of the network

Layers = dict[str, np.ndarray]


class Items(Interface):
    """What is scored: images (N, H, W, C) or clips (N, T, H, W, C), uint8."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all items together."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Items start to stop."""


def layers_of(protocols: Iterable[Protocol]) -> tuple[str, ...]:
    """The layers that the samples' metrics need."""
    wanted = {"pool"}
    for protocol in protocols:
        wanted |= {"spatial"} if protocol.sfid else set()
        wanted |= {"logits"} if protocol.inception_score or protocol.extractor == "classifier" else set()
    return tuple(sorted(wanted))


def stream(
    items: Items,
    extractor: Extractor,
    ways: Sequence[Pixels | None],
    wanted: Collection[str],
    start: int,
    stop: int,
    what: str,
) -> Iterator[list[Layers]]:
    """For each batch of items, its wanted layers prepared in each of these ways.

    A part that starts at a multiple of the extractor's batch sees the same batches as the whole, so the same bits.
    """
    check_items(items, extractor)

    def read(bounds: tuple[int, int]) -> np.ndarray:
        """A copy, so that a mapped file is read here and not where the network waits."""
        return np.array(items.read(*bounds), order="C")

    with progress(f"{what}: features", stop - start) as bar:
        for batch in ahead(read, pairwise([*range(start, stop, extractor.batch), stop]), READERS):
            layers = [extractor.features(batch, way, wanted) for way in ways]
            bar.update(len(batch))
            yield layers


def extract(
    items: Items,
    extractor: Extractor,
    ways: Sequence[Pixels | None],
    wanted: Collection[str],
    start: int,
    stop: int,
    what: str,
) -> list[Layers]:
    """Layer name -> float32 (stop - start, d), for each way of preparing the items."""
    gathered: list[Layers] = [{} for _ in ways]
    done = 0
    for batch in stream(items, extractor, ways, wanted, start, stop, what):
        size = len(batch[0]["pool"])
        for whole, part in zip(gathered, batch, strict=True):
            for name, values in part.items():
                if name not in whole:
                    whole[name] = np.empty((stop - start, values.shape[1]), np.float32)
                whole[name][done : done + size] = values
        done += size
    return gathered


def check_items(items: Items, extractor: Extractor) -> None:
    """Raise UsageError for items that the network does not take."""
    if (len(items.shape) == 5) != extractor.clips:
        takes, given = ("clips", "images") if extractor.clips else ("images", "clips")
        raise UsageError(f"The {extractor.kind} takes {takes}, the protocol gives it {given}; take other weights.")
    channels = items.shape[-1]
    if channels != extractor.channels:
        kinds = {1: "greyscale", 3: "RGB"}
        raise UsageError(
            f"{getattr(items, 'path', 'The images')}: {kinds.get(channels, channels)} images, but the {extractor.kind} "
            f"takes {kinds[extractor.channels]}; convert them, or take another protocol."
        )


def preparation(protocol: Protocol, side: str, extractor: Extractor) -> dict[str, Any]:
    """What features depend on beside the items: extractor, precision, pixels, clips. side: samples or reference."""
    clips = None
    if protocol.clips is not None:
        other = "samples" if side == "reference" else "reference"
        clips = protocol.clips.model_dump(exclude={other, f"{other}_videos"})
    return {
        "extractor": extractor.kind,
        "weights": extractor.digest,
        "precision": extractor.precision,
        "pixels": protocol.pixels.model_dump() if protocol.pixels else None,
        "clips": clips,
    }


def check_preparation(there: dict[str, Any], now: dict[str, Any], where: str, name: str) -> None:
    """Raise UsageError if features were prepared otherwise than protocol `name` does."""
    for key, value in now.items():
        if there.get(key) != value:
            raise UsageError(
                f"{where} was made for another protocol than {name!r} ({key}: {there.get(key)} there, {value} here); "
                "make it again under this one."
            )
