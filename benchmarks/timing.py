"""Contestants timed side by side: what else the machine does meets all of them alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rdm.progress import progress


def paired(
    what: str,
    contestants: dict[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; every round times each once, in an order that rotates.

    clock: time.process_time where one thread works and waits for nothing: on a shared machine, what it did itself.
    """
    for run in contestants.values():
        for _ in range(warm_up):
            run()
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with progress(what, rounds) as bar:
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                _synchronise()
                started = clock()
                contestants[name]()
                _synchronise()
                seconds[name].append(clock() - started)
            bar.update()
    return seconds


def ratio(seconds: list[float], reference: list[float]) -> dict[str, object]:
    """Median seconds; median and quartiles of the ratio to the reference of the same round."""
    low, middle, high = statistics.quantiles((a / b for a, b in zip(seconds, reference, strict=True)), n=4)
    return {
        "seconds": round(statistics.median(seconds), 5),
        "ratio": round(middle, 4),
        "quartiles": [round(low, 4), round(high, 4)],
    }


def _synchronise() -> None:
    """Wait until the device has done all that it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name(device: torch.device) -> str:
    """The processor's or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
