"""The command line: one verb per stage, each usable alone. No logic, and no heavy import before it is needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from rdm import __version__
from rdm.errors import RdmError


class Commands(click.Group):
    """Turns the package's errors into one sentence and an exit code: 2 for usage, 1 for failure."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except RdmError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            reason = error.strerror or str(error)
            click.echo(f"Error: {error.filename or 'A file'}: {reason}; check owner, permissions and disk.", err=True)
            sys.exit(RdmError.exit_code)


params_option = click.option(
    "--params",
    "params_file",
    default="params/digits.yaml",
    show_default=True,
    envvar="RDM_PARAMS",
    show_envvar=True,
    help="The experiment's parameter file; protocols.yaml and published.csv are looked for beside it.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace a result that other parameters made.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Neural-RDM, reproduced: from data to Table 1, one stage at a time.

    \b
    data -> autoencoder -> latents -> train -> sample -> score -> tables
                           extractor ------------------^

    Every verb reads a parameter file and the results of the verbs before it, below the folder results/.
    `snakemake --cores all results/table1.csv` runs them all. Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


@main.command()
@click.argument("name")
@params_option
@overwrite_option
def data(name: str, params_file: str, overwrite: bool) -> None:
    """Store the data set NAME of the parameter file's `data` section as arrays.

    Writes results/data/NAME: images (uint8, NHWC) and labels of both splits.
    """
    experiment = _experiment(params_file)
    _known(name, experiment.data, "data set")
    from rdm.data import stage

    _done(stage.run(experiment, name, overwrite))


@main.command()
@click.argument("name")
@params_option
@overwrite_option
def autoencoder(name: str, params_file: str, overwrite: bool) -> None:
    """Train the VQ-VAE NAME of the parameter file's `latents` section.

    Writes results/autoencoder/DATASET/NAME, which diffusers' VQModel.from_pretrained loads. Needs: rdm data.
    """
    experiment = _experiment(params_file)
    _known(name, experiment.latents, "autoencoder")
    from rdm.latents import training

    _done(training.run(experiment, name, overwrite))


@main.command()
@click.argument("name")
@params_option
@overwrite_option
def latents(name: str, params_file: str, overwrite: bool) -> None:
    """Encode the training images with the autoencoder NAME.

    Writes results/latents/DATASET/NAME: safetensors shards and, in the manifest, their statistics.
    Needs: rdm autoencoder.
    """
    experiment = _experiment(params_file)
    _known(name, experiment.latents, "autoencoder")
    from rdm.latents import stage

    _done(stage.run(experiment, name, overwrite))


@main.command()
@params_option
@overwrite_option
def extractor(params_file: str, overwrite: bool) -> None:
    """Train the small classifier whose features score small data sets.

    Writes results/extractor/DATASET. Needs: rdm data. Not needed when the scores use the FID-Inception.
    """
    from rdm.score import classifier

    _done(classifier.run(_experiment(params_file), overwrite))


@main.command()
@click.argument("run")
@params_option
@overwrite_option
def train(run: str, params_file: str, overwrite: bool) -> None:
    """Train one RUN: EXPERIMENT-SYSTEM-sSEED, for example digits-dit-s0, digits-rdm-f-s0 or digits-rdm-f-control-s0.

    `rdm params show` lists the runs. Interrupted, it goes on where it was when it is started again.
    Writes results/train/RUN: EMA weights, gates, log. Needs: rdm latents; for a gated run, its start.
    """
    from rdm.train import stage

    _done(stage.run(_experiment(params_file), run, overwrite))


@main.command()
@click.argument("run")
@params_option
@overwrite_option
def sample(run: str, params_file: str, overwrite: bool) -> None:
    """Draw the images of one RUN, with each sampler that the table asks of it.

    Writes results/sample/RUN/SAMPLER: npz shards with arr_0 (uint8, NHWC) and labels arr_1. Image i depends on the
    seed and on i alone. Needs: rdm train.
    """
    from rdm.sample import stage

    for folder in stage.run(_experiment(params_file), run, overwrite):
        _done(folder)


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="RUN... | SAMPLES... | floor")
@params_option
def score(names: tuple[str, ...], params_file: str) -> None:
    """Score images: FID, sFID, IS, and how often the classifier sees the label asked for.

    RUN is a run of `rdm sample`; SAMPLES a published sample set that the parameter file names in score.samples; floor
    stands for real images of the other split: what a perfect generator would get.
    Writes results/score/.../PROTOCOL.json. Needs: rdm sample, rdm extractor.
    """
    from rdm.score import stage

    for path in stage.run(_experiment(params_file), list(names)):
        _done(path)


@main.command()
@params_option
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def tables(params_file: str, as_json: bool) -> None:
    """Put our scores beside the paper's: results/table1.csv, .md, .tex and results/figures/samples.png.

    Needs: rdm score of every run, and of the floor.
    """
    from rdm.tables import stage

    written = stage.run(_experiment(params_file), Path(params_file).with_name("published.csv"))
    if as_json:
        click.echo(json.dumps(stage.rows_as_json(written[0]), indent=1))
    else:
        for path in written:
            _done(path)


@main.group()
def params() -> None:
    """Look at parameter files."""


@params.command("show")
@params_option
@click.option("--json", "as_json", is_flag=True, help="Print everything, defaults included, as JSON.")
def params_show(params_file: str, as_json: bool) -> None:
    """Show what a parameter file means: every value, defaults included, and the runs it declares."""
    import yaml

    experiment = _experiment(params_file)
    content = {**experiment.model_dump(mode="json"), "runs": list(experiment.runs)}
    click.echo(json.dumps(content, indent=1) if as_json else yaml.safe_dump(content, sort_keys=False), nl=as_json)


@params.command("check")
@click.argument("files", nargs=-1, required=True)
def params_check(files: tuple[str, ...]) -> None:
    """Check parameter FILES: unknown keys, missing keys, impossible values, names that nothing declares."""
    for file in files:
        experiment = _experiment(file)
        click.echo(f"{file}: fine ({len(experiment.runs)} runs)")


def _experiment(params_file: str) -> Any:
    from rdm.params import load

    return load(params_file)


def _known(name: str, names: dict[str, Any], what: str) -> None:
    from rdm.errors import UsageError, nearest

    if name not in names:
        raise UsageError(f"There is no {what} {name!r} in the parameter file; {nearest(name, names)}")


def _done(path: Path) -> None:
    click.echo(path)
