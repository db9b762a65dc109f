"""benchmarks/gpu.py on a CPU: every contestant runs, and what it writes has the form that `rdm plan` reads."""

import json
import sys

import pytest
import torch

from rdm.provenance.environment import commit
from tests.conftest import ROOT


@pytest.fixture
def gpu(monkeypatch):
    """The script's module; what it sets for its process is set back."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(torch, "compile", torch.compile)
    monkeypatch.setenv("CXX", "true")  # nothing is compiled to machine code
    cuda = torch.backends.cuda
    before = torch.are_deterministic_algorithms_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
    import gpu

    yield gpu
    torch.use_deterministic_algorithms(before[0])
    cuda.enable_mem_efficient_sdp(before[1])
    cuda.enable_cudnn_sdp(before[2])
    for name in ("gpu", "gpu_work", "peers", "gates", "timing"):
        sys.modules.pop(name, None)


def test_every_contestant_runs_and_is_written_down(gpu, tmp_path, capsys):
    gpu.main(["--device", "cpu", "--minutes", "1000", "--out", str(tmp_path / "gpu.json")])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["failed"] for row in result["rows"] if row["failed"]] == []
    assert result["commit"] == commit()
    assert all(row.keys() == set(gpu.ROW) for row in result["rows"])
    works = [row["work"] for row in result["rows"]]
    for work in ("DiT", "Latte", "U-Net", "encode", "sample"):
        contestants = [row["contestant"] for row in result["rows"] if row["work"] == work]
        assert contestants == [
            "rdm",
            "diffusers, eager, float32 with TF32",
            "rdm",
            "diffusers, blocks compiled, bfloat16",
        ]
    assert works.count("gates") == works.count("supervision") == 2
    assert all(row["per_second"] > 0 and row["teraflops"] >= 0 for row in result["rows"])
    assert result["ceilings"].keys() == {"bfloat16_teraflops", "copy_gigabytes_per_second"}
    assert {target["verdict"] for target in result["targets"]} == {"unscored"}  # this is no H200
    assert capsys.readouterr().out.count("\n|") >= len(result["rows"])


def test_what_fails_and_what_comes_too_late_are_rows(gpu, monkeypatch, tmp_path):
    def broken(self, batch):
        raise RuntimeError("no such kernel\nimage")

    monkeypatch.setattr(gpu.Bench, "encode", broken)
    pairs = gpu.Bench.pairs
    monkeypatch.setattr(gpu.Bench, "pairs", lambda self: [pair for pair in pairs(self) if pair.work == "encode"])
    gpu.main(["--device", "cpu", "--minutes", "1000", "--out", str(tmp_path / "gpu.json")])
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["failed"] for row in rows] == ["RuntimeError: no such kernel image"] * 2
    gpu.main(["--device", "cpu", "--minutes", "0", "--out", str(tmp_path / "gpu.json")])
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["failed"] for row in rows] == ["not begun within 0.0 minutes"] * 2


def test_a_batch_that_does_not_fit_is_halved_and_named(gpu, monkeypatch):
    bench = gpu.Bench(gpu.TINY, torch.device("cpu"))

    def make(batch):
        def call():
            if batch > 3:
                raise torch.OutOfMemoryError

        return call

    rows = gpu.measured(gpu.Pair("encode", {"rdm": make, "peer": make}, (12, 2)), bench)
    assert [(row["batch"], row["wanted_batch"]) for row in rows] == [(3, 12), (2, 2)]
    with pytest.raises(RuntimeError, match="rdm: not even a batch of 1 fits"):
        gpu.measured(gpu.Pair("encode", {"rdm": lambda _: make(9), "peer": make}, (2, 2)), bench)


def test_targets_are_scored_on_an_h200_beside_a_peer_alone(gpu):
    def row(work, per_second, time_ratio):
        return {"work": work, "per_second": per_second, "time_ratio": time_ratio}

    rows = [row("DiT", 660.0, 0.5), row("DiT", 300.0, None), row("Latte", 39.0, 0.5), row("gates", 660.0, 1.004)]
    rows += [dict.fromkeys(gpu.ROW) | {"work": "encode", "failed": "OutOfMemoryError"}]
    found = {target["work"]: target["verdict"] for target in gpu.verdicts(rows, "NVIDIA H200")}
    unscored = dict.fromkeys(("U-Net", "encode", "sample"), "unscored")
    assert found == {"DiT": "met", "Latte": "missed", "gates": "met", **unscored}
    assert {target["verdict"] for target in gpu.verdicts(rows, "NVIDIA H100 80GB HBM3")} == {"unscored"}
