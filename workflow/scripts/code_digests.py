"""Write a digest of each verb's code, without comments, to results/code: what DVC's stages follow instead of files.

python workflow/scripts/code_digests.py PARAMS
Refuses if dvc.yaml is not that of the parameter file PARAMS: some jobs would be missing.
"""

import sys
from pathlib import Path

from write_dvc import CODE, Pipeline

from rdm.errors import RdmError
from rdm.provenance.code import ENTRY, code_digest
from rdm.provenance.files import whole_folder

if __name__ == "__main__":
    file = sys.argv[1]
    try:
        expected = Pipeline(file).files()
    except RdmError as error:
        sys.exit(f"Error: {error}")
    for name, text in expected.items():
        if Path(name).read_text() != text:
            sys.exit(f"Error: {name} is not that of {file}; run `python workflow/scripts/write_dvc.py {file}`.")
    with whole_folder(Path(CODE)) as folder:
        for verb in ENTRY:
            (folder / verb).write_text(f"{code_digest(verb)}\n")
