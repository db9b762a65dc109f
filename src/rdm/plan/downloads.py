"""What an experiment needs that others published, and how much of it is still to be downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdm.data.published import DATASETS
from rdm.models.registry import WEIGHTS
from rdm.params import Experiment


def table(experiment: Experiment) -> list[dict[str, Any]]:
    """A row per data set and file of weights that `rdm datasets` and `rdm models` list, and what is left of them."""
    rows = list(_rows(experiment))
    if not rows:
        return []
    left = sum(row["GB"] for row in rows if not row["there"])
    return [*rows, {"download": "still to come", "GB": left, "with": "", "there": ""}]


def _rows(experiment: Experiment) -> Iterator[dict[str, Any]]:
    for name, dataset in DATASETS.items():
        if any(_is_read(name, place) for place in _places(experiment)):
            yield _row(name, dataset.gigabytes, f"rdm datasets fetch {name}", Path(dataset.folder))
    guides = [sampler.classifier for sampler in experiment.sample.values()]
    entries = [*experiment.latents.values(), *experiment.train.baselines.values(), *guides]
    files = {Path(weights) for entry in entries if (weights := getattr(entry, "weights", None))}
    for name, weights in WEIGHTS.items():
        for file in files:
            if file.name == weights.file:
                yield _row(name, weights.size / 1e9, f"rdm models fetch {name}", file)


def _places(experiment: Experiment) -> Iterator[tuple[str, int | None]]:
    """The folders and files that data sets and published samples are read from; of MS-COCO also which year's."""
    for data in experiment.data.values():
        for key in ("folder", "train", "test"):
            if place := getattr(data, key, None):
                yield place, getattr(data, "year", None)
    yield from ((samples.path, None) for samples in experiment.published.values())


def _is_read(name: str, place: tuple[str, int | None]) -> bool:
    """Whether a data set lies there. Both years of MS-COCO share a folder; their names end with the year."""
    path, year = place
    return Path(path).is_relative_to(DATASETS[name].folder) and name.endswith(str(year or ""))


def _row(name: str, gigabytes: float, command: str, place: Path) -> dict[str, Any]:
    return {"download": name, "GB": gigabytes, "with": command, "there": place.exists()}
