"""One gate: the two learnable weights of one residual unit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rdm.errors import RdmError
from rdm.params.gates import Gating


class Gate(nn.Module):
    """delta = alpha - 1 and beta of one unit, float32 of shape (channels,) or (1,).

    unit: name of the unit when it was gated, for messages.
    channel_dim: where the channels lie in the unit's output, from the end: -1 for tokens, -3 for feature maps.
    embedding: width of the timestep's embedding, if delta and beta are functions of it; else None.
    """

    beta: nn.Parameter | None

    def __init__(
        self, gating: Gating, unit: str, channels: int, channel_dim: int, embedding: int | None = None
    ) -> None:
        super().__init__()
        size = channels if gating.shape == "channel" else 1
        parts = 1 if gating.variant == "rezero" else 2
        self.gating, self.unit, self.channel_dim = gating, unit, channel_dim
        self.delta = nn.Parameter(torch.full((size,), gating.alpha - 1.0))
        self.register_parameter("beta", nn.Parameter(torch.zeros(size)) if parts == 2 else None)
        self.time: nn.Linear | None = None
        if embedding is not None:
            self.time = nn.Linear(embedding, parts * size, bias=False)
            nn.init.zeros_(self.time.weight)

    def forward(self, base: Tensor, scaled: Tensor | None = None, embedding: Tensor | None = None) -> Tensor:
        """base + delta * scaled + beta: `base` itself, bit for bit, while delta and beta are zero.

        base, scaled: of one shape; without `scaled`, alpha has been applied elsewhere and beta alone is added.
        embedding: (B, width), for a gate that depends on the timestep.
        Raises RdmError if the shapes do not fit.
        """
        self.check_shapes(base, base if scaled is None else scaled)
        delta, beta = self._values(base, embedding)
        if beta is not None:
            base = base + beta
        # delta rather than alpha is cast to the states' precision: in bfloat16, 1.003 would be 1
        return base if scaled is None else torch.addcmul(base, delta, scaled)

    def excess(self, scale: Tensor, embedding: Tensor | None = None) -> Tensor:
        """delta * scale, for a vector (B, channels) that scales the residual: no work per token."""
        return self._values(scale, embedding)[0] * scale

    def check_shapes(self, output: Any, state: Any) -> None:
        """Raise RdmError unless both are tensors of one shape, with as many channels as the gate."""
        if not isinstance(output, Tensor) or not isinstance(state, Tensor):
            raise RdmError(
                f"{self.unit} took a {type(state).__name__} and returned a {type(output).__name__}; name units that "
                "take and return one tensor."
            )
        if output.shape != state.shape or self.delta.numel() not in (1, output.shape[self.channel_dim]):
            raise RdmError(
                f"{self.unit} has a gate of {self.delta.numel()} channels, an output of shape {tuple(output.shape)} "
                f"and a state of shape {tuple(state.shape)}; name units whose output is their input plus a residual of "
                "as many channels, or gate a residual branch by itself with unit: branch."
            )

    def _values(self, state: Tensor, embedding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """delta and beta in the state's precision, shaped to be broadcast against it."""
        delta: Tensor = self.delta
        beta: Tensor | None = self.beta
        if self.time is not None:
            assert embedding is not None
            shifts = self.time(nn.functional.silu(embedding).to(self.time.weight.dtype))
            delta = self.delta + shifts[:, : self.delta.numel()]
            beta = self.beta + shifts[:, self.delta.numel() :] if self.beta is not None else None
        trailing = (1,) * (-1 - self.channel_dim)  # feature maps: height and width follow the channels
        shape: tuple[int, ...] = (self.delta.numel(), *trailing)
        if self.time is not None:
            shape = (len(delta), *(1,) * (state.ndim - 1 - len(shape)), *shape)
        return delta.view(shape).to(state.dtype), beta.view(shape).to(state.dtype) if beta is not None else None
