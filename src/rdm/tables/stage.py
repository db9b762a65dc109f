"""`rdm tables`: Table 1 in three formats, and the picture beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from rdm import paths
from rdm.params import Experiment
from rdm.provenance.files import whole_file
from rdm.tables.build import build_table1
from rdm.tables.figures import draw_samples
from rdm.tables.render import to_csv, to_latex, to_markdown


def run(experiment: Experiment, published: Path) -> list[Path]:
    """Write Table 1 and the sample picture; returns their paths, the CSV first."""
    table = build_table1(experiment, published)
    picture = draw_samples(experiment, paths.figure("samples"))
    contents = {
        "csv": to_csv(table),
        "md": to_markdown(table, experiment),
        "tex": to_latex(table, experiment),
    }
    written = []
    for suffix, content in contents.items():
        path = paths.table("table1", suffix)
        with whole_file(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
        written.append(path)
    return [*written, picture]


def rows_as_json(csv_path: Path) -> list[dict[str, Any]]:
    """The rows of a written table, empty cells as null."""
    rows: list[dict[str, Any]] = json.loads(pd.read_csv(csv_path).to_json(orient="records"))
    return rows
