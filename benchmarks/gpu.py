"""This package's own training, sampling and encoding on a GPU, against peers in the same run.

    python benchmarks/gpu.py                # one GPU: params/paper.yaml's networks; under ten minutes
    python benchmarks/gpu.py --device cpu   # tiny shapes, seconds: that everything runs, numbers of no meaning

What the machine can do comes first: one large product, one large copy. Then every kind of work beside each peer
(benchmarks/peers.py): each round times both, in an order that alternates, and a ratio is that of one round. What does
not fit into memory is tried with half the batch. What fails is a row that says so; what there was no time for, too.
Writes benchmarks/results/gpu-GPU.json, which `rdm plan --gpu GPU` compares with, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from gpu_work import AT_ONCE, FAST, FULL, ROOT, SAMPLED, STEPS, TINY, Bench, Call, Pair, Scale
from timing import device_name, paired, ratio

from rdm.errors import UsageError
from rdm.provenance.environment import commit
from rdm.runtime import choose_device

# on one H200: items per second; of the gates, the time of a step as a multiple of that without
TARGETS = {"DiT": 650.0, "Latte": 40.0, "U-Net": 550.0, "encode": 1500.0, "sample": 4.6, "gates": 1.005}
ROW = (
    *("work", "contestant", "batch", "wanted_batch", "per_second", "quartiles", "rounds", "teraflops"),
    *("time_ratio", "time_ratio_quartiles", "failed"),
)


class DoesNotFitError(Exception):
    """A contestant whose batch does not fit into memory."""


def measured(pair: Pair, bench: Bench) -> list[dict[str, Any]]:
    """A row for each of two contestants; the batch that does not fit is halved until it does."""
    batches = {name: bench.first_batch(b) for name, b in zip(pair.makers, pair.batches, strict=True)}
    torch.compiler.reset()
    while True:
        _empty()
        try:
            return _rows(pair, bench, batches, timed(pair, batches, bench))
        except DoesNotFitError as error:
            [name] = error.args
            if batches[name] == 1:
                raise RuntimeError(f"{name}: not even a batch of 1 fits into memory") from None
            batches[name] //= 2


def timed(pair: Pair, batches: dict[str, int], bench: Bench) -> dict[str, list[float]]:
    """Seconds of each contestant in each round."""
    calls: dict[str, Call] = {}
    for name, make in pair.makers.items():
        build = _within_memory(name, functools.partial(make, batches[name]))
        calls[name] = _within_memory(name, build())
        calls[name]()  # compiled, and its memory taken
    started = time.perf_counter()
    paired(pair.work, calls, 1, warm_up=0)
    seconds = bench.scale.seconds * (3 if pair.work == "gates" else 1)  # half a percent is to be seen there
    rounds = int(seconds / (time.perf_counter() - started))
    return paired(f"{pair.work}: {', '.join(calls)}", calls, min(max(rounds, 5), 60), warm_up=0)


def _within_memory(name: str, call: Callable[[], Any]) -> Callable[[], Any]:
    def guarded() -> Any:
        try:
            return call()
        except torch.OutOfMemoryError:
            raise DoesNotFitError(name) from None

    return guarded


def _empty() -> None:
    """Give back what an earlier contestant had."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _rows(pair: Pair, bench: Bench, batches: dict[str, int], seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    work = "DiT" if pair.work in ("gates", "supervision") else pair.work
    rates = {n: [_items(work, batches[n]) / s for s in own] for n, own in seconds.items()}
    first, second = rates
    # both as time for one item, so that batches may differ
    compared = ratio([1 / r for r in rates[first]], [1 / r for r in rates[second]])
    rows = []
    for name, own in rates.items():
        low, middle, high = statistics.quantiles(own, n=4)
        rows.append(
            {
                "work": pair.work,
                "contestant": name,
                "batch": batches[name],
                "wanted_batch": dict(zip(pair.makers, pair.batches, strict=True))[name],
                "per_second": round(middle, 3),
                "quartiles": [round(low, 3), round(high, 3)],
                "rounds": len(own),
                "teraflops": round(middle * bench.flops[work] / 1e12, 3),
                "time_ratio": compared["ratio"] if name == first else None,
                "time_ratio_quartiles": compared["quartiles"] if name == first else None,
                "failed": None,
            }
        )
    return rows


def _items(work: str, batch: int) -> float:
    """Whole images or clips in a call."""
    return batch * (SAMPLED / STEPS if work == "sample" else AT_ONCE)


def ceilings(scale: Scale, device: torch.device) -> dict[str, float]:
    """What the machine does at best: a bfloat16 product in TFLOP/s, a copy in GB/s, read and written."""
    a, b = torch.randn(2, scale.product, scale.product, device=device, dtype=torch.bfloat16)
    source = torch.randn(scale.copied // 4, device=device)
    target = torch.empty_like(source)
    repeats = 10
    runs = {
        "product": lambda: [a @ b for _ in range(repeats)],
        "copy": lambda: [target.copy_(source) for _ in range(repeats)],
    }
    seconds = {n: statistics.median(own) / repeats for n, own in paired("ceilings", runs, 10, warm_up=3).items()}
    return {
        "bfloat16_teraflops": round(2 * scale.product**3 / seconds["product"] / 1e12, 3),
        "copy_gigabytes_per_second": round(2 * scale.copied / seconds["copy"] / 1e9, 3),
    }


def verdicts(rows: list[dict[str, Any]], device: str) -> list[dict[str, Any]]:
    """Targets met or missed. Without a peer's number of this run, or on another GPU, they are not scored."""
    found = []
    for work, target in TARGETS.items():
        own = [row for row in rows if row["work"] == work and row["time_ratio"] is not None]
        of_gates = work == "gates"
        value = (own[0]["time_ratio"] if of_gates else statistics.median(r["per_second"] for r in own)) if own else None
        met = value is not None and (value <= target if of_gates else value >= target)
        scored = value is not None and "H200" in device
        verdict = ("met" if met else "missed") if scored else "unscored"
        found.append({"work": work, "target": target, "value": value, "verdict": verdict})
    return found


def markdown(result: dict[str, Any]) -> str:
    """The ceilings, a line per row, and the targets."""
    tops = result["ceilings"]
    lines = [
        f"{result['device']}: {tops['bfloat16_teraflops']} TFLOP/s (bfloat16 product), "
        f"{tops['copy_gigabytes_per_second']} GB/s (copy); shapes: {result['shapes']}",
        "",
        "| work | contestant | batch | a second | quartiles | TFLOP/s | time / that of the next row |",
        "|:--|:--|--:|--:|--:|--:|--:|",
    ]
    for row in result["rows"]:
        if row["failed"]:
            lines.append(f"| {row['work']} | {row['contestant']} | | | | | {row['failed']} |")
            continue
        compared = f"{row['time_ratio']} {row['time_ratio_quartiles']}" if row["time_ratio"] else ""
        cells = [row["work"], row["contestant"], row["batch"], row["per_second"], row["quartiles"], row["teraflops"]]
        lines.append("| " + " | ".join(map(str, [*cells, compared])) + " |")
    lines += ["", "| target on one H200 | wanted | found | |", "|:--|--:|--:|:--|"]
    lines += [f"| {t['work']} | {t['target']} | {t['value']} | {t['verdict']} |" for t in result["targets"]]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument(
        "--minutes", type=float, default=7.0, help="begin nothing new later than this; the slowest takes three more"
    )
    parser.add_argument("--out", type=Path, default=None, help="default: gpu-GPU.json in benchmarks/results")
    options = parser.parse_args(arguments)
    try:
        started, device = time.monotonic(), choose_device(options.device)
    except UsageError as error:
        parser.error(str(error))
    full = device.type == "cuda"
    if not full:
        # nothing is learnt from tiny shapes in machine code, and making it takes minutes
        torch.compile = functools.partial(torch.compile, backend="eager")  # type: ignore[assignment]
    bench = Bench(FULL if full else TINY, device)
    name = device_name(device)
    model = re.search(r"[ABH]\d{3}", name)
    slug = model[0].lower() if model and full else "-".join(re.findall(r"\w+", name.lower()))
    path = options.out or (ROOT / "benchmarks" / "results" / f"gpu-{slug}.json" if full else None)
    result: dict[str, Any] = {
        "device": name,
        "commit": commit(),
        "shapes": "full" if full else "tiny",
        "parameters": bench.scale.file,
        "performance": FAST.model_dump(),
        "ceilings": ceilings(bench.scale, device),
        "rows": [],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "diffusers": diffusers.__version__,
        },
    }
    for pair in bench.pairs():
        late = time.monotonic() - started > 60 * options.minutes
        result["rows"] += [failure(pair, f"not begun within {options.minutes} minutes")] if late else tried(pair, bench)
        result["targets"] = verdicts(result["rows"], name)
        result["seconds"] = round(time.monotonic() - started)
        if path is not None:  # after every pair: what has been measured outlasts a run that is killed
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(result))
    if path is not None:
        print(path)


def tried(pair: Pair, bench: Bench) -> list[dict[str, Any]]:
    """A pair's rows; or one that says why there are none, which is no reason to stop."""
    try:
        return measured(pair, bench)
    except Exception as error:
        return [failure(pair, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")]


def failure(pair: Pair, reason: str) -> dict[str, Any]:
    """A row without numbers."""
    return dict.fromkeys(ROW) | {"work": pair.work, "contestant": ", ".join(pair.makers), "failed": reason}


if __name__ == "__main__":
    main()
