"""Keep the last run of an experiment as a committed example, and show its tables in README.md and docs/results.md.

Without argument it is the default experiment, kept in results/example; with `fashion` or `longer` another, below it.
"""

import re
import shutil
from pathlib import Path

import click

from rdm import params, paths
from rdm.provenance import graph

EXAMPLE, PAGES = paths.RESULTS / "example", (Path("README.md"), Path("docs/results.md"))
EXPERIMENTS = ("digits", "fashion", "longer")
# the parts of these pages that show a table: of which file, and which columns of it, if it has them
PARTS = {
    "table1": ("table1", "Method|FID paper|FID ours|sFID paper|sFID ours|IS paper|IS ours|FID − control"),
    "text": (
        "table1",
        "Method|Text FID paper|Text FID ours|Text sFID ours|Text IS paper|Text IS ours|Text obeyed|Text FID − control",
    ),
    "table2": (
        "table2",
        "Method|Sky FVD paper|Sky FVD ours|Taichi FVD paper|Taichi FVD ours|UCF FVD paper|UCF FVD ours"
        "|UCF FVD − control|UCF identity ours",
    ),
    "fashion": ("fashion/table1", "Method|FID ours|sFID ours|IS ours|Class accuracy|FID − control"),
    "longer": ("longer/table1", "Method|FID ours|sFID ours|IS ours|Class accuracy|FID − control"),
}


def shown(part: str, folder: Path = EXAMPLE) -> str:
    """What a page shows in this part: a table of the example.

    The columns that fit, without notes and without the rows of ungated controls; and, where none of those columns is
    the paper's, without the rows that are quoted.
    """
    name, columns = PARTS[part]
    main, *text = re.split("\n(?=Text-to-image)|\nNot run:", (folder / f"{name}.md").read_text())
    whole = (text[0] if part == "text" else main).strip()
    lines = whole.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    places = [rows[0].index(column) for column in columns.split("|") if column in rows[0]]
    method = places[0]
    kept = [[row[place] for place in places] for row in rows if not row[method].endswith("ungated control")]
    if "paper" not in columns:
        kept = [row for row in kept if any(row[1:])]
    kept[1] = [":--", *["--:"] * (len(places) - 1)]
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    return "\n".join([*lines[:first], *(f"| {' | '.join(row)} |" for row in kept)])


@click.command(help=__doc__)
@click.argument("name", type=click.Choice(EXPERIMENTS), default="digits")
def main(name: str) -> None:
    experiment = params.load(Path(f"params/{name}.yaml"))
    targets = graph.targets(experiment)
    for table in (target for target in targets if target.startswith("table") or target == "claims"):
        file = paths.table(table, "csv")
        if not file.is_file() or f",{experiment.tables.scale}," not in file.read_text():
            raise SystemExit(f"Error: {file} is not that of params/{name}.yaml; make it first.")
    folder = EXAMPLE if name == "digits" else EXAMPLE / name
    for part in ("figures", "score", "provenance", "clips"):
        shutil.rmtree(folder / part, ignore_errors=True)
    # of this experiment alone: others may have left theirs in results/, too
    jobs = [job for job in graph.jobs(experiment, targets) if job.verb in graph.WRITE_ANYWAY]
    for made in {path for job in jobs for path in job.makes if not path.stem.endswith("-runs")}:
        for file in (made, paths.note(made)):
            if file.is_file():
                kept = paths.within(folder, file)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, kept)
    for preview in sorted(paths.RESULTS.glob(f"sample/{name}-*-rdm-s0/*.gif")):
        (folder / "clips").mkdir(exist_ok=True)
        shutil.copy(preview, folder / "clips" / f"{preview.parent.name}-{preview.name}")
    show()


def show() -> None:
    """Write the examples' tables into the pages."""
    for page in PAGES:
        for part in PARTS:
            above, begin, rest = page.read_text().partition(f"<!-- {part} -->\n")
            if begin:
                _, end, below = rest.partition(f"<!-- /{part} -->")
                page.write_text(f"{above}{begin}{shown(part)}\n{end}{below}")


if __name__ == "__main__":
    main()
