"""Pictures of the results."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from rdm import paths
from rdm.params import CONTROL, Experiment
from rdm.provenance.files import whole_file
from rdm.sample import store

PER_CLASS = 2
CLASSES = 10


def draw_samples(experiment: Experiment, path: Path) -> Path:
    """The same seeds and labels side by side: per gated system a line for its start, its control, and itself."""
    sampler, seed = experiment.tables.picture, experiment.seeds[0]
    lines = []
    for gated, entry in experiment.train.gated.items():
        for system, label in ((entry.start, "baseline"), (gated + CONTROL, "control"), (gated, "gated")):
            run = paths.run_name(experiment.name, system, seed)
            lines.append((f"{gated}: {label}", _pick(experiment, run, sampler)))
    columns = len(lines[0][1])
    figure, grid = plt.subplots(
        len(lines), columns, figsize=(0.45 * columns + 1.6, 0.5 * len(lines) + 0.6), squeeze=False
    )
    for line, (label, images) in zip(grid, lines, strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(
        f"{experiment.name}: the same seed ({seed}) and labels in every line, sampler {sampler!r}", fontsize=10
    )
    figure.subplots_adjust(
        left=1.6 / (0.45 * columns + 1.6), right=0.99, top=0.9, bottom=0.02, wspace=0.08, hspace=0.08
    )
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG whose bytes depend on what it shows alone."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


def _pick(experiment: Experiment, run: str, sampler: str) -> list[np.ndarray]:
    """The first images of each of the first classes, (H, W, C) uint8."""
    samples = store.load(experiment, run, sampler)
    return [image for label in range(CLASSES) for image in samples.images[samples.labels == label][:PER_CLASS]]
