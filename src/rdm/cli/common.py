"""What the verbs share: options, errors as one sentence, and how results are printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

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
        except BrokenPipeError:  # whoever reads the output has enough: click ends without a word
            raise
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
    help="The experiment's parameter file; protocols.yaml, published.csv and claims.yaml are looked for beside it.",
)
overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a result that is damaged, or that other parameters, inputs or code made. A current one stays.",
)
gpus_option = click.option(
    "--gpus",
    type=click.IntRange(min=1),
    help="Work on so many GPUs, on all machines of a Slurm job together. Default: all that a cluster gives, else one.",
)
part_option = click.option("--part", metavar="I/N", help="Only the I-th of N parts, each a job of its own.")


def parse_part(text: str | None) -> Any:
    """The part of a --part option, None without one."""
    from rdm.parts import Part

    return None if text is None else Part.parse(text)


def load_experiment(params_file: str) -> Any:
    """The parameter file as an object."""
    from rdm.params import load

    return load(params_file)


def check_known(name: str, names: dict[str, Any], what: str) -> None:
    """Raise UsageError with the nearest name unless `name` is one of `names`."""
    from rdm.errors import UsageError, nearest

    if name not in names:
        raise UsageError(f"There is no {what} {name!r}; {nearest(name, names)}")


def check_out(path: Path, suffix: str) -> None:
    """Raise UsageError, before any work, unless a file with this suffix (or, without one, a folder) can be written."""
    from rdm.errors import UsageError

    if suffix and (path.suffix != suffix or path.is_dir()):
        raise UsageError(f"{path}: the result is a file that ends in {suffix}; give it such a name.")
    if not suffix and path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file, where a folder is needed; name another.")
    place = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if not os.access(place, os.W_OK):
        raise UsageError(f"{path}: {place} may not be written to; name another place.")


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """A table for people, or JSON for programs."""
    import tabulate

    click.echo(json.dumps(rows, indent=1) if as_json else tabulate.tabulate(rows, headers="keys", floatfmt=".4f"))


def print_path(path: Path) -> None:
    """The result, by itself on a line."""
    click.echo(path)
