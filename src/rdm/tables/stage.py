"""`rdm tables`: Table 1 or 2 in four formats, the runs that it rests on, and pictures beside it; and the claims."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from rdm import paths
from rdm.params import Experiment, load_claims
from rdm.provenance.files import whole_file
from rdm.provenance.graph import PICTURES
from rdm.provenance.manifest import noted
from rdm.tables import claims
from rdm.tables.build import build_table1, build_table2
from rdm.tables.figures import draw_clips, draw_samples
from rdm.tables.pages import page1, page2
from rdm.tables.render import to_csv, to_html, to_latex, to_markdown
from rdm.tables.runs import list_runs, page_of_runs

# how a table is built, laid out, and what draws the pictures beside it
TABLES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., list[Path]]]] = {
    "table1": (build_table1, page1, draw_samples),
    "table2": (build_table2, page2, draw_clips),
}


def run(experiment: Experiment, published: Path, name: str) -> list[Path]:
    """Write a table (`table1`: images, `table2`: videos) and what belongs to it; returns the paths, its CSV first.

    `claims`: a verdict on each claim in claims.yaml, beside `published`; runs and pictures are those of the tables.
    """
    if name == "claims":
        rules = load_claims(published.with_name("claims.yaml"))
        return claims.write(claims.build_claims(experiment, rules, published), rules)
    build, lay_out, draw = TABLES[name]
    with noted(paths.table(name, "csv")):
        table, runs = build(experiment, published), list_runs(experiment, name)
        page, title = lay_out(table, experiment), f"Table {name[-1]} at the scale {experiment.tables.scale}"
        contents = {
            paths.table(name, "csv"): to_csv(table),
            paths.table(name, "md"): to_markdown(page),
            paths.table(name, "tex"): to_latex(page),
            paths.table(name, "html"): to_html(page, title),
            paths.table_runs(name, "csv"): to_csv(runs),
            paths.table_runs(name, "html"): to_html(page_of_runs(runs), f"The runs of {title}"),
        }
        for path, content in contents.items():
            with whole_file(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
    return [*contents, *draw(experiment, *map(paths.figure, PICTURES[name]))]


def rows_as_json(csv_path: Path) -> list[dict[str, Any]]:
    """The rows of a written table, empty cells as null."""
    rows: list[dict[str, Any]] = json.loads(pd.read_csv(csv_path).to_json(orient="records"))
    return rows
