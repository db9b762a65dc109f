"""Random batches out of stored latents, against the layouts that others train from: one thread, hot cache, one run.

    python benchmarks/latents.py                     # 65,536 records of 8,192 bytes: a minute, 1.5 GB of disk

A record is what DiT-XL/2 at 256 pixels learns of one image: 4x32x32 numbers in float16. Every round has each contestant
read the same random batches of 256 once, in an order that rotates. Seconds are those that the process itself worked
(CPU time): nothing waits for a disk here, and waiting for a processor does not count; a busy neighbour still slows its
caches. A ratio is that of one round, ours above the peer's; peers, too, give records as they are stored. On a GPU it is
the device that normalises. Writes benchmarks/results/latents-cpu.json and .md.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timing import device_name, paired, ratio
from torch import Tensor

from rdm.latents.encoding import SHARD
from rdm.latents.mapped import MappedLatents, open_shards
from rdm.progress import progress

RESULTS = Path(__file__).parent / "results"
SHAPE, BATCH, BATCHES = (4, 32, 32), 256, 16
MEAN, STD = torch.zeros(4, 1, 1), torch.full((4, 1, 1), 1 / 0.18215)
OURS, NORMALISED, MEMORY = "rdm", "rdm, then normalised on the CPU", "a tensor in memory"


def main() -> None:
    """Measure, print a table, write it and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=8 * SHARD)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where the files are written; default: the temporary folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write(Path(folder), arguments.records)
        rows = measured(Path(folder), arguments.records, arguments.rounds)
    result = {
        "device": device_name(torch.device("cpu")),
        "threads": 1,
        "records": arguments.records,
        "shape": SHAPE,
        "dtype": "float16",
        "batch": BATCH,
        "rounds": arguments.rounds,
        "clock": "process_time",
        "rows": rows,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy", "safetensors")},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latents-cpu.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(rows), encoding="utf-8")
    print(table(rows), path, sep="\n")


def write(folder: Path, records: int) -> None:
    """The same random records as our shards, and as a file each."""
    for name in ("shards", "files"):
        (folder / name).mkdir()
    with progress("write", records) as bar:
        for number, start in enumerate(range(0, records, SHARD)):
            count = min(SHARD, records - start)
            latents = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(number)).half()
            numbers = torch.zeros(count, dtype=torch.int64)
            content = {"latents": latents, "labels": numbers, "items": numbers.clone()}
            save_file(content, folder / "shards" / f"{number:05d}.safetensors")
            for item, record in enumerate(latents.numpy(), start):
                np.save(folder / "files" / f"{item}.npy", record)
                bar.update()


def measured(folder: Path, records: int, rounds: int) -> list[dict[str, object]]:
    """A row per contestant: records a second, bytes on disk by bytes of the records, and ours as a multiple of it."""
    random = np.random.default_rng(0)
    batches = [torch.from_numpy(random.integers(0, records, BATCH)) for _ in range(BATCHES)]
    paths = sorted((folder / "shards").glob("*.safetensors"))
    latents = MappedLatents(open_shards(folder / "shards")[0], slice(4), MEAN, STD)
    memory = torch.cat([torch.from_numpy(shard) for shard in open_shards(folder / "shards")[0]])

    def opened_per_item(items: Tensor) -> Tensor:
        found = []
        for item in items.tolist():
            with safe_open(paths[item // SHARD], framework="pt") as shard:
                found.append(shard.get_slice("latents")[item % SHARD : item % SHARD + 1])
        return torch.cat(found)

    def a_file_each(items: Tensor) -> Tensor:
        return torch.stack([torch.from_numpy(np.load(folder / "files" / f"{item}.npy")) for item in items.tolist()])

    batch = torch.empty(BATCH, *SHAPE, dtype=memory.dtype)  # used again, as ours uses its own: new pages cost more

    def from_memory(items: Tensor) -> Tensor:
        return torch.index_select(memory, 0, items, out=batch)

    readers: dict[str, Callable[[Tensor], Tensor]] = {
        OURS: lambda items: torch.from_numpy(latents.gather(items.numpy())),
        NORMALISED: latents.__getitem__,
        "one safetensors file, opened for each item (LightningDiT's)": opened_per_item,
        "one npy file per image (fast-DiT's)": a_file_each,
        MEMORY: from_memory,
    }
    expected = memory[batches[0]]
    for name, read in readers.items():
        if name != NORMALISED:
            assert torch.equal(read(batches[0]), expected), name
    contestants = {name: (lambda read=read: deque(map(read, batches), maxlen=0)) for name, read in readers.items()}
    seconds = paired("read", contestants, rounds, warm_up=2, clock=time.process_time)
    disk = {name: folder / ("files" if "npy" in name else "shards") for name in readers if name != MEMORY}
    rows: list[dict[str, object]] = []
    for name, own in seconds.items():
        against = ratio(seconds[OURS], own)
        rate = BATCH * BATCHES / float(np.median(own))
        row: dict[str, object] = {"reader": name, "records_per_second": round(rate), "rdm_ratio": against["ratio"]}
        row |= {"quartiles": against["quartiles"]}
        rows.append(row | {"disk_to_payload": taken(disk[name]) / memory.nbytes if name in disk else None})
    return rows


def taken(folder: Path) -> float:
    """Bytes of disk that a folder's files take, in whole blocks."""
    return sum(512 * path.stat().st_blocks for path in folder.iterdir())


def table(rows: list[dict[str, object]]) -> str:
    """In Markdown."""
    lines = ["| reader | records/s | our time to its | disk to payload |", "|:--|--:|--:|--:|"]
    for row in rows:
        disk = "" if row["disk_to_payload"] is None else f"{row['disk_to_payload']:.3f}"
        lines.append(f"| {row['reader']} | {row['records_per_second']:,} | {row['rdm_ratio']:.4f} | {disk} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
