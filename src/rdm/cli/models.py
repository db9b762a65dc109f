"""`rdm models`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from rdm.cli.common import print_path, print_rows


def _numbers(_: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse 8,16,32."""
    from rdm.errors import UsageError

    if value is None:
        return None
    if not re.fullmatch(r"-?\d+(,-?\d+)*", value):
        raise UsageError(f"--{option.name} {value}: give a number, or several with commas between them.")
    return tuple(int(number) for number in value.split(","))


@click.group()
def models() -> None:
    """Published weights, as the networks of this package."""


@models.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--heads",
    callback=_numbers,
    help="Attention heads, which FILE does not tell. Default: 16 of DiT and Latte, of ADM 64 channels each. Of LDM at "
    "each resolution: 1,1,1,1 (LDM-4) or 8,16,32 (LDM-8).",
)
@click.option("--autoencoder", is_flag=True, help="Of an LDM's FILE, take the autoencoder instead of the U-Net.")
def models_import(file: Path, folder: Path, heads: tuple[int, ...] | None, autoencoder: bool) -> None:
    """Write a published checkpoint FILE to FOLDER, for `rdm gates` and from_pretrained.

    FILE: DiT's own (DiT-XL-2-256x256.pt), Latte's (skytimelapse.pt, taichi-hd.pt, ucf101.pt), a class-conditional
    LDM's (model.ckpt), ADM's (256x256_diffusion.pt, 256x256_classifier.pt), or an autoencoder (VQ-f4, VQ-f8, KL-f8,
    Stable Diffusion's), alone or in an LDM's file. Every tensor of the network that is taken is used, or the import
    is refused. FOLDER is loaded by rdm.models.dit.DiT, rdm.models.latte.Latte, diffusers' UNet2DConditionModel (LDM),
    UNet2DModel (ADM), VQModel and AutoencoderKL, or rdm.models.adm.NoisyClassifier.
    """
    from rdm.errors import UsageError
    from rdm.latents import official
    from rdm.models import published

    if not (autoencoder or official.is_autoencoder(file)):
        print_path(published.convert(file, folder, heads))
    elif heads is not None:
        raise UsageError("--heads is of no use here: the attention of all autoencoders has one head; leave it out.")
    else:
        print_path(official.convert(file, folder))


@models.command("fetch")
@click.argument("name", required=False)
@click.option("--folder", type=click.Path(path_type=Path), default="data", show_default=True, help="Where files go.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def models_fetch(name: str | None, folder: Path, as_json: bool) -> None:
    """Download the published weights NAME, and verify them; without NAME, list what there is.

    An interrupted download goes on where it stopped. Where no digest was published, that of the first download is kept
    beside the file, and holds from then on.
    """
    from rdm.models import registry

    if name is None:
        print_rows(registry.rows(), as_json)
        return
    weights = registry.find(name)
    click.echo(f"{weights.what}; {weights.gigabytes} GB. Licence: {weights.licence}.", err=True)
    print_path(registry.fetch_weights(name, folder))
