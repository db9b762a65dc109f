"""`rdm explain` and `rdm card`."""

from __future__ import annotations

from pathlib import Path

import click

from rdm.cli.common import load_experiment, params_option, print_path


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--row", help="Of a table: the method, as the table names it.")
@click.option("--column", help="Of a table: the column, as the table's .md names it, for example 'FID ours'.")
@click.option(
    "--ro-crate", "crate", type=click.Path(path_type=Path), help="Write the chain as an RO-Crate, a new folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print the chain as JSON.")
@params_option
def explain(
    result: Path, row: str | None, column: str | None, crate: Path | None, as_json: bool, params_file: str
) -> None:
    """Say where a RESULT comes from: every step back to the data set's sha256.

    RESULT is a table (results/table1.csv), a score's JSON, or the folder of samples, of a run, of latents, an
    autoencoder, a classifier or a data set; of results/ or of a copy such as results/example/.

    Each file is hashed anew, and each manifest held against what it was made from: a chain that is broken is an error,
    which names the verb to run. Where an input is not here, the chain ends, and that is said.

    \b
    rdm explain results/table1.csv --row Neural-RDM-F --column 'FID ours'
    """
    experiment = load_experiment(params_file)
    from rdm.tables import explain as chain

    found = chain.explain(experiment, Path(params_file).with_name("published.csv"), result, row, column)
    if crate is not None:
        from rdm.provenance.crate import write_crate

        print_path(write_crate(crate, found.steps, [Path(params_file)]))
    else:
        click.echo(chain.as_json(found) if as_json else chain.render(found))


@click.command()
@click.argument("run")
@params_option
def card(run: str, params_file: str) -> None:
    """Print the model card of a RUN with its scores, as far as there are some.

    results/train/RUN/README.md is the same card as it was when the training ended, without scores. Scores of other
    samples, or samples of another training, are refused. Needs: rdm train.
    """
    experiment = load_experiment(params_file)
    from rdm.tables import explain as chain

    click.echo(chain.card_of(experiment, run), nl=False)
