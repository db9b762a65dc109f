"""Write the scores' values alone, means over seeds, to results/metrics/SYSTEM.json: what `dvc metrics` shows."""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import click

from rdm.errors import RdmError
from rdm.params import Experiment, load
from rdm.provenance import graph
from rdm.provenance.files import write_json

METRICS = Path("results/metrics")


@click.command(help=__doc__)
@click.argument("params", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("systems", metavar="SYSTEM...", nargs=-1, required=True)
def main(params: Path, systems: tuple[str, ...]) -> None:
    try:
        experiment = load(params)
        for system in systems:
            if system not in experiment.systems:
                sys.exit(f"Error: {params} has no system {system!r}.")
            write_json(METRICS / f"{system}.json", means(experiment, system))
    except (RdmError, FileNotFoundError) as error:
        sys.exit(f"Error: {error}")


def means(experiment: Experiment, system: str) -> dict[str, float]:
    """SAMPLER.PROTOCOL.METRIC -> the mean over the system's seeds."""
    values = defaultdict(list)
    for path in graph.score(experiment, system).makes:
        for metric, estimate in json.loads(path.read_text())["values"].items():
            values[path.parent.name, path.stem, metric].append(estimate["value"])
    return {".".join(names): statistics.fmean(found) for names, found in values.items()}


if __name__ == "__main__":
    main()
