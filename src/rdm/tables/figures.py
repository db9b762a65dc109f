"""Pictures of the results, and what all figures share."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from rdm import paths
from rdm.errors import UsageError
from rdm.params import Experiment
from rdm.provenance.files import whole_file
from rdm.sample import store

PER_CLASS = 2
CLASSES = 10
CLIPS = 2
MOVING = 12  # clips of a line
FRAME = 125  # milliseconds
DPI = 110
HEIGHT = 0.45  # of a picture, in inches
MARGIN = 1.6  # to the left, for the labels of the lines
EMPTY = "no row of this table is gated"


Lines = list[tuple[str, list[np.ndarray]]]  # label, and pictures (H, W, C) or clips (T, H, W, C), uint8


def draw_samples(experiment: Experiment, path: Path) -> list[Path]:
    """The same seeds and labels side by side: per gated system of Table 1 a line for its start, control, and itself."""
    rows = {row.system for row in experiment.tables.table1.rows}
    shown = [gated for gated in experiment.train.gated if gated in rows]
    samplers = {gated: str(experiment.pictured(gated)) for gated in shown}
    seed, lines = _first_seed(experiment, shown), []
    for gated, sampler in samplers.items():
        for label, system in experiment.trio_of(gated).items():
            samples = store.load(experiment, paths.run_name(experiment.name, system, seed), sampler)
            lines.append((f"{gated}: {label}", _first_of_each_class(samples)))
    how = ", ".join(map(repr, dict.fromkeys(samplers.values())))
    title = f"{experiment.name}: the same seed ({seed}) and labels in every line, sampler {how}"
    return [save(_draw_lines(lines, title if lines else EMPTY), path)]


def draw_clips(experiment: Experiment, still: Path, moving: Path) -> list[Path]:
    """The same first clips: per gated system of Table 2 a line for its start, control, and itself.

    still: frame by frame. moving: more of them, as an animated PNG, which browsers show like any other.
    Each system by the sampler of its row; its start, if that is not drawn with this sampler, is left out.
    """
    samplers: dict[str, str] = {}
    for cell in experiment.cells("table2"):
        if cell.system in experiment.train.gated and cell.sampler:
            samplers.setdefault(str(cell.system), cell.sampler)
    seed = _first_seed(experiment, list(samplers))
    lines: Lines = []
    for gated, sampler in samplers.items():
        for label, system in experiment.trio_of(gated).items():
            if sampler in experiment.samplers_of(system):
                samples = store.load(experiment, paths.run_name(experiment.name, system, seed), sampler)
                lines.append((f"{gated}: {label}", list(samples.images[:MOVING])))
    how = ", ".join(f"{gated} by sampler {sampler!r}" for gated, sampler in samplers.items())
    title = f"{experiment.name}: the first clips of seed {seed}, from the same labels and noise\n{how}"
    strips = [(label, [_film_strip(clip) for clip in clips[:CLIPS]]) for label, clips in lines]
    frames = max((len(clip) for _, clips in lines for clip in clips), default=1)
    films = [[(label, [clip[t % len(clip)] for clip in clips]) for label, clips in lines] for t in range(frames)]
    title = title if lines else EMPTY
    return [
        save(_draw_lines(strips, title), still),
        _save_moving((_draw_lines(film, title) for film in films), moving),
    ]


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG whose bytes depend on what it shows alone."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    return path


def save_with_numbers(name: str, figure: Figure, table: pd.DataFrame, title: str) -> list[Path]:
    """Write `figures/<name>.png`, and beside it the numbers that it shows as CSV."""
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    numbers = paths.figure(name, "csv")
    with whole_file(numbers) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return [save(figure, paths.figure(name)), numbers]


def over_seeds(table: pd.DataFrame) -> str:
    """What lines and bands of these numbers are, in words."""
    seeds = table["seed"].nunique()
    return f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "one seed"


def plot_over_seeds(axes: Axes, table: pd.DataFrame, x: str, y: str, label: str, marker: str = "o") -> None:
    """Mean over seeds, with a band of one standard deviation."""
    by_x = table.groupby(x)[y]
    mean, spread = by_x.mean(), by_x.std().fillna(0.0)
    (line,) = axes.plot(mean.index, mean, marker=marker, markersize=3, label=label)
    axes.fill_between(mean.index, mean - spread, mean + spread, color=line.get_color(), alpha=0.2, linewidth=0)


def _first_seed(experiment: Experiment, gated: list[str]) -> int:
    """A seed with which all these systems, and so their starts, are trained. Raises UsageError if there is none."""
    for seed in experiment.seeds_of(gated[0]) if gated else experiment.seeds:
        if all(seed in experiment.seeds_of(system) for system in gated):
            return seed
    raise UsageError(f"{', '.join(gated)} have no seed in common, so no picture can compare them; give them one.")


def _first_of_each_class(samples: store.Samples) -> list[np.ndarray]:
    """The first images of each of the first classes, (H, W, C) uint8."""
    return [image for label in range(CLASSES) for image in samples.images[samples.labels == label][:PER_CLASS]]


def _film_strip(clip: np.ndarray) -> np.ndarray:
    """The frames of a clip, (T, H, W, C), beside each other with white between them: (H, W', C)."""
    gap = max(1, clip.shape[2] // 12)
    apart = np.pad(clip, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(apart), axis=1)[:, :-gap]


def _draw_lines(lines: Lines, title: str) -> Figure:
    """Lines of pictures with their labels."""
    pictures = [picture for _, line in lines for picture in line]
    width = HEIGHT * max((picture.shape[1] / picture.shape[0] for picture in pictures), default=10)
    rows, columns = max(len(lines), 1), max((len(line) for _, line in lines), default=1)
    size = (width * columns + MARGIN, (HEIGHT + 0.05) * rows + 0.6 + 0.2 * title.count("\n"))
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, (label, line) in zip(grid, lines, strict=False):
        for axes, picture in zip(row, line, strict=False):
            axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=10)
    top = 1 - (0.36 + 0.2 * title.count("\n")) / size[1]
    figure.subplots_adjust(left=MARGIN / size[0], right=0.99, top=top, bottom=0.02, wspace=0.08, hspace=0.08)
    return figure


def _save_moving(frames: Iterable[Figure], path: Path) -> Path:
    """Write figures of one size as an animated PNG, without end."""
    pictures = []
    for figure in frames:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        plt.close(figure)
        pictures.append(Image.open(buffer).convert("RGB"))
    with whole_file(path) as temporary:
        pictures[0].save(temporary, "PNG", save_all=True, append_images=pictures[1:], duration=FRAME, loop=0)
    return path
