"""Resumable state of a training run: one safetensors file outside every declared output.

It holds model, EMA, snapshots of it, Adam's moments and the log, with the digest of (parameters, data, code) it
belongs to. There is no random state to save, since batch and noise of a step are functions of (seed, step).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rdm.provenance.files import whole_file


@dataclass
class TrainingState:
    """Everything that changes during training."""

    model: nn.Module
    ema: nn.Module
    optimiser: torch.optim.Optimizer
    loss_sum: Tensor  # float32 scalar: sum of the losses since the last log line
    step: int
    log: list[dict[str, Any]]
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # EMA weights at earlier steps, on the CPU

    def keep_snapshot(self) -> None:
        """Keep the EMA weights of this step."""
        self.snapshots[self.step] = {name: t.detach().cpu().clone() for name, t in self.ema.state_dict().items()}

    def save(self, path: Path, digest: str) -> None:
        """Write the state, whole or not at all."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._tensors().items()}
        kept = json.dumps(list(self.snapshots))
        metadata = {"digest": digest, "step": str(self.step), "log": json.dumps(self.log), "snapshots": kept}
        with whole_file(path) as temporary:
            save_file(tensors, temporary, metadata)

    def restore(self, path: Path, digest: str) -> bool:
        """Take over a saved state if it belongs to `digest`; another one is removed, and that is said."""
        try:
            with safe_open(path, framework="pt") as stored:
                metadata = stored.metadata() or {}
                if metadata.get("digest") == digest:
                    self._create_moments()  # from here on the file is whole, and of this very network
                    for step in json.loads(metadata["snapshots"]):
                        self.snapshots[step] = {n: torch.empty_like(t, device="cpu") for n, t in self._ema().items()}
                    for name, tensor in self._tensors().items():
                        tensor.data.copy_(stored.get_tensor(name))
                    self.step = int(metadata["step"])
                    self.log = json.loads(metadata["log"])
                    return True
        except FileNotFoundError:
            return False
        except SafetensorError:
            pass  # damaged: as good as none
        print(f"{path} is damaged, or of other parameters, inputs, code or device; beginning anew.", file=sys.stderr)
        path.unlink(missing_ok=True)  # another process may have been first
        return False

    def _tensors(self) -> dict[str, Tensor]:
        named = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        named |= {f"ema.{name}": tensor for name, tensor in self._ema().items()}
        for step, weights in self.snapshots.items():
            named |= {f"snapshot.{step}.{name}": tensor for name, tensor in weights.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            named |= {f"adam.{number}.{name}": moment for name, moment in moments.items()}
        return {**named, "loss_sum": self.loss_sum}

    def _ema(self) -> dict[str, Tensor]:
        return self.ema.state_dict()

    def _create_moments(self) -> None:
        """Adam makes its moments at its first step: take one, for the moments' sake; all it changes is overwritten."""
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.optimiser.step()
