"""`rdm figures`: what happens by depth, the sensitivity of the loss (the paper's Fig. 5) and the gates; all figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rdm.errors import UsageError
from rdm.params import Experiment
from rdm.tables.curves import draw_figure6, draw_figure7
from rdm.tables.figures import over_seeds, plot_over_seeds, save_with_numbers
from rdm.tables.logs import State, load_gates, read_sensitivity, run_file
from rdm.tables.losses import draw_losses
from rdm.tables.rates import draw_rates


def draw_figure5(experiment: Experiment) -> list[Path]:
    """Sensitivity by depth at several training steps: figure5.csv, a row per seed and state, and figure5.png."""
    rows = []
    systems = experiment.figures.figure5.systems
    for gated in systems:
        for arm in experiment.arms_of(gated):
            rows += [(gated, arm, *state) for state in read_sensitivity(experiment, gated, arm)]
    table = pd.DataFrame(rows, columns=["system", "arm", *State._fields])
    columns = max(len(experiment.arms_of(system)) for system in systems)
    size = (3.4 * columns, 2.8 * len(systems))
    figure, grid = plt.subplots(len(systems), columns, figsize=size, squeeze=False, sharex="row", sharey="row")
    for line, system in zip(grid, systems, strict=True):
        for axes, arm in zip(line, experiment.arms_of(system), strict=False):  # without supervision, one panel less
            chosen = table[(table.system == system) & (table.arm == arm)]
            for step in sorted(set(chosen.step)):
                plot_over_seeds(axes, chosen[chosen.step == step], "state", "sensitivity", f"step {step}")
            axes.axhline(1, color="grey", linewidth=0.6)
            axes.set(title=f"{system}: {arm}", yscale="log", xlabel="residual state i, shallow to deep")
        line[0].set_ylabel(r"$\|dL/dz_i\| \;/\; \|dL/dz_L\|$")
    grid[0][0].legend(fontsize=8)
    return _written("figure5", figure, table, experiment)


def draw_gates(experiment: Experiment) -> list[Path]:
    """What the gates learnt: gates.csv, a row per seed and unit, and gates.png, alpha and beta by depth."""
    systems, rows = experiment.figure_systems("gates"), []
    for system in systems:
        for seed in experiment.seeds_of(system):
            file = run_file(experiment, system, seed, "gates.safetensors")
            rows += [{"system": system, "seed": seed, **row} for row in read_gates(file)]
    if not systems:
        raise UsageError("No system of this experiment has gates to be drawn; give one another variant than resnet.")
    columns = [f"{name}_{figure}" for name in ("alpha", "beta") for figure in ("mean", "min", "max")]
    table = pd.DataFrame(rows, columns=["system", "seed", "depth", "unit", *columns])
    figure, grid = plt.subplots(len(systems), 2, figsize=(9, 2.8 * len(systems)), squeeze=False, sharex="row")
    for line, system in zip(grid, systems, strict=True):
        chosen = table[table.system == system]
        for axes, name, start in zip(line, ("alpha", "beta"), (1, 0), strict=True):
            plot_over_seeds(axes, chosen, "depth", f"{name}_mean", "mean of the channels")
            extremes = chosen.groupby("depth").agg({f"{name}_min": "min", f"{name}_max": "max"})
            axes.fill_between(
                extremes.index, *extremes.to_numpy().T, alpha=0.15, label="all channels and seeds", linewidth=0
            )
            axes.axhline(start, color="grey", linewidth=0.6)
            axes.set(title=f"{system}: {name}", xlabel="unit, shallow to deep")
    grid[0][0].legend(fontsize=8)
    return _written("gates", figure, table, experiment)


def read_gates(path: Path) -> list[dict[str, Any]]:
    """A row per gate of a file: depth, unit, and mean and extremes of alpha and beta. Needs no torch."""
    rows: list[dict[str, Any]] = []
    for depth, (label, alpha, beta) in enumerate(load_gates(path)):
        row = {"depth": depth, "unit": label, **_summary("alpha", alpha)}
        rows.append(row | (_summary("beta", beta) if beta is not None else {}))
    return rows


def _summary(name: str, values: np.ndarray) -> dict[str, float]:
    numbers = {"mean": values.mean(), "min": values.min(), "max": values.max()}
    return {f"{name}_{key}": round(float(number), 6) for key, number in numbers.items()}


def _written(name: str, figure: Figure, table: pd.DataFrame, experiment: Experiment) -> list[Path]:
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return save_with_numbers(name, figure, table, f"{experiment.name}: {over_seeds(table)}")


FIGURES: dict[str, Callable[[Experiment], list[Path]]] = {
    "figure5": draw_figure5,
    "figure6": draw_figure6,
    "figure7": draw_figure7,
    "gates": draw_gates,
    "losses": draw_losses,
    "rates": draw_rates,
}
