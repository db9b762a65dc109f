"""Two processes that share each batch take the steps of one that has it all."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from rdm.distributed import joined
from rdm.models.gates import attach_gates
from rdm.models.zoo import build_network
from rdm.params.gates import Gates, Supervision
from rdm.params.schema import Diffusion, FineTuned
from rdm.progress import is_first
from rdm.train.loop import Job, fit
from tests.conftest import ROOT
from tests.models.small import CLASSES, NETWORKS, SHAPE

CPU = torch.device("cpu")
GATINGS = {
    "plain": None,
    "supervised": Gates(learning_rate=0.05, supervision=Supervision(kind="preserve")),
    "exactly supervised": Gates(learning_rate=0.05, supervision=Supervision(kind="preserve", exact=True)),
}


def train(gating, folder, batch=4):
    """Train in float64, where the order of sums does not show; returns the weights and the log."""
    random = torch.Generator().manual_seed(0)
    optimisation = FineTuned(
        start="any", steps=4, batch=batch, learning_rate=1e-3, gradient_clip=0.1, ema_decay=0.8, log_every=2
    )
    latents = torch.randn(10, *SHAPE, generator=random, dtype=torch.float64)
    job = Job(
        optimisation,
        Diffusion(target="v"),
        gates=GATINGS[gating],
        latents=latents,
        labels=torch.arange(10) % CLASSES,
        null_label=CLASSES,
        stream=1,
        digest="this",
        state_path=folder / "state.safetensors",
    )
    network = build_network(NETWORKS["dit"], SHAPE, CLASSES, seed=0)
    if job.gates:
        attach_gates(network, job.gates)
    state = fit(network.double(), job, CPU)
    numbers = [[line["loss"], *(line["sensitivity"] or [])] for line in state.log]
    return {**state.ema.state_dict(), "log": torch.tensor(numbers, dtype=torch.float64)}


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("gating", GATINGS)
def test_two_processes_train_as_one_does(gating, tmp_path):
    done = torchrun("-m", "tests.train.test_distributed", gating, str(tmp_path))
    assert done.returncode == 0, done.stderr
    shared, alone = load_file(tmp_path / "shared.safetensors"), train(gating, tmp_path)
    assert shared.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(shared[name], tensor, rtol=1e-6, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


def test_a_batch_that_cannot_be_dealt_is_refused(tmp_path):
    done = torchrun("-m", "tests.train.test_distributed", "plain", str(tmp_path), "5")
    assert done.returncode != 0
    assert "A batch of 5 cannot be dealt evenly to 2 processes" in done.stderr
    assert not (tmp_path / "shared.safetensors").exists()


def main(gating, folder, *batch):
    """One of the two processes."""
    from pathlib import Path

    torch.set_num_threads(1)
    with joined(CPU):
        weights = train(gating, Path(folder), *map(int, batch))
    if is_first():
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, Path(folder) / "shared.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
