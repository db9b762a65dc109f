"""Write the scores' values alone, means over seeds, to results/metrics/SYSTEM.json: what `dvc metrics` shows.

python workflow/scripts/metrics.py PARAMS SYSTEM...
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from rdm import params
from rdm.provenance import graph
from rdm.provenance.files import write_json

METRICS = Path("results/metrics")

if __name__ == "__main__":
    experiment = params.load(sys.argv[1])
    for system in sys.argv[2:]:
        values = defaultdict(list)
        for path in graph.score(experiment, system).makes:
            for metric, estimate in json.loads(path.read_text())["values"].items():
                values[path.parent.name, path.stem, metric].append(estimate["value"])
        means = {".".join(names): statistics.fmean(found) for names, found in values.items()}
        write_json(METRICS / f"{system}.json", means)
