"""What a gated unit computes: one class for each kind of residual unit, mixed in before the unit's own class."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import CombinedTimestepLabelEmbeddings
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from rdm.errors import RdmError
from rdm.models.gates.gate import Gate


class GatedModule(nn.Module):
    """Anything with gates; they are submodules under these names."""

    GATES: ClassVar[tuple[str, ...]] = ("residual_gate",)
    mixin: ClassVar[type[GatedModule]]
    ungated: ClassVar[type[nn.Module]]  # the class that the unit had
    residual_gate: Gate

    @classmethod
    def embedding_width(cls, unit: Any) -> int | None:  # noqa: ARG003
        """Width of the timestep's embedding that `unit` is given; None if it is given none."""
        return None

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle by the two classes of which this one was made: it has no name that could be imported."""
        return _blank, (self.mixin, self.ungated), self.__dict__


@functools.cache  # one gated class per class, so that copies of a model share it
def gated_class(mixin: Any, unit_class: Any) -> Any:
    """`unit_class` with gates, as `mixin` computes them."""
    bases = (mixin, GatedSequential, unit_class) if issubclass(unit_class, nn.Sequential) else (mixin, unit_class)
    return type(f"Gated{unit_class.__name__}", bases, {"mixin": mixin, "ungated": unit_class})


def _blank(mixin: Any, unit_class: Any) -> Any:
    made = gated_class(mixin, unit_class)
    return made.__new__(made)


class GatedUnit(GatedModule):
    """A residual block: its first argument is the state z, its output z + F(z)."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The ungated block's output, gated. Raises RdmError if the state is not the first positional argument."""
        gate = self.residual_gate
        if not args:
            raise RdmError(f"{gate.unit} was called with keywords alone; pass the state as first positional argument.")
        state, args = args[0], args[1:]
        embedding = self.time_embedding(state, *args, **kwargs) if gate.time is not None else None
        if gate.gating.variant == "adaln":
            entered = gate(state, state, embedding)
            output: Tensor = super().forward(entered, *args, **kwargs)
            if not isinstance(self, ResnetBlock2D):
                gate.check_shapes(output, state)
            return output + (identity_path(self, state) - identity_path(self, entered))  # F(entered) + z
        output = super().forward(state, *args, **kwargs)
        return leave(gate, identity_path(self, state), output, embedding)

    def time_embedding(self, state: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The embedding (B, width) of the timestep, from the arguments of `forward`."""
        raise NotImplementedError  # attach_gates refuses gates that depend on it


def leave(gate: Gate, identity: Tensor, output: Tensor, embedding: Tensor | None) -> Tensor:
    """Gate a unit's output z + F(z), where `identity` is z."""
    gate.check_shapes(output, identity)
    if gate.gating.variant == "skip":
        gated: Tensor = gate(output, identity, embedding)  # alpha * z + F(z) + beta
    else:
        gated = gate(output, output - identity, embedding)  # z + alpha * F(z) + beta
    return gated


def identity_path(unit: Any, state: Tensor) -> Tensor:
    """What a unit adds its residual to: its input. A U-Net's residual block resamples, projects and scales it."""
    if not isinstance(unit, ResnetBlock2D):
        return state
    if unit.upsample is not None:
        state = unit.upsample(state)
    elif unit.downsample is not None:
        state = unit.downsample(state)
    if unit.conv_shortcut is not None:
        state = unit.conv_shortcut(state)
    return state if unit.output_scale_factor == 1 else state / unit.output_scale_factor


class GatedResnet(GatedUnit):
    """A U-Net's residual block whose gates need its input or its embedding; else its last convolution is gated."""

    def time_embedding(self, state: Tensor, temb: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ARG002
        """The embedding that the block is given: of the timestep, and of the label where the network adds it."""
        return temb

    @classmethod
    def embedding_width(cls, unit: Any) -> int | None:
        """Inputs of the block's own projection of the embedding."""
        return unit.time_emb_proj.in_features if unit.time_emb_proj is not None else None


class GatedTransformer(GatedUnit, BasicTransformerBlock):
    """A transformer block, attention and MLP together."""

    norm1: Any
    norm3: nn.LayerNorm
    attn1: nn.Module
    ff: nn.Module

    def time_embedding(
        self,
        state: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002
        encoder_hidden_states: Tensor | None = None,  # noqa: ARG002
        encoder_attention_mask: Tensor | None = None,  # noqa: ARG002
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,  # noqa: ARG002
        class_labels: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,  # noqa: ARG002
    ) -> Tensor:
        """The embedding of the timestep alone where the block makes it, since that of the label is random in training.

        Where the network hands its blocks one embedding of both (our DiT), it is that.
        """
        embedder = self.norm1.emb
        if isinstance(embedder, CombinedTimestepLabelEmbeddings):
            return embedder.timestep_embedder(embedder.time_proj(timestep).to(state.dtype))  # type: ignore[no-any-return]
        return embedder(timestep, class_labels, hidden_dtype=state.dtype)  # type: ignore[no-any-return]

    @classmethod
    def embedding_width(cls, unit: Any) -> int | None:
        """Inputs of adaLN's projection of the embedding."""
        return unit.norm1.linear.in_features if unit.norm_type == "ada_norm_zero" else None


class GatedAdaLN(GatedTransformer):
    """A plain adaLN-Zero block, gated as a whole with an alpha in front of F(z).

    F(z) is the sum of both branches. Scaling each by itself needs no difference y - z, which a compiler would have to
    keep for the backward pass.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,  # noqa: ARG002
        encoder_attention_mask: Tensor | None = None,  # noqa: ARG002
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,  # noqa: ARG002
    ) -> Tensor:
        """BasicTransformerBlock.forward for `ada_norm_zero`; delta and beta enter at its end."""
        gate, state, embedding = self.residual_gate, hidden_states, None
        if gate.time is not None:
            embedding = self.time_embedding(state, timestep=timestep, class_labels=class_labels)
        normed, scale, mlp_shift, mlp_stretch, mlp_scale = self.norm1(
            state, timestep, class_labels, hidden_dtype=state.dtype
        )
        attended = self.attn1(normed, attention_mask=attention_mask, **(cross_attention_kwargs or {}))
        middle = scale.unsqueeze(1) * attended + state
        normed = self.norm3(middle) * (1 + mlp_stretch[:, None]) + mlp_shift[:, None]
        output = (mlp_scale + gate.excess(mlp_scale, embedding)).unsqueeze(1) * self.ff(normed) + middle
        return gate(output + gate.excess(scale, embedding).unsqueeze(1) * attended, None, embedding)  # type: ignore[no-any-return]


class GatedBranches(GatedTransformer):
    """An adaLN-Zero block whose attention and MLP are gated apart."""

    GATES = ("attention_gate", "mlp_gate")
    attention_gate: Gate
    mlp_gate: Gate

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,  # noqa: ARG002
        encoder_attention_mask: Tensor | None = None,  # noqa: ARG002
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,  # noqa: ARG002
    ) -> Tensor:
        """BasicTransformerBlock.forward for `ada_norm_zero`, with a gate after each branch (adaln: before it)."""
        state, embedding = hidden_states, None
        if self.attention_gate.time is not None:
            embedding = self.time_embedding(state, timestep=timestep, class_labels=class_labels)
        entered = _enter(self.attention_gate, state, embedding)
        normed, scale, mlp_shift, mlp_stretch, mlp_scale = self.norm1(
            entered, timestep, class_labels, hidden_dtype=state.dtype
        )
        attended = self.attn1(normed, attention_mask=attention_mask, **(cross_attention_kwargs or {}))
        state = _add(self.attention_gate, state, scale, attended, embedding)
        entered = _enter(self.mlp_gate, state, embedding)
        normed = self.norm3(entered) * (1 + mlp_stretch[:, None]) + mlp_shift[:, None]
        return _add(self.mlp_gate, state, mlp_scale, self.ff(normed), embedding)


def _enter(gate: Gate, state: Tensor, embedding: Tensor | None) -> Tensor:
    """What a branch reads: the state, or (adaln) alpha * z + beta."""
    return gate(state, state, embedding) if gate.gating.variant == "adaln" else state


def _add(gate: Gate, state: Tensor, scale: Tensor, branch: Tensor, embedding: Tensor | None) -> Tensor:
    """z + scale * branch as adaLN-Zero has it, gated."""
    if gate.gating.variant in ("rdm", "rezero"):
        output = (scale + gate.excess(scale, embedding)).unsqueeze(1) * branch + state
        return gate(output, None, embedding)  # type: ignore[no-any-return]
    output = scale.unsqueeze(1) * branch + state
    return output if gate.gating.variant == "adaln" else leave(gate, state, output, embedding)


class GatedBranch(GatedModule):
    """A residual branch by itself: its output is F(z), and the caller adds z.

    So are the last convolutions of a U-Net's residual blocks gated: F(z) is at hand there, before z is added. A block
    that divides its output by a scale divides alpha * F(z) + beta, too.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """alpha * F(z) + beta."""
        output: Tensor = super().forward(*args, **kwargs)
        gated: Tensor = self.residual_gate(output, output)
        return gated


class GatedSequential(nn.Module):
    """Mixed in before nn.Sequential, whose forward would take a gate for one more step."""

    def __iter__(self) -> Iterator[nn.Module | None]:
        """The steps, without the gate."""
        return (module for module in self._modules.values() if not isinstance(module, Gate))
