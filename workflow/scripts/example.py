"""Keep the last run of the default experiment as the committed example, and show its tables in the README."""

import re
import shutil
from pathlib import Path

RESULTS, EXAMPLE, README = Path("results"), Path("results/example"), Path("README.md")
# the parts of the README that show a table: of which file, and which columns of it, if it has them; None: all
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
    "claims": ("claims", None),
}


def shown(part: str, folder: Path = EXAMPLE) -> str:
    """What the README shows in this part: a table of the example.

    Whole, with its notes; or the columns that fit, without notes and without the rows of ungated controls.
    """
    name, columns = PARTS[part]
    main, *text = re.split("\n(?=Text-to-image)|\nNot run:", (folder / f"{name}.md").read_text())
    whole = (text[0] if part == "text" else main).strip()
    if columns is None:
        return whole
    lines = whole.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    places = [rows[0].index(column) for column in columns.split("|") if column in rows[0]]
    method = places[0]
    kept = [[row[place] for place in places] for row in rows if not row[method].endswith("ungated control")]
    kept[1] = [":--", *["--:"] * (len(places) - 1)]
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    return "\n".join([*lines[:first], *(f"| {' | '.join(row)} |" for row in kept)])


def main() -> None:
    """Copy tables, claims, pictures and scores, and write them into the README."""
    for name, verb in (("table1", "reproduce"), ("table2", "videos"), ("claims", "claims")):
        if ",digits," not in (RESULTS / f"{name}.csv").read_text():
            raise SystemExit(f"results/{name}.csv is of another experiment; run `make {verb}` first.")
    shutil.rmtree(EXAMPLE, ignore_errors=True)
    for folder in ("figures", "score", "provenance"):
        shutil.copytree(RESULTS / folder, EXAMPLE / folder)
    for preview in sorted(RESULTS.glob("sample/digits-*-rdm-s0/*.gif")):
        (EXAMPLE / "clips").mkdir(exist_ok=True)
        shutil.copy(preview, EXAMPLE / "clips" / f"{preview.parent.name}-{preview.name}")
    for name in ("table1", "table2", "claims"):
        for table in sorted(RESULTS.glob(f"{name}.*")):
            shutil.copy(table, EXAMPLE)
    for part in PARTS:
        before, after = f"<!-- {part} -->\n", f"<!-- /{part} -->"
        readme = README.read_text()
        start, end = readme.index(before) + len(before), readme.index(after)
        README.write_text(f"{readme[:start]}{shown(part)}\n{readme[end:]}")


if __name__ == "__main__":
    main()
