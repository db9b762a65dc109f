"""`rdm claims`."""

from __future__ import annotations

from pathlib import Path

import click

from rdm.cli.common import load_experiment, params_option, print_path, print_rows


@click.command()
@click.option(
    "--results",
    "kept",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Judge scores and figures that are kept in this folder without samples and weights, such as results/example.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@params_option
def claims(kept: Path | None, as_json: bool, params_file: str) -> None:
    """Judge each claim of the paper by the results that are there; the others are `not run`.

    The claims and the rule of the verdicts stand in claims.yaml, beside the parameter file. Writes results/claims.csv,
    .md and .html, as `rdm tables claims` does (with --results, into that folder), and prints what was tested.

    Exit code 3: a claim that a committed claims.csv below results/example calls supported at this scale no longer is.
    """
    experiment = load_experiment(params_file)
    from rdm.params import load_claims
    from rdm.tables import claims as tables
    from rdm.tables.claims_page import tested

    published = Path(params_file).with_name("published.csv")
    rules = load_claims(published.with_name("claims.yaml"))
    supported = tables.read_supported()
    table = tables.build_claims(experiment, rules, published, kept)
    written = tables.write(table, rules, kept)
    if as_json:
        click.echo(table.to_json(orient="records", indent=1))
    else:
        rows, summary = tested(table)
        print_rows(rows, as_json=False)
        click.echo(f"\n{summary}\n")
        for path in written:
            print_path(path)
    tables.require(table, supported)
