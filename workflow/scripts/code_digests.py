"""Write a digest of each verb's code, without comments, to results/code: what DVC's stages follow instead of files.

Refuses if dvc.yaml is not that of the parameter file PARAMS: some jobs would be missing.
"""

import sys
from pathlib import Path

import click
from write_dvc import CODE, Pipeline

from rdm.errors import RdmError
from rdm.provenance.code import ENTRY, code_digest
from rdm.provenance.files import whole_folder


@click.command(help=__doc__)
@click.argument("params", type=click.Path(exists=True, dir_okay=False))
def main(params: str) -> None:
    try:
        expected = Pipeline(params).files()
    except RdmError as error:
        sys.exit(f"Error: {error}")
    for name, text in expected.items():
        if Path(name).read_text() != text:
            sys.exit(f"Error: {name} is not that of {params}; run `python workflow/scripts/write_dvc.py {params}`.")
    with whole_folder(Path(CODE)) as folder:
        for verb in ENTRY:
            (folder / verb).write_text(f"{code_digest(verb)}\n")


if __name__ == "__main__":
    main()
