"""`rdm tables`: Table 1 or 2 in three formats, and the picture beside it; and the claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from rdm import paths
from rdm.params import Experiment, load_claims
from rdm.provenance.files import whole_file
from rdm.provenance.manifest import noted
from rdm.tables import claims
from rdm.tables.build import build_table1, build_table2
from rdm.tables.figures import draw_clips, draw_samples
from rdm.tables.pages import page1, page2
from rdm.tables.render import to_csv, to_latex, to_markdown

# how a table is built, laid out, and what is drawn beside it
TABLES = {
    "table1": (build_table1, page1, draw_samples, "samples"),
    "table2": (build_table2, page2, draw_clips, "clips"),
}


def run(experiment: Experiment, published: Path, name: str) -> list[Path]:
    """Write a table (`table1`: images, `table2`: videos) and its picture; returns their paths, the CSV first.

    `claims`: a verdict on each claim in claims.yaml, beside `published`; it has no picture.
    """
    if name == "claims":
        rules = load_claims(published.with_name("claims.yaml"))
        return claims.write(claims.build_claims(experiment, rules, published), rules)
    build, lay_out, draw, picture = TABLES[name]
    written = []
    with noted(paths.table(name, "csv")):
        table = build(experiment, published)
        page = lay_out(table, experiment)
        contents = {"csv": to_csv(table), "md": to_markdown(page), "tex": to_latex(page)}
        for suffix, content in contents.items():
            path = paths.table(name, suffix)
            with whole_file(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
            written.append(path)
    return [*written, draw(experiment, paths.figure(picture))]


def rows_as_json(csv_path: Path) -> list[dict[str, Any]]:
    """The rows of a written table, empty cells as null."""
    rows: list[dict[str, Any]] = json.loads(pd.read_csv(csv_path).to_json(orient="records"))
    return rows
