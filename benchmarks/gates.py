"""What gates cost: DiT gated against the same DiT ungated, side by side in one run.

    python benchmarks/gates.py                  # CPU: DiT of width 384 at 256 tokens, one thread, float32; 3 minutes
    python benchmarks/gates.py --device cuda    # GPU: DiT-XL/2 at 256 tokens, bfloat16

Every round times each network once, in an order that rotates; a ratio is that of one round, so that what else the
machine does meets all networks alike. Writes benchmarks/results/gates-DEVICE.json: medians and quartiles over rounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
from timing import device_name, paired, ratio
from torch import nn

from rdm.models.gates import Gating, attach_gates, fold_gates, gate_parameters
from rdm.models.zoo import build_network
from rdm.params.schema import DiT

RESULTS = Path(__file__).parent / "results"
LATENT, CLASSES = [4, 32, 32], 1000
GATED = {"block": Gating(), "branch": Gating(unit="branch")}
FOLDABLE = Gating(variant="rezero", unit="branch")


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=None, help="default: 4 on a CPU, 256 on a GPU")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    if device.type == "cuda":
        network, dtype, batch = DiT(kind="dit", width=1152, depth=28, heads=16, patch=2), torch.bfloat16, 256
    else:
        network, dtype, batch = DiT(kind="dit", width=384, depth=3, heads=6, patch=2), torch.float32, 4
    batch = arguments.batch or batch
    base = randomised(build_network(network, LATENT, CLASSES, seed=0)).to(device, dtype)
    inputs = (
        torch.randn(batch, *LATENT, device=device, dtype=dtype),
        torch.randint(1000, (batch,), device=device),
        torch.randint(CLASSES, (batch,), device=device),
    )
    rows = []
    for compiled in (False, True):
        networks = {"ungated": copy.deepcopy(base)}
        networks |= {name: attach_gates(copy.deepcopy(base), gating) for name, gating in GATED.items()}
        steps = {name: training_step(prepared(model, compiled), inputs) for name, model in networks.items()}
        rows += measured("training step", compiled, steps, arguments.rounds)
        folded = attach_gates(copy.deepcopy(base), FOLDABLE)
        for parameter in gate_parameters(folded):
            nn.init.normal_(parameter, std=0.1)
        plain = {"ungated": copy.deepcopy(base), "folded": fold_gates(folded)}
        passes = {name: inference(prepared(model, compiled), inputs) for name, model in plain.items()}
        rows += measured("inference", compiled, passes, arguments.rounds)
    result = {
        "network": network.model_dump(),
        "tokens": 256,
        "batch": batch,
        "dtype": str(dtype),
        "device": device_name(device),
        "threads": 1,
        "rounds": arguments.rounds,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gates-{device.type}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(
            f"{row['what']:14} {'compiled' if row['compiled'] else 'eager':9} {row['network']:8} "
            f"{row['seconds']:8.4f} s   {row['ratio']:.4f} x ungated (quartiles {row['quartiles']})"
        )
    print(path)


def randomised(model: nn.Module) -> nn.Module:
    """Random weights everywhere: DiT's own start is zero at the end, and processors are quick at zeros."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def prepared(model: nn.Module, compiled: bool) -> nn.Module:
    """Compiled as a whole, or as it is."""
    return torch.compile(model) if compiled else model  # type: ignore[return-value]


def training_step(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    """Forward, backward and AdamW."""
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=1e-6, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        model(*inputs).float().square().mean().backward()
        optimiser.step()

    return step


def inference(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    """Forward alone."""
    model.eval()

    @torch.no_grad()
    def step() -> None:
        model(*inputs)

    return step


def measured(what: str, compiled: bool, steps: dict[str, Callable[[], None]], rounds: int) -> list[dict[str, object]]:
    """A row per network: median seconds, and median and quartiles of its ratio to the ungated one of the same round."""
    seconds = paired(f"{what}{', compiled' if compiled else ''}", steps, rounds, warm_up=3)
    return [
        {"what": what, "compiled": compiled, "network": name, **ratio(own, seconds["ungated"])}
        for name, own in seconds.items()
    ]


if __name__ == "__main__":
    main()
