"""`rdm models`."""

from __future__ import annotations

from pathlib import Path

import click

from rdm.cli.common import print_path


@click.group()
def models() -> None:
    """Published weights, as the networks of this package."""


@models.group("import")
def models_import() -> None:
    """Write a published checkpoint as a folder that from_pretrained and `rdm gates` load."""


@models_import.command("latte")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--heads", default=16, show_default=True, help="Attention heads: the one size that FILE does not tell.")
def models_import_latte(file: Path, folder: Path, heads: int) -> None:
    """Write Latte's own checkpoint FILE (skytimelapse.pt, taichi-hd.pt, ucf101.pt) to FOLDER.

    Loaded by rdm.models.latte.Latte.from_pretrained. Every tensor of FILE is used, or the import is refused.
    """
    from rdm.models import official

    print_path(official.convert_latte(file, folder, heads))
