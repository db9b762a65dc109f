"""`rdm figures rates`: gates that move further, since they are trained at higher rates. It is not in the paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rdm.params import Experiment
from rdm.params.evaluation import Rates
from rdm.params.presentation import metrics_of
from rdm.tables.curves import no_figure
from rdm.tables.figures import over_seeds, plot_over_seeds, save_with_numbers
from rdm.tables.logs import load_gates, read_log, run_file, shallower_half
from rdm.tables.measured import HIGHER_IS_BETTER, pick, read_scores
from rdm.tables.measured import METRICS as ORDER
from rdm.tables.pages import METRICS

MOVED = {"alpha_moved": "α − 1", "beta_moved": "β"}  # root mean square over all channels of all units
SENSITIVITY = "sensitivity"  # `shallower_half` at the end of training
Row = tuple[str, int, int, str, str, float, float]
COLUMNS = ["system", "factor", "seed", "quantity", "sampler", "value", "control"]


def draw_rates(experiment: Experiment) -> list[Path]:
    """How far gates move, what that does to sensitivity and quality: rates.csv, a row per number, and rates.png.

    control: the same quantity of the ungated twin of the same seed.
    """
    chosen = experiment.figures.rates
    if chosen is None:
        raise no_figure(experiment, "rates")
    rows = [row for system in chosen.systems for row in _of_system(experiment, chosen, system)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    metrics = [name for name in ORDER if name in set(table.quantity)]
    size = (2.7 * (2 + len(metrics)), 2.8 * len(chosen.systems))
    figure, grid = plt.subplots(len(chosen.systems), 2 + len(metrics), figsize=size, squeeze=False, sharex=True)
    for line, system in zip(grid, chosen.systems, strict=True):
        own = table[table.system == system]
        _draw_moved(line[0], own)
        line[0].set_ylabel(system)
        _draw_change(line[1], own[own.quantity == SENSITIVITY], "sensitivity, shallower half", logarithms=True)
        for axes, metric in zip(line[2:], metrics, strict=True):
            better = "higher" if metric in HIGHER_IS_BETTER else "lower"
            _draw_change(axes, own[own.quantity == metric], f"{METRICS[metric]} ({better} is better)")
    for axes in grid[-1]:
        axes.set(xlabel="rate of the gates, times", xscale="log")
        axes.set_xticks(sorted({1, *chosen.factors}), sorted({1, *chosen.factors}), minor=False)
    title = f"{experiment.name}: gates trained at higher rates, beside no gates; {over_seeds(table)}"
    return save_with_numbers("rates", figure, table, title)


def _of_system(experiment: Experiment, chosen: Rates, gated: str) -> Iterator[Row]:
    """The numbers of a gated system at each rate of its gates."""
    control, seeds = experiment.control_of(gated), experiment.seeds_of(gated)
    metrics = [name for name in ORDER if name in metrics_of(experiment.protocols[chosen.score])]
    for factor, system in _by_factor(experiment, gated).items():
        for seed in seeds:
            for quantity, value in _moved(experiment, system, seed).items():
                yield gated, factor, seed, quantity, "", value, 0.0
            own, twin = (_sensitivity(experiment, name, seed) for name in (system, control))
            if own is not None and twin is not None:
                yield gated, factor, seed, SENSITIVITY, "", own, twin
        for sampler in chosen.samplers:
            scores, others = (read_scores(experiment, name, sampler, chosen.score) for name in (system, control))
            for metric in metrics:
                values, twins = (pick(found, metric, chosen.score).values for found in (scores, others))
                for seed, value, other in zip(seeds, values, twins, strict=True):
                    yield gated, factor, seed, metric, sampler, value, other


def _by_factor(experiment: Experiment, gated: str) -> dict[int, str]:
    faster = {factor: name for name, system, factor, _ in experiment.by_rate if system == gated}
    return {1: gated, **dict(sorted(faster.items()))}


def _moved(experiment: Experiment, system: str, seed: int) -> dict[str, float]:
    """How far the gates are from where they change nothing."""
    units = load_gates(run_file(experiment, system, seed, "gates.safetensors"))
    alphas, betas = [alpha - 1 for _, alpha, _ in units], [beta for _, _, beta in units if beta is not None]
    found = {name: values for name, values in zip(MOVED, (alphas, betas), strict=True) if values}
    return {name: float(f"{np.sqrt(np.square(np.concatenate(v)).mean()):.6g}") for name, v in found.items()}


def _sensitivity(experiment: Experiment, system: str, seed: int) -> float | None:
    """The quantity SENSITIVITY of one run; None if it could not be logged."""
    states: list[float] | None = read_log(experiment, system, seed)[-1]["sensitivity"]
    return round(shallower_half(states), 6) if states else None


def _draw_moved(axes: Axes, table: pd.DataFrame) -> None:
    for quantity, label in MOVED.items():
        chosen = table[table.quantity == quantity]
        if len(chosen):
            plot_over_seeds(axes, chosen, "factor", "value", label)
    axes.set(title="gates, root mean square", yscale="log")
    axes.legend(fontsize=8)


def _draw_change(axes: Axes, table: pd.DataFrame, title: str, logarithms: bool = False) -> None:
    """Seed by seed the difference from no gates, in per cent of what it is without."""
    change = np.exp(table.value - table.control) - 1 if logarithms else table.value / table.control - 1
    for sampler, chosen in table.assign(change=100 * change).groupby("sampler", sort=False):
        plot_over_seeds(axes, chosen, "factor", "change", str(sampler))
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.set(title=title, ylabel="change, %")
    if len(set(table.sampler)) > 1:
        axes.legend(fontsize=8)
