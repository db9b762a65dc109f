"""`rdm gates`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rdm.cli.common import load_experiment, params_option, print_path, print_rows


@click.group()
def gates() -> None:
    """What gates learnt; a network with its gates folded in; gates for a diffusers model of your own."""


@gates.command("show")
@click.argument("run", metavar="RUN | FOLDER")
@params_option
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def gates_show(run: str, params_file: str, as_json: bool) -> None:
    """Show alpha and beta of every unit: mean, spread and extremes over its channels.

    RUN is a gated run, FOLDER a diffusers model with a gates.safetensors beside its weights.
    """
    from rdm.train import gated

    print_rows(gated.show(_experiment_of(run, params_file), run), as_json)


@gates.command("fold")
@click.argument("run", metavar="RUN | FOLDER")
@click.argument("out", type=click.Path(path_type=Path))
@params_option
def gates_fold(run: str, out: Path, params_file: str) -> None:
    """Write a network with its gates folded into the weights: OUT, which diffusers' from_pretrained loads.

    Where folding would not be exact, the reason is given and nothing is written.
    """
    from rdm.train import gated

    print_path(gated.fold(_experiment_of(run, params_file), run, out))


@gates.command("attach")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--variant", default="rdm", show_default=True, help="rdm, adaln, skip or rezero.")
@click.option("--shape", default="channel", show_default=True, help="channel or scalar.")
@click.option("--unit", default="block", show_default=True, help="block or branch.")
@click.option("--time", default="static", show_default=True, help="static or embedded.")
@click.option("--alpha", default=1.0, show_default=True, help="alpha at the start; 1 changes nothing.")
@click.option("--name", "units", multiple=True, help="Gate this module; may be repeated. Default: all residual blocks.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def gates_attach(model: Path, out: Path, units: tuple[str, ...], as_json: bool, **gating: Any) -> None:
    """Attach gates to the diffusers model in the folder MODEL, and write it to OUT with gates.safetensors beside it.

    The weights stay what they were. In Python: load_gates(model, "OUT/gates.safetensors").
    """
    from rdm.params.files import validated
    from rdm.params.gates import Gating
    from rdm.train import gated

    print_rows(gated.attach(model, out, validated(Gating, gating, "gates"), list(units) or None), as_json)


def _experiment_of(run: str, params_file: str) -> Any:
    """The experiment in which `run` is named; a folder needs none."""
    return None if Path(run).is_dir() else load_experiment(params_file)
