"""`rdm container`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rdm.cli.common import print_path, print_rows

engine_option = click.option(
    "--engine",
    type=click.Choice(["apptainer", "docker"]),
    help="Default: apptainer (or singularity) if it is on PATH, else docker if its daemon answers.",
)


@click.group()
def container() -> None:
    """The image in which `snakemake --use-singularity` runs everything: Python and the locked packages, no more.

    rdm itself comes from the checkout, so that an edit needs no new image. The image's name carries a digest of
    requirements.lock and of its definition in containers/: another lock is another image.
    """


@container.command("build")
@engine_option
@click.option(
    "--build-arg",
    "build_args",
    metavar="NAME=VALUE",
    multiple=True,
    envvar="RDM_BUILD_ARGS",
    show_envvar=True,
    help="Another value for an argument of the definition, for example BASE; may be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Build it even if it is there.")
def container_build(engine: str | None, build_args: tuple[str, ...], overwrite: bool) -> None:
    """Build the image of this checkout: containers/rdm-DIGEST.sif, or rdm:DIGEST in Docker.

    Needs the network, ten minutes and 20 GB; an ordinary user may do it. The only step that needs the network.
    """
    from rdm.containers.engine import choose
    from rdm.provenance.image import CHECKOUT

    print_path(choose(engine).build(CHECKOUT, build_args, overwrite))


@container.command("inspect")
@click.argument("image", required=False)
@engine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def container_inspect(image: str | None, engine: str | None, as_json: bool) -> None:
    """Show what IMAGE holds, whether it belongs to the present lock, and whether it sees a GPU.

    IMAGE is a file or a tag; default: that of this checkout.
    """
    from rdm.containers.engine import choose, describe
    from rdm.provenance.image import CHECKOUT

    facts = describe(choose(engine), CHECKOUT, image)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        print_rows([{"what": name, "value": value} for name, value in facts.items()], as_json=False)


@container.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@engine_option
@click.option(
    "--bind",
    "folders",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another folder that COMMAND sees, under its own name; may be repeated.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def container_run(engine: str | None, folders: tuple[Path, ...], command: tuple[str, ...]) -> None:
    """Run COMMAND in the image of this checkout: rdm container run -- rdm train digits-dit-s0.

    It sees the checkout, the working folder, what `results`, `.rdm` and `data` in it link to, the folders of
    RDM_PARAMS, RDM_CACHE and RDM_LOCK_DIR, and the GPUs. It ends as COMMAND ends.
    """
    from rdm.containers.engine import choose
    from rdm.provenance.image import CHECKOUT

    choose(engine).run(CHECKOUT, list(command), folders)
