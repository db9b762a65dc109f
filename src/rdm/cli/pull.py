"""`rdm pull`."""

from __future__ import annotations

from pathlib import Path

import click

from rdm.cli.common import load_experiment, params_option


@click.command()
@click.option("--remote", help="Where to pull from: a name of `dvc remote list`. Default: the default remote.")
@click.option("--force", is_flag=True, help="Replace results here that DVC has no copy of.")
@params_option
def pull(remote: str | None, force: bool, params_file: str) -> None:
    """Fetch results that `dvc push` has stored, so that Snakemake, too, knows what they were made with.

    `dvc pull` alone brings files of any date, and no notes of parameters and code. Results of other parameters or code
    than the present ones are fetched, too, and the next run makes them anew.
    """
    experiment = load_experiment(params_file)
    from rdm.provenance import pull

    done, others = pull.run(experiment, Path(params_file), remote, force)
    message = f"{done} jobs are done"
    if others:
        message += f"; {len(others)} were done with other parameters or code and will be done anew, first `{others[0]}`"
    click.echo(f"{message}.")
