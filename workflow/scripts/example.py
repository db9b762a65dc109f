"""Keep the last run of the default experiment as the committed example, and show its tables in the README."""

import re
import shutil
from pathlib import Path

RESULTS, EXAMPLE, README = Path("results"), Path("results/example"), Path("README.md")

for name, verb in (("table1", "reproduce"), ("table2", "videos"), ("claims", "claims")):
    if ",digits," not in (RESULTS / f"{name}.csv").read_text():
        raise SystemExit(f"results/{name}.csv is of another experiment; run `make {verb}` first.")
shutil.rmtree(EXAMPLE, ignore_errors=True)
shutil.copytree(RESULTS / "figures", EXAMPLE / "figures")
shutil.copytree(RESULTS / "score", EXAMPLE / "score")
shutil.copytree(RESULTS / "provenance", EXAMPLE / "provenance")
for preview in sorted(RESULTS.glob("sample/digits-*-rdm-s0/*.gif")):
    (EXAMPLE / "clips").mkdir(exist_ok=True)
    shutil.copy(preview, EXAMPLE / "clips" / f"{preview.parent.name}-{preview.name}")
for name in ("table1", "table2", "claims"):
    for table in sorted(RESULTS.glob(f"{name}.*")):
        shutil.copy(table, EXAMPLE)
    main, *rest = re.split("\n(?=Text-to-image)|\nNot run:", (EXAMPLE / f"{name}.md").read_text())
    parts = [(name, main), *([("text", rest[0])] if name == "table1" else [])]
    for part, shown in parts:
        before, after = f"<!-- {part} -->\n", f"<!-- /{part} -->"
        readme = README.read_text()
        start, end = readme.index(before) + len(before), readme.index(after)
        README.write_text(f"{readme[:start]}{shown.strip()}\n{readme[end:]}")
