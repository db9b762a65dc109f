"""Figures 6 and 7 from score files and manifests written by hand."""

import pandas as pd
import pytest
from matplotlib.image import imread

from rdm import params, paths
from rdm.errors import ArtefactError, UsageError
from rdm.tables import curves
from rdm.tables.curves import draw_figure6, draw_figure7
from rdm.tables.profiles import FIGURES, draw_figure5
from tests.conftest import CI
from tests.tables.handmade import with_seeds, write_sample, write_scores, write_train

VARIANTS = ["rdm", "adaln", "skip", "resnet", "rezero"]
SEEDS = [3, 5]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """The ci experiment with two seeds."""
    monkeypatch.chdir(tmp_path)
    return with_seeds(params.load(CI), SEEDS)


def write_variants(experiment, score="images", metric="fid"):
    for number, variant in enumerate(VARIANTS):
        for step, sampler in ((2, "plain-step2"), (4, "plain")):
            values = [(10 * number + step + seed, 0.1 * step) for seed in SEEDS]
            write_scores(experiment, f"dit-{variant}", sampler, score, {metric: values})


def write_depths(experiment):
    for depth in (1, 2):
        for ending, better in (("", 0), ("-gated", 1)):
            system = f"dit-depth{depth}{ending}"
            for seed in SEEDS:
                run = paths.run_name("ci", system, seed)
                write_sample(experiment, run, "plain")
                cost = {"parameters": 1000 * depth + better, "forward_flops": 5_000_000 * depth + better}
                write_train(experiment, run, **cost)
            values = [(20 / depth - better + seed, 0.5) for seed in SEEDS]
            write_scores(experiment, system, "plain", "images", {"fid": values})


def lines_of(monkeypatch):
    """What is plotted: label -> (x, mean, lower, upper), as matplotlib gets it."""
    plotted = {}

    def spy(figure, path):
        for axes in figure.axes:
            for line, band in zip(axes.lines, axes.collections, strict=True):
                corners = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"]).groupby("x")["y"]
                plotted[axes.get_xlabel(), line.get_label()] = (
                    line.get_xdata().tolist(), line.get_ydata().tolist(), corners.min().tolist(), corners.max().tolist()
                )  # fmt: skip
        plotted["title"], plotted["y"] = figure.get_suptitle(), figure.axes[0].get_ylabel()
        return save(figure, path)

    save = curves.save_with_numbers.__globals__["save"]
    monkeypatch.setitem(curves.save_with_numbers.__globals__, "save", spy)
    return plotted


def test_figure6_is_each_variant_over_steps_and_seeds(experiment, monkeypatch):
    write_variants(experiment)
    plotted = lines_of(monkeypatch)
    picture, numbers = draw_figure6(experiment)
    assert imread(picture).std() > 0.05
    table = pd.read_csv(numbers)
    assert list(table.columns) == ["variant", "seed", "step", "value", "standard_error"]
    assert len(table) == 5 * 2 * 2
    row = table[(table.variant == "skip") & (table.seed == 5) & (table.step == 2)].iloc[0]
    assert (row["value"], row["standard_error"]) == (27.0, 0.2)
    steps, mean, low, high = plotted["training steps", "V2 skip: α z + F(z) + β"]
    assert (steps, mean) == ([2, 4], [26.0, 28.0])  # seeds 3 and 5: 20 + step + 4
    assert low == pytest.approx([26 - 2**0.5, 28 - 2**0.5])
    assert high == pytest.approx([26 + 2**0.5, 28 + 2**0.5])
    assert "ReZero starts from live blocks" in plotted["title"]
    assert "over 2 seeds" in plotted["title"]
    assert plotted["y"].startswith("FID (lower is better)\nscore 'images', features of a small classifier\nscale 'ci'")
    assert sum(label.startswith("V") for _, label in [key for key in plotted if len(key) == 2]) == 5


def test_figure7_sets_quality_against_depth_and_cost(experiment, monkeypatch):
    write_depths(experiment)
    plotted = lines_of(monkeypatch)
    picture, numbers = draw_figure7(experiment)
    assert imread(picture).std() > 0.05
    table = pd.read_csv(numbers)
    assert list(table.columns) == [
        *("depth", "gated", "seed", "value", "standard_error", "parameters", "forward_gflops", "train_tflops")
    ]
    assert len(table) == 2 * 2 * 2
    row = table[(table.depth == 2) & table.gated & (table.seed == 3)].iloc[0]
    assert (row["value"], row["standard_error"], row["parameters"]) == (12.0, 0.5, 2001)
    assert row["forward_gflops"] == pytest.approx(0.010000001)
    entry = experiment.systems["dit-depth2"]
    assert row["train_tflops"] == pytest.approx(3 * 10_000_001 * entry.batch * 4 / 1e12)
    assert plotted["depth, in blocks", "without gates"][:2] == ([1, 2], [24.0, 14.0])
    assert plotted["depth, in blocks", "with gates (V0 rdm)"][:2] == ([1, 2], [23.0, 13.0])
    cost = "training, in TFLOP (3 forward passes per item)"
    assert plotted[cost, "without gates"][0] == pytest.approx([3 * n * 5e6 * entry.batch * 4 / 1e12 for n in (1, 2)])


@pytest.mark.parametrize(("write", "draw"), [(write_variants, draw_figure6), (write_depths, draw_figure7)])
def test_drawing_again_gives_the_same_bytes(experiment, write, draw):
    write(experiment)
    first = [path.read_bytes() for path in draw(experiment)]
    assert [path.read_bytes() for path in draw(experiment)] == first


def test_one_seed_has_no_band(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = params.load(CI)
    for variant in VARIANTS:
        for sampler in ("plain-step2", "plain"):
            write_scores(experiment, f"dit-{variant}", sampler, "images", {"fid": [(1.0, 0.1)]})
    plotted = lines_of(monkeypatch)
    draw_figure6(experiment)
    _, mean, low, high = plotted["training steps", "V3 resnet: z + F(z)"]
    assert mean == low == high == [1.0, 1.0]
    assert "one seed" in plotted["title"]


def test_what_is_missing_is_named(experiment):
    write_variants(experiment)
    paths.score("ci-dit-rezero-s5", "plain-step2", "ci").unlink()
    with pytest.raises(ArtefactError, match="plain-step2.*not there yet; run `rdm score ci-dit-rezero-s5`"):
        draw_figure6(experiment)
    write_variants(experiment, metric="sfid")
    with pytest.raises(UsageError, match="score.images gives no 'fid'"):
        draw_figure6(experiment)


@pytest.mark.parametrize("name", ["figure6", "figure7", "rates"])
def test_a_figure_that_is_not_described(write_params, name):
    experiment = params.load(write_params(lambda content: content["figures"].pop(name)))
    with pytest.raises(UsageError, match=f"'ci' has no {name}; describe figures.{name}"):
        FIGURES[name](experiment)


def test_a_run_that_does_not_say_what_it_cost(experiment):
    write_depths(experiment)
    write_train(experiment, "ci-dit-depth1-gated-s5")
    with pytest.raises(ArtefactError, match="not say what it cost; run `rdm train ci-dit-depth1-gated-s5 --overwrite`"):
        draw_figure7(experiment)


def test_figure5_shows_the_systems_that_it_names(write_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(content):
        content["figures"]["figure5"]["systems"] = ["sky-rdm"]

    experiment = params.load(write_params(change))
    log = "".join(f'{{"step": {step}, "sensitivity": [-0.5, -{step}.0]}}\n' for step in (2, 4))
    for system in experiment.figure_systems("figure5"):
        write_train(experiment, f"ci-{system}-s0", log)
    picture, numbers = draw_figure5(experiment)
    assert imread(picture).std() > 0.05
    table = pd.read_csv(numbers)
    assert set(table.system) == {"sky-rdm"}
    assert len(table) == 3 * 2 * 3  # arms, steps, states


def test_every_figure_has_its_systems():
    experiment = params.load(CI)
    assert list(FIGURES) == ["figure5", "figure6", "figure7", "gates", "losses", "rates"]
    assert all(experiment.figure_systems(name) for name in FIGURES)
