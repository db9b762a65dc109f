"""`rdm datasets`."""

from __future__ import annotations

from pathlib import Path

import click

from rdm.cli.common import print_rows

folder_option = click.option(
    "--folder", type=click.Path(path_type=Path), help="Where it lies; default: where params/paper.yaml looks for it."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")


@click.group()
def datasets() -> None:
    """The paper's data sets, and others' samples: where they come from, their terms, and whether all of one is there.

    `rdm data` then stores the ones that a parameter file names.
    """


@datasets.command("list")
@json_option
def datasets_list(as_json: bool) -> None:
    """List them with size, licence and address."""
    from rdm.data import published

    print_rows(published.rows(), as_json)


@datasets.command("fetch")
@click.argument("name")
@folder_option
def datasets_fetch(name: str, folder: Path | None) -> None:
    """Download of NAME what may be downloaded, say what is left to do by hand, and, when all is there, verify it.

    An interrupted download goes on where it stopped.
    """
    from rdm.data import fetching, published

    dataset = published.find(name)
    click.echo(f"{dataset.what}; {dataset.gigabytes} GB. Licence: {dataset.licence}.", err=True)
    steps = fetching.fetch_dataset(name, folder)
    for number, step in enumerate(steps, 1):
        click.echo(f"{number}. {step}")
    click.echo(f"Then: rdm datasets verify {name}" if steps else f"{name} is there, and whole.", err=True)


@datasets.command("verify")
@click.argument("name")
@folder_option
@json_option
def datasets_verify(name: str, folder: Path | None, as_json: bool) -> None:
    """Count the folders, files or images of NAME; the first number that is another is named.

    Of ImageNet's official archives, sizes and md5 are compared: minutes.
    """
    from rdm.data import fetching

    print_rows(fetching.verify_dataset(name, folder), as_json)
