"""What an experiment needs that others published, and how much of it is still to be downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdm.data.published import DATASETS
from rdm.models.registry import WEIGHTS
from rdm.params import Experiment


def table(experiment: Experiment) -> list[dict[str, Any]]:
    """A row per data set and file that `rdm datasets` and `rdm models` list, and what is left of them.

    GB: None of a file whose size is not known.
    """
    rows = [row for row, _ in _listed(experiment)]
    if not rows:
        return []
    left = sum(row["GB"] or 0 for row in rows if not row["there"])
    return [*rows, {"download": "still to come", "GB": left, "with": "", "there": ""}]


def uncounted(experiment: Experiment) -> list[str]:
    """What others published or is the user's own, is not there, and has no size in the table."""
    listed = {place for row, places in _listed(experiment) if row["GB"] is not None for place in places}
    read = {Path(place) for place, _ in _places(experiment)} | _files(experiment)
    return sorted(str(place) for place in read - listed if not place.exists())


def _listed(experiment: Experiment) -> Iterator[tuple[dict[str, Any], set[Path]]]:
    """Rows, and what the experiment reads of each."""
    for name, dataset in DATASETS.items():
        if places := {Path(place[0]) for place in _places(experiment) if _is_read(name, place)}:
            yield _row(name, dataset.gigabytes, f"rdm datasets fetch {name}", Path(dataset.folder)), places
    for name, weights in WEIGHTS.items():
        for file in sorted(_files(experiment)):
            if file.name == weights.file:
                gigabytes = None if weights.size is None else weights.size / 1e9
                yield _row(name, gigabytes, f"rdm models fetch {name}", file), {file}


def _files(experiment: Experiment) -> set[Path]:
    """Weights, folders of text encoders, and what scores compare with."""
    baselines = experiment.train.baselines.values()
    entries = [
        *experiment.latents.values(),
        *baselines,
        *(getattr(baseline.network, "text", None) for baseline in baselines),
        *(sampler.classifier for sampler in experiment.sample.values()),
        *(score.extractor for score in experiment.score.values()),
    ]
    files = [getattr(entry, "weights", None) for entry in entries]
    files += [score.reference for score in experiment.score.values()]
    return {Path(file) for file in files if file}


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


def _row(name: str, gigabytes: float | None, command: str, place: Path) -> dict[str, Any]:
    return {"download": name, "GB": gigabytes, "with": command, "there": place.exists()}
