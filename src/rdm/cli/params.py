"""`rdm params`."""

from __future__ import annotations

import json

import click

from rdm.cli.common import load_experiment, params_option


@click.group()
def params() -> None:
    """Look at parameter files."""


@params.command("show")
@params_option
@click.option("--json", "as_json", is_flag=True, help="Print everything, defaults included, as JSON.")
def params_show(params_file: str, as_json: bool) -> None:
    """Show what a parameter file means: every value, defaults included, and the runs it declares."""
    import yaml

    experiment = load_experiment(params_file)
    content = {**experiment.model_dump(mode="json"), "runs": list(experiment.runs)}
    click.echo(json.dumps(content, indent=1) if as_json else yaml.safe_dump(content, sort_keys=False), nl=as_json)


@params.command("check")
@click.argument("files", nargs=-1, required=True)
def params_check(files: tuple[str, ...]) -> None:
    """Check parameter FILES: unknown keys, missing keys, impossible values, names that nothing declares."""
    for file in files:
        experiment = load_experiment(file)
        click.echo(f"{file}: fine ({len(experiment.runs)} runs)")
