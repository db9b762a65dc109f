"""The command line: one verb per stage, each usable alone. No logic, and no heavy import before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from rdm import __version__
from rdm.cli.claims import claims
from rdm.cli.common import (
    Commands,
    check_known,
    gpus_option,
    load_experiment,
    overwrite_option,
    params_option,
    parse_part,
    part_option,
    print_path,
)
from rdm.cli.container import container
from rdm.cli.datasets import datasets
from rdm.cli.explain import card, explain
from rdm.cli.gates import gates
from rdm.cli.models import models
from rdm.cli.params import params
from rdm.cli.plan import plan
from rdm.cli.pull import pull
from rdm.cli.score import score
from rdm.launch import spread


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Neural-RDM, reproduced: from data to Tables 1 and 2, one stage at a time.

    \b
    data -> autoencoder -> latents -> train -> sample -> score -> tables
                           extractor ------------------^

    `gates` and `figures` look into what was trained, `explain` says where a number comes from; `models` imports
    published weights, `datasets` says where the paper's data are; `container` builds the image for
    `snakemake --use-singularity`.

    Every verb reads a parameter file and the results of the verbs before it, below the folder results/.
    `snakemake --cores all results/table1.csv` runs them all. Exit codes: 0 done, 1 failed, 2 wrong usage, and 3 of
    `rdm claims`, where a supported claim no longer is.
    """


@main.command()
@click.argument("name")
@params_option
@overwrite_option
def data(name: str, params_file: str, overwrite: bool) -> None:
    """Store the data set NAME of the parameter file's `data` section.

    Writes results/data/NAME: images (uint8, NHWC) or clips (NTHWC) and labels of both splits; of clips that are made
    anew whenever they are read, what they are; of photographs with `stored: false`, an index of their files.
    """
    experiment = load_experiment(params_file)
    check_known(name, experiment.data, "data set")
    from rdm.data import stage

    print_path(stage.run(experiment, name, overwrite))


@main.command()
@click.argument("name")
@params_option
@overwrite_option
def autoencoder(name: str, params_file: str, overwrite: bool) -> None:
    """Train the VQ-VAE of NAME in the parameter file's `latents` section.

    Writes results/autoencoder/DATASET/NAME, which diffusers' VQModel.from_pretrained loads. Needs: rdm data.
    """
    experiment = load_experiment(params_file)
    check_known(name, experiment.latents, "entry of latents")
    from rdm.latents import training

    print_path(training.run(experiment, name, overwrite))


@main.command()
@click.argument("name")
@gpus_option
@params_option
@overwrite_option
def latents(name: str, gpus: int | None, params_file: str, overwrite: bool) -> None:
    """Encode the training images of NAME in the parameter file's `latents` section.

    Interrupted, it goes on at the next shard. Each of several GPUs takes its share of the shards, whose bytes stay the
    same. Writes results/latents/DATASET/NAME: safetensors shards and, in the manifest, their statistics.
    Needs: rdm autoencoder.
    """
    experiment = load_experiment(params_file)
    check_known(name, experiment.latents, "entry of latents")
    spread(experiment.device, gpus)
    from rdm.latents import stage
    from rdm.progress import is_first

    folder = stage.run(experiment, name, overwrite)
    if is_first():
        print_path(folder)


@main.command()
@click.argument("name")
@params_option
@overwrite_option
def extractor(name: str, params_file: str, overwrite: bool) -> None:
    """Train the small classifier whose features are compared in NAME of the parameter file's `score` section.

    Writes results/extractor/DATASET/NAME. Needs: rdm data. Not needed where the FID-Inception or I3D is used.
    """
    experiment = load_experiment(params_file)
    check_known(name, experiment.score, "score")
    from rdm.score import classifier

    print_path(classifier.run(experiment, name, overwrite))


@main.command()
@click.argument("run")
@gpus_option
@click.option(
    "--tracker",
    "trackers",
    type=click.Choice(["tensorboard", "mlflow", "wandb"]),
    multiple=True,
    envvar="RDM_TRACKER",
    show_envvar=True,
    help="Show the training there, too; may be repeated. Needs the extra of the same name; changes no result.",
)
@params_option
@overwrite_option
def train(run: str, gpus: int | None, trackers: tuple[str, ...], params_file: str, overwrite: bool) -> None:
    """Train one RUN: EXPERIMENT-SYSTEM-sSEED, for example digits-dit-s0, digits-rdm-f-s0 or digits-rdm-f-control-s0.

    `rdm params show` lists the runs. Interrupted, it goes on where it was when it is started again.
    Each of several GPUs takes its share of the batch. Writes results/train/RUN: EMA weights, gates, log.
    Needs: rdm latents; for a gated run, its start.
    """
    experiment = load_experiment(params_file)
    experiment.find_run(run)
    spread(experiment.device, gpus)
    from rdm.progress import is_first
    from rdm.train import stage

    folder = stage.run(experiment, run, overwrite, trackers)
    if is_first():
        print_path(folder)


@main.command()
@click.argument("run")
@part_option
@gpus_option
@params_option
@overwrite_option
def sample(run: str, part: str | None, gpus: int | None, params_file: str, overwrite: bool) -> None:
    """Draw the images or clips of one RUN, with each sampler that tables and figures ask of it.

    Writes results/sample/RUN/SAMPLER: npz shards with arr_0 (uint8, NHWC or NTHWC) and labels arr_1. Item i depends on
    the seed and on i alone. Of clips also SAMPLER.mp4 and SAMPLER.gif, to watch. Needs: rdm train.

    With --part, draws one of N parts, for N jobs side by side; the call without it then joins them. Each of several
    GPUs takes its share of the shards, whose bytes stay the same.
    """
    experiment = load_experiment(params_file)
    chosen = parse_part(part)
    spread(experiment.device, gpus)
    from rdm.progress import is_first
    from rdm.sample import stage

    for folder in stage.run(experiment, run, overwrite, chosen):
        if is_first():
            print_path(folder)


@main.command()
@click.argument("name", default="table1")
@params_option
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def tables(name: str, params_file: str, as_json: bool) -> None:
    """Put our scores beside the paper's: NAME is table1 (images) or table2 (videos), or claims: see `rdm claims`.

    Writes results/NAME.csv, .md, .tex, .html, the runs behind it (NAME-runs.csv, .html), and pictures:
    results/figures/samples.png, or clips.png and moving-clips.png; of claims .csv, .md and .html.
    Needs: rdm score of every run in it, and of the floors. A claim whose scores are not there is `not run`.
    """
    experiment = load_experiment(params_file)
    check_known(name, {n: t for n, t in experiment.tables if n.startswith("table") and t} | {"claims": None}, "table")
    from rdm.tables import stage

    written = stage.run(experiment, Path(params_file).with_name("published.csv"), name)
    if as_json:
        click.echo(json.dumps(stage.rows_as_json(written[0]), indent=1))
    else:
        for path in written:
            print_path(path)


@main.command()
@click.argument("name")
@params_option
def figures(name: str, params_file: str) -> None:
    """Draw the figure NAME.

    \b
    figure5  sensitivity by depth        needs: rdm train of the runs that it shows
    gates    alpha and beta by depth     the same
    figure6  variants of residual units  needs: rdm score of the runs that it shows
    figure7  quality by depth            the same
    losses   training loss by step       needs: rdm train of the runs that it shows
    rates    gates trained faster        needs: rdm train and rdm score of these

    Writes results/figures/NAME.png and the numbers in it, NAME.csv.
    """
    experiment = load_experiment(params_file)
    from rdm.tables.profiles import FIGURES

    check_known(name, {n: draw for n, draw in FIGURES.items() if getattr(experiment.figures, n, draw)}, "figure")
    for path in FIGURES[name](experiment):
        print_path(path)


@main.command()
@params_option
def unlock(params_file: str) -> None:
    """Remove the lock that a killed Snakemake left in this folder. Make sure that none is at work here."""
    from rdm.errors import RdmError, UsageError

    if not Path("Snakefile").is_file():
        raise UsageError("There is no Snakefile here; go to the folder in which snakemake was started.")
    command = [sys.executable, "-m", "snakemake", "--unlock", "--configfile", params_file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RdmError(f"snakemake --unlock failed: {done.stderr.strip().splitlines()[-1]}")


main.add_command(card)
main.add_command(claims)
main.add_command(container)
main.add_command(datasets)
main.add_command(explain)
main.add_command(gates)
main.add_command(models)
main.add_command(params)
main.add_command(plan)
main.add_command(pull)
main.add_command(score)
