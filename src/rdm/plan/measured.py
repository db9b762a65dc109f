"""What was measured on a GPU by benchmarks/gpu.py, beside what a plan assumes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rdm.plan.stage import GPUS

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"  # of a checkout; an installed package has none
OURS = "rdm"


def table(gpu: str, utilisation: float) -> list[dict[str, Any]]:
    """A row for each kind of work that was measured on this GPU; none if nothing was.

    planned: items a second at this share of the GPU's peak.
    """
    file = RESULTS / f"gpu-{gpu}.json"
    if not file.is_file():
        return []
    found: dict[tuple[str, str], dict[str, Any]] = {}  # each once, though it stood beside several peers
    content = json.loads(file.read_text(encoding="utf-8"))
    peak = GPUS[gpu].peaks[content["performance"]["train"]] / 1e12
    for row in content["rows"]:
        if row["failed"] is None and row["contestant"].startswith(OURS):
            found.setdefault(
                (row["work"], row["contestant"]),
                {
                    "measured": row["work"],
                    "contestant": row["contestant"],
                    "batch": row["batch"],
                    "a second": row["per_second"],
                    "planned": row["per_second"] * peak * utilisation / row["teraflops"],
                    "share of peak": row["teraflops"] / peak,
                },
            )
    return list(found.values())
