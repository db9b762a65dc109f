"""Attaching gates to a network, finding them again, and taking them off."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rdm.errors import RdmError, UsageError, nearest
from rdm.models.gates.gate import Gate
from rdm.models.gates.units import (
    GatedAdaLN,
    GatedBranch,
    GatedBranches,
    GatedModule,
    GatedResnet,
    GatedTransformer,
    GatedUnit,
    gated_class,
)
from rdm.params.gates import Gating

STAGES = ("down_blocks", "mid_block", "up_blocks")  # of a diffusers U-Net, in order of computation


def attach_gates(model: nn.Module, gating: Gating | None = None, units: Sequence[str] | None = None) -> nn.Module:
    """Put gates on the residual units of `model`, in place, and return it. At alpha = 1 its output stays what it was.

    gating: which gates; None for the paper's own, one alpha and beta per channel and block.
    units: names of the modules to be gated; None for a U-Net's residual blocks, else its transformer blocks. A module
        named with unit: block takes z as its first positional argument and returns z + F(z), of one shape; one named
        with unit: branch returns F(z).
    Raises UsageError for a name that does not exist, for a network without residual units, and for gates that would do
    nothing or cannot be; RdmError for a network that has gates already. Then the model is as it was.
    """
    gating, model_itself = gating or Gating(), unwrapped(model)
    if gates_of(model):
        raise RdmError(
            f"{type(model_itself).__name__} has gates already; attach them once, or call detach_gates first."
        )
    chosen = residual_units(model) if units is None else _named(model_itself, units)
    if not chosen:
        raise UsageError(
            f"{type(model_itself).__name__} has no residual blocks of diffusers; name its residual units: "
            "attach_gates(model, gating, units=[...])."
        )
    prepared = [_prepare(name, unit, gating) for name, unit in chosen.items()]
    if gating.variant != "resnet":
        for module, mixin, gates in prepared:
            for gate_name, gate in zip(mixin.GATES, gates, strict=True):
                module.add_module(gate_name, gate.to(next(module.parameters()).device).train(module.training))
            module.__class__ = gated_class(mixin, type(module))  # type: ignore[arg-type]
    return model


def detach_gates(model: nn.Module) -> nn.Module:
    """Take the gates off again, in place: modules, classes and weights are those from before `attach_gates`.

    Raises RdmError if there are none.
    """
    units = gated_units(model)
    if not units:
        raise RdmError(f"{type(model).__name__} has no gates to detach.")
    for unit in units.values():
        for gate_name in unit.GATES:
            delattr(unit, gate_name)
        unit.__class__ = type(unit).ungated  # type: ignore[assignment]
    return model


def residual_units(model: nn.Module) -> dict[str, nn.Module]:
    """The minimum residual stacking units by name: a U-Net's residual blocks, else transformer blocks (reading R3)."""
    modules = _modules(model)
    blocks = {name: module for name, module in modules.items() if isinstance(module, ResnetBlock2D)}
    return blocks or {name: module for name, module in modules.items() if isinstance(module, BasicTransformerBlock)}


def gated_units(model: nn.Module) -> dict[str, GatedModule]:
    """The modules that carry gates, by name: a unit, or the last convolution of a U-Net's residual block."""
    return {name: module for name, module in _modules(model).items() if isinstance(module, GatedModule)}


@dataclass(frozen=True)
class Place:
    """Where a gate is: its path in the network, its unit, and a name to show (`<unit>.attention` for a branch)."""

    path: str
    unit: str
    label: str
    gate: Gate


def places_of(model: nn.Module) -> list[Place]:
    """All gates of a network, in order."""
    modules, places = _modules(model), []
    part = {"residual_gate": "", "attention_gate": ".attention", "mlp_gate": ".mlp"}
    for path, gate in modules.items():
        if isinstance(gate, Gate):
            unit, _, name = path.rpartition(".")
            if gate.gating.unit == "block" and isinstance(modules[unit], GatedBranch):
                unit = unit.removesuffix(".conv2")  # the last convolution of a U-Net's residual block
            places.append(Place(path, unit, unit + part[name], gate))
    return places


def gates_of(model: nn.Module) -> dict[str, Gate]:
    """The gates by the name of their unit (of a block gated in two branches: `<unit>.attention`, `<unit>.mlp`)."""
    return {place.label: place.gate for place in places_of(model)}


def gate_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of every gate, for an optimiser's parameter group of their own."""
    return [parameter for gate in gates_of(model).values() for parameter in gate.parameters()]


def gate_table(model: nn.Module) -> list[dict[str, Any]]:
    """What the gates learnt: a row per unit with mean, standard deviation and extremes of alpha and beta over channels.

    Of gates that depend on the timestep this is the constant part; `time` is the norm of the other.
    """
    rows = []
    for name, gate in gates_of(model).items():
        row: dict[str, Any] = {"unit": name, **_summary("alpha", gate.delta.detach() + 1)}
        if gate.beta is not None:
            row |= _summary("beta", gate.beta.detach())
        if gate.time is not None:
            row["time"] = float(gate.time.weight.detach().norm())
        rows.append(row)
    return rows


def split_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict in two parts, on the CPU: the network's own weights, and the gates'."""
    model = unwrapped(model)
    everywhere = model.named_modules(remove_duplicate=False)  # a module may have two names
    prefixes = tuple(f"{path}." for path, module in everywhere if isinstance(module, Gate))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    once = tuple(f"{place.path}." for place in places_of(model))
    own = {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
    return own, {name: tensor for name, tensor in state.items() if name.startswith(once)}


def unwrapped(model: nn.Module) -> nn.Module:
    """What torch.compile or data parallelism wrapped, whose modules have their own names."""
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner: nn.Module = model.module
        return unwrapped(inner)
    return model


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """All modules by name; those of a U-Net, which may lie inside another module, in order of computation."""
    stages = {stage: number for number, stage in enumerate(STAGES)}

    def stage(name: str) -> int:
        return next((stages[part] for part in name.split(".") if part in stages), 0)

    return dict(sorted(unwrapped(model).named_modules(), key=lambda item: stage(item[0])))


def _named(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules of these names. Raises UsageError for one that does not exist, or that holds another."""
    if isinstance(names, str):
        raise UsageError(f"units is the string {names!r}; give a list of names.")
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules or not name:
            raise UsageError(f"{type(model).__name__} has no module {name!r}; {nearest(name, modules)}")
    for name in names:
        inside = [other for other in names if other.startswith(f"{name}.")]
        if inside or sum(modules[other] is modules[name] for other in names) > 1:
            what = f"{inside[0]!r} is part of it" if inside else "it is named twice"
            raise UsageError(f"{name!r} cannot be gated: {what}; name each unit once, and none inside another.")
    return {name: modules[name] for name in names}


def _prepare(name: str, unit: Any, gating: Gating) -> tuple[nn.Module, type[GatedModule], list[Gate]]:
    """The module to be changed, its new class and its gates. Refuses gates that would do nothing or do harm."""
    normalised = isinstance(unit, BasicTransformerBlock | ResnetBlock2D)
    if gating.shape == "scalar" and isinstance(unit, BasicTransformerBlock) and gating.variant in ("rdm", "skip"):
        raise UsageError(
            f"{name}: a scalar beta is a no-op in a pre-LayerNorm transformer, which removes a constant shift; "
            "set shape: channel."
        )
    if gating.shape == "scalar" and normalised and gating.variant == "adaln":
        raise UsageError(
            f"{name}: scalar gates of variant adaln are no-ops before a normalisation layer, which removes them; "
            "set shape: channel."
        )
    mixin = _branch_mixin(name, unit, gating) if gating.unit == "branch" else _block_mixin(unit, gating)
    module = unit.conv2 if mixin is GatedBranch and isinstance(unit, ResnetBlock2D) else unit
    if "forward" in vars(module) or isinstance(module, nn.ModuleList | nn.ModuleDict):
        raise RdmError(
            f"{name} is not called through its class: it is a list of modules, or a hook (of accelerate, of diffusers) "
            "has taken its place; attach gates before the hook, and to modules that are called."
        )
    if any(hasattr(module, gate_name) for gate_name in mixin.GATES):
        raise RdmError(f"{name} has an attribute {mixin.GATES[0]!r} of its own; rename that to gate it.")
    channels, place = _channels(name, module)
    if isinstance(unit, ResnetBlock2D) and gating.variant == "adaln":
        channels = unit.in_channels  # the only variant that gates what enters, before the projection
    width = None
    if gating.time == "embedded":
        width = mixin.embedding_width(unit)
        if width is None:
            raise UsageError(f"{name}: {type(unit).__name__} is given no embedding of the timestep; set time: static.")
    return module, mixin, [Gate(gating, name, channels, place, width) for _ in mixin.GATES]


def _block_mixin(unit: nn.Module, gating: Gating) -> type[GatedModule]:
    if isinstance(unit, ResnetBlock2D):
        at_the_end = gating.time == "static" and gating.variant in ("rdm", "rezero")
        return GatedBranch if at_the_end else GatedResnet
    if not isinstance(unit, BasicTransformerBlock):
        return GatedUnit
    return GatedAdaLN if _plain_adaln(unit) and gating.variant in ("rdm", "rezero") else GatedTransformer


def _plain_adaln(block: Any) -> bool:
    """Whether a block is adaLN-Zero's attention and MLP, and nothing else."""
    if block.norm_type != "ada_norm_zero" or hasattr(block, "fuser"):
        return False
    alone = block.attn2 is None and block.pos_embed is None and block._chunk_size is None
    return bool(alone and not block.only_cross_attention)


def _branch_mixin(name: str, unit: Any, gating: Gating) -> type[GatedModule]:
    if isinstance(unit, ResnetBlock2D):
        raise UsageError(f"{name}: a U-Net's residual block has one branch; set unit: block.")
    if isinstance(unit, BasicTransformerBlock):
        if not _plain_adaln(unit):
            raise UsageError(
                f"{name}: branches are known of plain adaLN-Zero blocks; name the modules that return F(z) as units."
            )
        return GatedBranches
    if gating.variant in ("adaln", "skip"):
        raise UsageError(
            f"{name}: variant {gating.variant} needs the state z, which a branch does not see; gate blocks."
        )
    return GatedBranch


def _channels(name: str, module: nn.Module) -> tuple[int, int]:
    """Number and place of the channels of a module's output: those of its last linear or convolution layer."""
    if isinstance(module, Attention) and module.residual_connection:
        raise UsageError(
            f"{name} attends to maps or tokens, so its channels have no place; gate its to_out.0 as a branch."
        )
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | _ConvNd)]
    if not layers:
        raise UsageError(f"{name} has no linear or convolution layer whose channels could be gated; name another unit.")
    last = layers[-1]
    return (last.out_features, -1) if isinstance(last, nn.Linear) else (last.out_channels, -1 - len(last.kernel_size))


def _summary(name: str, values: Tensor) -> dict[str, float]:
    numbers = values.flatten().tolist()
    extremes = {f"{name}_min": min(numbers), f"{name}_max": max(numbers)}
    return {f"{name}_mean": statistics.fmean(numbers), f"{name}_std": statistics.pstdev(numbers), **extremes}
