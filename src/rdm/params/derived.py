"""The systems that figures derive from declared ones: equal in all but residual unit, depth, or the gates' rate.

What is derived from is there, and of its kind: `check_systems` sees to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from rdm.params.evaluation import Figure6, Figure7, Rates
from rdm.params.gates import Gates, Variant
from rdm.params.schema import Baseline, DiT, FineTuned, Train

VARIANTS: tuple[Variant, ...] = get_args(Variant)  # V0 to V4 of the paper's Figure 6
ByDepth = tuple[str, int, bool, Baseline]  # name, depth, gated, system
ByRate = tuple[str, str, int, FineTuned]  # name, the gated system, factor, system


def by_unit(figure: Figure6, train: Train) -> dict[str, Baseline]:
    """The systems of Figure 6, `<base>-<variant>`: from random weights, equal in all but the residual unit."""
    base, systems = _base(figure.base, train), {}
    for variant in VARIANTS:
        changes = {"steps": max(figure.steps), "snapshots": tuple(s for s in figure.steps if s < max(figure.steps))}
        if variant != "resnet":
            alpha = 0.0 if variant == "rezero" else 1.0
            changes["gates"] = Gates(variant=variant, alpha=alpha, learning_rate=base.learning_rate, supervision=None)
        if variant == "rezero" and isinstance(base.network, DiT):
            # alpha = 0 before branches that adaLN-Zero starts at zero, too, would never learn
            changes["network"] = base.network.model_copy(update={"block_scale": 1})
        systems[f"{figure.base}-{variant}"] = base.model_copy(update=changes)
    return systems


def by_depth(figure: Figure7, train: Train) -> list[ByDepth]:
    """The systems of Figure 7, `<base>-depth<n>` and `<base>-depth<n>-gated`."""
    base, systems = _base(figure.base, train), []
    gates = Gates(learning_rate=base.learning_rate, supervision=None)
    for depth in figure.depths:
        network = base.network.model_copy(update={"depth": depth})
        plain = base.model_copy(update={"network": network, "steps": figure.steps, "snapshots": ()})
        name = f"{figure.base}-depth{depth}"
        systems.append((name, depth, False, plain))
        systems.append((f"{name}-gated", depth, True, plain.model_copy(update={"gates": gates})))
    return systems


def by_rate(figure: Rates, fine_tuned: Mapping[str, FineTuned]) -> list[ByRate]:
    """The systems of the figure `rates` whose gates are trained faster, `<gated>-rate<factor>`."""
    systems = []
    for gated in figure.systems:
        entry = fine_tuned[gated]
        assert entry.gates is not None
        for factor in figure.factors:
            gates = entry.gates.model_copy(update={"learning_rate": factor * entry.gates.learning_rate})
            systems.append((f"{gated}-rate{factor}", gated, factor, entry.model_copy(update={"gates": gates})))
    return systems


def _base(name: str, train: Train) -> Baseline:
    base = train.baselines[name]
    assert isinstance(base, Baseline)
    return base
