"""`rdm figures`: quality against training steps by residual unit (the paper's Fig. 6), and against depth (Fig. 7)."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from rdm import paths
from rdm.errors import ArtefactError, UsageError
from rdm.params import Experiment
from rdm.params.dependencies import make_train, of_train
from rdm.params.derived import VARIANTS
from rdm.params.evaluation import Curve
from rdm.provenance.manifest import read
from rdm.tables.figures import over_seeds, plot_over_seeds, save_with_numbers
from rdm.tables.measured import HIGHER_IS_BETTER, pick, read_scores
from rdm.tables.pages import METRICS

UNITS = {
    "rdm": "V0 rdm, the paper's own: z + α F(z) + β",
    "adaln": "V1 adaln: z + F(α z + β)",
    "skip": "V2 skip: α z + F(z) + β",
    "resnet": "V3 resnet: z + F(z)",
    "rezero": "V4 rezero: z + α F(z), α from 0",
}
MARKERS = dict(zip(VARIANTS, "osD^v", strict=True))
FEATURES = {"classifier": "a small classifier", "inception": "FID-Inception", "i3d": "I3D"}
BACKWARD = 3  # a training step costs as much as three forward passes: the backward pass is two


def draw_figure6(experiment: Experiment) -> list[Path]:
    """Five residual units against training steps: figure6.csv, a row per seed and step, and figure6.png."""
    curve, rows = experiment.figures.figure6, []
    if curve is None:
        raise no_figure(experiment, "figure6")
    for variant, system in zip(VARIANTS, experiment.variants, strict=True):
        for step in sorted(curve.steps):
            values = _values(experiment, system, curve.at(step), curve)
            rows += [(variant, seed, step, *value) for seed, value in values.items()]
    table = pd.DataFrame(rows, columns=["variant", "seed", "step", "value", "standard_error"])
    figure, axes = plt.subplots(figsize=(8, 4.6))
    for variant in VARIANTS:
        chosen = table[table.variant == variant]
        plot_over_seeds(axes, chosen, "step", "value", UNITS[variant], MARKERS[variant])
    axes.set(xlabel="training steps", ylabel=_quality(experiment, curve))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    title = f"{experiment.name}: {curve.base} from random weights by residual unit; {over_seeds(table)}"
    base = experiment.train.baselines[curve.base].network
    if experiment.variants[f"{curve.base}-rezero"].network != base:
        title += "\nReZero starts from live blocks (adaLN's gates at 1), since α = 0 before adaLN-Zero never learns"
    return save_with_numbers("figure6", figure, table, title)


def draw_figure7(experiment: Experiment) -> list[Path]:
    """Quality by depth and by compute, with gates and without: figure7.csv, a row per run, and figure7.png."""
    curve, rows = experiment.figures.figure7, []
    if curve is None:
        raise no_figure(experiment, "figure7")
    for system, depth, gated, entry in experiment.by_depth:
        items = entry.batch * entry.steps
        for seed, value in _values(experiment, system, curve.sampler, curve).items():
            parameters, flops = _cost(experiment, system, seed)
            rows.append((depth, gated, seed, *value, parameters, flops / 1e9, BACKWARD * flops * items / 1e12))
    measured = ["value", "standard_error", "parameters", "forward_gflops", "train_tflops"]
    table = pd.DataFrame(rows, columns=["depth", "gated", "seed", *measured])
    figure, (by_depth, by_cost) = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for gated, label, marker in ((False, "without gates", "s"), (True, "with gates (V0 rdm)", "o")):
        for axes, x in ((by_depth, "depth"), (by_cost, "train_tflops")):
            plot_over_seeds(axes, table[table.gated == gated], x, "value", label, marker)
    by_depth.set(xlabel="depth, in blocks", ylabel=_quality(experiment, curve), xticks=sorted(set(table.depth)))
    by_cost.set(xlabel="training, in TFLOP (3 forward passes per item)")
    by_depth.legend(fontsize=8)
    title = f"{experiment.name}: {curve.base} from random weights, {curve.steps} steps; {over_seeds(table)}"
    return save_with_numbers("figure7", figure, table, title)


def no_figure(experiment: Experiment, name: str) -> UsageError:
    """What is said of a figure that the experiment does not describe."""
    return UsageError(f"Experiment {experiment.name!r} has no {name}; describe figures.{name} in its parameter file.")


def _values(experiment: Experiment, system: str, sampler: str, curve: Curve) -> dict[int, tuple[float, float]]:
    """Seed -> value and standard error."""
    measured = pick(read_scores(experiment, system, sampler, curve.score), curve.metric, curve.score)
    pairs = zip(measured.values, measured.errors, strict=True)
    return dict(zip(experiment.seeds_of(system), pairs, strict=True))


def _cost(experiment: Experiment, system: str, seed: int) -> tuple[int, int]:
    """Parameters, and FLOPs of one forward pass for one item, as the training recorded them."""
    run = paths.run_name(experiment.name, system, seed)
    facts = read(paths.train(run), make_train(run), of_train(experiment, run)).facts
    if "parameters" not in facts or "forward_flops" not in facts:
        raise ArtefactError(f"{paths.train(run)} does not say what it cost; run `{make_train(run)} --overwrite`.")
    return facts["parameters"], facts["forward_flops"]


def _quality(experiment: Experiment, curve: Curve) -> str:
    """The label of an axis: metric, what is scored, in whose eyes, at which scale."""
    extractor = FEATURES[experiment.extractor(curve.score).kind]
    better = "higher" if curve.metric in HIGHER_IS_BETTER else "lower"
    what = f"score {curve.score!r}, features of {extractor}"
    return f"{METRICS[curve.metric]} ({better} is better)\n{what}\nscale {experiment.tables.scale!r}"
