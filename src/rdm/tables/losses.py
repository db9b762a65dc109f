"""`rdm figures losses`: the training loss by step, of what a gated system starts from, of its control and of itself."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from rdm.params import Experiment
from rdm.tables.figures import over_seeds, plot_over_seeds, save_with_numbers
from rdm.tables.logs import read_log


def draw_losses(experiment: Experiment) -> list[Path]:
    """losses.csv, a row per seed and log line, and losses.png: baseline, fine-tuning, and gated minus control."""
    systems, rows = experiment.figures.figure5.systems, []
    for gated in systems:
        for arm, system in experiment.trio_of(gated).items():
            for seed in experiment.seeds_of(system):
                log = read_log(experiment, system, seed)
                rows += [(gated, arm, seed, line["step"], line["loss"]) for line in log]
    table = pd.DataFrame(rows, columns=["system", "arm", "seed", "step", "loss"])
    figure, grid = plt.subplots(len(systems), 3, figsize=(11, 2.8 * len(systems)), squeeze=False)
    for (before, tuned, difference), system in zip(grid, systems, strict=True):
        arms = dict(iter(table[table.system == system].groupby("arm")))
        _draw_baseline(before, arms.get("baseline"), experiment.trio_of(system)["baseline"])
        for arm, marker in (("control", "s"), ("gated", "o")):
            plot_over_seeds(tuned, arms[arm], "step", "loss", arm, marker)
        tuned.set(title=f"{system}: fine-tuning", ylabel="loss")
        paired = arms["gated"].merge(arms["control"], on=["seed", "step"])
        paired["difference"] = paired["loss_x"] - paired["loss_y"]
        plot_over_seeds(difference, paired, "step", "difference", "gated − control")
        difference.axhline(0, color="grey", linewidth=0.6)
        difference.set_title(f"{system}: gated − control, seed by seed")
        for axes in (before, tuned, difference):
            axes.set_xlabel("training steps")
    grid[0][1].legend(fontsize=8)
    title = f"{experiment.name}: training loss, mean since the last log line; {over_seeds(table)}"
    return save_with_numbers("losses", figure, table, title)


def _draw_baseline(axes: Axes, losses: pd.DataFrame | None, name: str) -> None:
    """The loss of what is fine-tuned; of published weights there is none."""
    if losses is None:
        axes.set_title(f"{name}: published weights, not trained here")
        return
    plot_over_seeds(axes, losses, "step", "loss", name)
    axes.set(title=f"{name}: baseline", ylabel="loss")
