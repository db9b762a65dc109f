"""`rdm plan`."""

from __future__ import annotations

import json
import math

import click

from rdm.cli.common import load_experiment, params_option, print_rows


@click.command()
@click.option("--gpu", type=click.Choice(["a100", "h100", "h200"]), default="h100", show_default=True)
@click.option(
    "--utilisation",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.4,
    show_default=True,
    help="The share of the GPU's peak that is reached: an assumption.",
)
@click.option(
    "--items",
    "items",
    multiple=True,
    metavar="DATASET=N",
    help="Training images or videos of a data set in a folder that params/paper.yaml does not name; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the three tables as JSON.")
@params_option
def plan(gpu: str, utilisation: float, items: tuple[str, ...], as_json: bool, params_file: str) -> None:
    """Say what an experiment costs before anything runs: jobs, GPU hours, disk, memory, stage by stage, and downloads.

    FLOPs are counted layer by layer; a multiply-add is two (DiT-XL/2 at 256 pixels: 118.6 G multiply-adds, 237.2
    GFLOP). Hours are FLOPs over the GPU's peak, in the precision that `performance` asks for, times --utilisation. Text
    encoders are reckoned from their sizes; of the small classifiers nothing is counted. A training that does not fit on
    one GPU is dealt to the fewest that hold it. `done` and `hours so far` are of results that are there already, on
    whatever device they were made. Where benchmarks/gpu.py has run on this GPU, its numbers stand beside the plan's.
    """
    from rdm.errors import UsageError

    if math.isnan(utilisation):
        raise UsageError(f"--utilisation {utilisation}: write a number above 0 and not above 1, such as 0.4.")
    counts = {}
    for item in items:
        name, equals, count = item.partition("=")
        if not (equals and count.isdecimal() and int(count)):
            raise UsageError(f"--items {item}: write DATASET=N, such as imagenet=1281167.")
        counts[name] = int(count)
    experiment = load_experiment(params_file)
    from rdm.plan import downloads, measured, stage, text

    tables = {
        "stages": stage.table(experiment, counts, gpu, utilisation),
        "downloads": downloads.table(experiment),
        "measured": measured.table(gpu, utilisation),
    }
    for folder in text.unknown(experiment):
        click.echo(f"What the text encoder {folder} costs is not known and not counted.", err=True)
    for place in downloads.uncounted(experiment):
        click.echo(f"How large {place} is, is not known; it is not counted among the downloads.", err=True)
    if as_json:
        click.echo(json.dumps(tables, indent=1))
        return
    for rows in filter(None, tables.values()):
        print_rows(rows, as_json=False)
        click.echo()
    if not tables["measured"]:
        click.echo(f"Nothing has been measured on {gpu} yet; `python benchmarks/gpu.py` does it there.", err=True)
